//! `wikigpt serve`.

mod answers;
mod client;
mod cuda;
mod guard;
mod hostile;
mod labels;
mod limits;
