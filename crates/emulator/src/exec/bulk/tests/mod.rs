//! The family driven instruction by instruction, on a cluster made by hand: a test decides when operations complete.

mod copies;
mod misuse;
mod reductions;
mod rig;
mod syntax;
mod tensors;
