//! The one who labels, where the model is a classifier.

use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wikigpt_gpt::{Error, Evaluator};
use wikigpt_ops::Ops;

use super::problem::Problem;
use crate::classify::{Prediction, predict};
use crate::fault::sentence;
use crate::output;

/// Texts that a request has labelled.
pub struct Texts {
    /// Their tokens: one each at least.
    pub tokens: Vec<Vec<u32>>,
    /// When it is too late.
    pub deadline: Instant,
    /// Where the labels go; nobody may be there any more.
    pub answer: oneshot::Sender<Result<Vec<Prediction>, Problem>>,
    /// Its place among those that run and wait: given back when this is dropped.
    pub place: Option<OwnedSemaphorePermit>,
}

/// Labels what is asked for, B texts at once, until nobody is left to ask.
///
/// # Errors
/// When the device fails and does not recover.
pub fn run<O: Ops>(mut evaluator: Evaluator<O>, B: usize, asked: &Receiver<Texts>) -> Result<()> {
    for Texts { tokens, deadline, answer, place: _place } in asked {
        let stop = || answer.is_closed() || Instant::now() >= deadline;
        match predict(&mut evaluator, &tokens, B, stop) {
            Ok(Some(predictions)) => {
                let _ = answer.send(Ok(predictions));
            }
            // If nobody is there any more, nobody hears it.
            Ok(None) => {
                let _ = answer.send(Err(super::engine::too_late()));
            }
            Err(error) => {
                let device = matches!(error.downcast_ref(), Some(Error::Ops(_)));
                let told = sentence(&error);
                let _ = answer.send(Err(Problem::failed(told.clone())));
                if device {
                    output::warn(&told);
                    predict(&mut evaluator, &[[0]], B, || false)
                        .context("the device failed and does not recover: the server ends")?;
                }
            }
        }
    }
    Ok(())
}
