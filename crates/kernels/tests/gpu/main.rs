//! The backend on the emulator, with all its checks on; or on a card, with `WIKIGPT_TEST_DEVICE=cuda` in the environment.
#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod compile;
mod conformance;
mod outputs;
mod rig;
mod training;
