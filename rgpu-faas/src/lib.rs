pub mod fdl;
pub mod function;
pub mod retry;
pub mod state;
pub mod time;
pub mod units;
