//! The binary `wikigpt` as a user runs it.

mod adapters;
mod bad_input;
mod classify;
mod classify_cuda;
mod commands;
mod common;
mod completion;
mod cuda;
mod evaluation;
mod faults;
mod finetune_resume;
mod generate;
mod parity;
mod resume;
mod scores;
mod serve;
