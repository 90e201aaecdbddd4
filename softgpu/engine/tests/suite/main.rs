//! The directed suite: PTX programs and what they must compute, as one test program.

mod approximations;
mod asynchronous;
mod atomics;
mod common;
mod coverage;
mod faults;
mod floats;
mod flow;
mod formats;
mod forms;
mod halves;
mod integers;
mod matrix;
mod mutated;
mod names;
mod programs;
mod rounding;
mod small_formats;
mod smoke;
mod strips;
mod textures;
mod uncommon;
mod video;
mod widths;
