//! The driver as a program sees it, through its C functions.

mod arrays;
mod batches;
mod capture;
mod common;
mod coredumps;
mod devices;
mod faults;
mod graph_nodes;
mod graphs;
mod ipc;
mod kernels;
mod libraries;
mod library;
mod linking;
mod managed;
mod memops;
mod memory;
mod modules;
mod pools;
mod processes;
mod references;
mod streams;
mod textures;
