//! Prompts and what a model writes after them: learning it, writing it, and how good it is.
//!
//! Several short examples stand in a row of a batch, each as if it were alone there; only completions are learned.

mod examples;
mod marked;
mod rows;
mod run;
mod task;
mod writing;

pub use examples::{ExampleFlags, Files, KeepName, Part, Texts, split_of};
pub use run::Stored;
pub use task::{Completion, Learn, Metric, Parts, Prompts};
pub use writing::{Report, Writer, line};
