//! The learning rate over a run.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the learning rate goes on after the warmup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine down to min-lr at step N.
    Cosine,
    /// A line down to min-lr at step N.
    Linear,
    /// Warmup, stable, decay: lr, then over the last fifth of all steps a line down to min-lr at step N.
    Wsd,
    /// lr.
    Constant,
}

impl Decay {
    /// All of them.
    pub const ALL: [Decay; 4] = [Decay::Cosine, Decay::Linear, Decay::Wsd, Decay::Constant];

    fn name(self) -> &'static str {
        match self {
            Decay::Cosine => "cosine",
            Decay::Linear => "linear",
            Decay::Wsd => "wsd",
            Decay::Constant => "constant",
        }
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Decay {
    type Err = Error;

    fn from_str(name: &str) -> Result<Decay> {
        Decay::ALL.into_iter().find(|decay| decay.name() == name).ok_or_else(|| {
            let names = Decay::ALL.map(Decay::name).join(", ");
            Error::Config(format!("there is no schedule '{name}': choose one of {names}"))
        })
    }
}

/// The learning rate of every step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What comes after the warmup.
    pub decay: Decay,
    /// The highest learning rate.
    pub lr: f64,
    /// What the learning rate comes down to.
    pub min_lr: f64,
    /// W: steps over which the learning rate rises.
    pub warmup: u64,
    /// N: steps of the run.
    pub steps: u64,
}

impl Schedule {
    /// The learning rate of step i, from 0: lr·(i + 1)/W for i < W, then as [`Decay`] says; from step N on the last.
    pub fn at(&self, i: u64) -> f64 {
        let Schedule { decay, lr, min_lr, warmup, steps } = *self;
        if i < warmup {
            return lr * (i + 1) as f64 / warmup as f64;
        }
        // How much of the way from `start` to N lies ahead: from 1 down to 0.
        let ahead = |start: f64| match (steps as f64 - i as f64, steps as f64 - start) {
            (left, _) if left <= 0.0 => 0.0,
            (left, all) => (left / all).min(1.0),
        };
        let share = match decay {
            Decay::Constant => return lr,
            Decay::Linear => ahead(warmup as f64),
            Decay::Cosine => (1.0 + (PI * (1.0 - ahead(warmup as f64))).cos()) / 2.0,
            Decay::Wsd => ahead((0.8 * steps as f64).max(warmup as f64)),
        };
        min_lr + (lr - min_lr) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> Schedule {
        Schedule { decay, lr: 1e-3, min_lr: 1e-4, warmup: 10, steps: 60 }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-15, "{a} is not {b}");
    }

    #[test]
    fn every_schedule_warms_up_alike() {
        for decay in Decay::ALL {
            for i in 0..10 {
                close(schedule(decay).at(i), 1e-3 * (i + 1) as f64 / 10.0);
            }
            close(schedule(decay).at(10), 1e-3);
        }
    }

    #[test]
    fn cosine() {
        let schedule = schedule(Decay::Cosine);
        close(schedule.at(35), (1e-3 + 1e-4) / 2.0);
        // lr of steps 11 and 12 of the reference run.
        close(schedule.at(11), 0.000_999_112_027_792_722_3);
        close(schedule.at(12), 0.000_996_451_615_591_515);
        assert!(schedule.at(59) > 1e-4);
        close(schedule.at(60), 1e-4);
        close(schedule.at(1000), 1e-4);
    }

    #[test]
    fn linear() {
        let schedule = schedule(Decay::Linear);
        close(schedule.at(35), (1e-3 + 1e-4) / 2.0);
        close(schedule.at(59), 1e-4 + 9e-4 / 50.0);
        close(schedule.at(60), 1e-4);
    }

    #[test]
    fn wsd() {
        let schedule = schedule(Decay::Wsd);
        close(schedule.at(47), 1e-3);
        close(schedule.at(48), 1e-3);
        close(schedule.at(54), (1e-3 + 1e-4) / 2.0);
        close(schedule.at(59), 1e-4 + 9e-4 / 12.0);
        close(schedule.at(60), 1e-4);
        // The tail waits for the warmup.
        let late = Schedule { warmup: 55, ..schedule };
        close(late.at(54), 1e-3);
        close(late.at(55), 1e-3);
        close(late.at(56), 1e-4 + 9e-4 * 4.0 / 5.0);
    }

    #[test]
    fn constant() {
        close(schedule(Decay::Constant).at(59), 1e-3);
        close(schedule(Decay::Constant).at(600), 1e-3);
    }

    #[test]
    fn a_run_without_warmup_or_no_longer_than_it_stays_finite() {
        for decay in Decay::ALL {
            close(Schedule { warmup: 0, ..schedule(decay) }.at(0), 1e-3);
            let short = Schedule { warmup: 60, ..schedule(decay) };
            close(short.at(59), 1e-3);
            assert!(short.at(60).is_finite());
            assert!(Schedule { warmup: 0, steps: 0, ..schedule(decay) }.at(0).is_finite());
        }
    }

    #[test]
    fn names() {
        for decay in Decay::ALL {
            assert_eq!(decay.to_string().parse::<Decay>().unwrap(), decay);
        }
        let error = "step".parse::<Decay>().unwrap_err().to_string();
        assert_eq!(error, "there is no schedule 'step': choose one of cosine, linear, wsd, constant");
    }
}
