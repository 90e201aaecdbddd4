//! PTX text to a typed module, and the containers in which PTX arrives.
//!
//! Knows nothing of execution. Input is hostile: every count, size and depth is bounded, and what is wrong is said with
//! line and column.

mod body;
pub mod fatbin;
pub mod ir;
mod lexer;
pub mod link;
mod parser;

pub use ir::*;

/// What is wrong with a PTX text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

/// Read a PTX text.
pub fn parse(text: &str) -> Result<Module, ParseError> {
    parser::parse(text)
}
