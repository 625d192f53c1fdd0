//! Whole kernels of bulk copies, from PTX text, with all checks on.

mod faults;
mod pipelines;
mod rig;
mod texts;
