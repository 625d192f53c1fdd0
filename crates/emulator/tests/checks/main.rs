//! Kernels with a planted fault, each beside its corrected twin, which must pass in silence.

mod asynchronous;
mod between_blocks;
mod clusters;
mod going_on;
mod in_a_block;
mod rig;
