//! Classification: texts as tokens, what a model says of them, and how good that is.
//!
//! A classifier is a GPT whose head has a row a label; what the head makes of a text's last token decides. Texts shorter than
//! their batch are padded at the end, which no position before sees.

mod confusion;
mod predict;
mod task;
mod texts;

pub use confusion::Confusion;
pub use predict::{Prediction, predict};
pub use task::{Classification, Metric};
pub use texts::{ClassWeights, Set, Texts};
