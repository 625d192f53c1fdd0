//! What training starts from.

use anyhow::Result;
use serde::de::DeserializeOwned;
use wikigpt_gpt::files::{Checkpoint, Checkpoints};
use wikigpt_gpt::{Config, Trainer};
use wikigpt_ops::Ops;

use crate::output;
use crate::run_folder::RunFolder;

/// What training starts from; `S` says how far a run has come.
pub enum Origin<S> {
    /// A model's parameters.
    Model(Config, Vec<f32>),
    /// A run that goes on.
    Run(Box<Checkpoint>, S),
}

impl<S> Origin<S> {
    /// The newest checkpoint of a run that is whole; nothing if it has none yet, and begins again. A person is told what is wrong.
    pub fn newest(run: &RunFolder) -> Result<Option<Self>>
    where
        S: DeserializeOwned,
    {
        let Some(newest) = Checkpoints::of(run.path()).newest_good()? else {
            output::warn("the run has no checkpoint yet: it begins again");
            return Ok(None);
        };
        newest.warnings.iter().for_each(|warning| output::warn(warning));
        let state = newest.checkpoint.state()?;
        Ok(Some(Origin::Run(Box::new(newest.checkpoint), state)))
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        match self {
            Origin::Model(config, _) => config,
            Origin::Run(checkpoint, _) => checkpoint.config(),
        }
    }

    /// How far the run has come, if it goes on.
    pub fn state(&self) -> Option<&S> {
        match self {
            Origin::Model(..) => None,
            Origin::Run(_, state) => Some(state),
        }
    }

    /// Puts it into a model; how far it has come. Copies in host memory end here.
    pub fn put<O: Ops>(self, trainer: &mut Trainer<O>) -> Result<Option<S>> {
        match self {
            Origin::Model(_, params) => {
                trainer.set_params(&params)?;
                Ok(None)
            }
            Origin::Run(checkpoint, state) => {
                checkpoint.read(|array, start, values| trainer.write(array, start, values))?;
                Ok(Some(state))
            }
        }
    }
}
