//! The emulator as a program meets it: through the driver's C interface, loaded from the library.

mod api;
mod capture;
mod context;
mod copies;
mod device;
mod faults;
mod graphs;
mod harness;
mod kernels;
mod launches;
mod lookup;
mod memory;
mod modules;
mod occupancy;
mod streams;
