//! Model files, as another program would write them, as a kill would leave them, and full of garbage.

#![allow(non_snake_case)] // dimensions keep the field's upper-case names

mod adapters;
mod checkpoints;
mod classifier;
mod disk;
mod foreign;
mod hostile;
mod huggingface;
