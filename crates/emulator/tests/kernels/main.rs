//! Kernels from their text to what they leave in memory: how control flows, how threads meet, what a launch is.

mod barriers;
mod calls;
mod clusters;
mod control;
mod floors;
mod memory;
mod moves;
mod printing;
mod random;
mod refusals;
mod rig;
mod scheduling;
mod shuffles;
mod tensor;
