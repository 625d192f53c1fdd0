//! A libcuda that runs PTX on the CPU, checks what it does and counts it.

pub mod check;
pub mod counters;
pub mod device;
pub mod driver;
pub mod exec;
pub mod fault;
pub mod memory;
pub mod num;
pub mod program;
pub mod ptx;
pub mod tensormap;
