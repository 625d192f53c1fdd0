//! `wikigpt serve`.

mod answers;
mod client;
mod hostile;
mod labels;
mod limits;
