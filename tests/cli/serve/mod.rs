//! `wikigpt serve`.

mod answers;
mod client;
mod cuda;
mod hostile;
mod labels;
mod limits;
