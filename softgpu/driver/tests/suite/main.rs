//! The driver as a program sees it, through its C functions.

mod capture;
mod common;
mod devices;
mod faults;
mod graph_nodes;
mod graphs;
mod kernels;
mod libraries;
mod library;
mod linking;
mod managed;
mod memory;
mod modules;
mod pools;
mod processes;
mod streams;
