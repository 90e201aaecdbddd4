//! The lockstep interpreter.

use std::sync::Arc;

use softgpu_ptx::Module;

use crate::{CompileError, Engine, Program};

pub struct Interpreter;

impl Engine for Interpreter {
    fn compile(&self, _module: &Module) -> Result<Arc<dyn Program>, CompileError> {
        Err(CompileError {
            function: "module".into(),
            line: 1,
            message: "the interpreter is not there yet".into(),
        })
    }
}
