//! The emulator as a program meets it: through the driver's C interface, loaded from the library.

mod api;
mod context;
mod copies;
mod device;
mod harness;
mod launches;
mod lookup;
mod memory;
mod modules;
mod occupancy;
mod streams;
