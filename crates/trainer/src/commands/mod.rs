//! One file per command; training has a folder of its own.

pub mod classify;
pub mod complete;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod finetune;
pub mod generate;
pub mod import;
pub mod inspect;
pub mod plan;
pub mod prepare;
pub mod score;
pub mod serve;
