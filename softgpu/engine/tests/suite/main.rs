//! The directed suite: PTX programs and what they must compute, as one test program.

mod common;
mod faults;
mod floats;
mod flow;
mod integers;
mod matrix;
mod smoke;
