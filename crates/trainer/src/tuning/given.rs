//! Which flags somebody typed.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;
use toml::Table;

/// Flags, and which of them were typed: the others have their defaults. A run that goes on has its own values for those.
pub struct Given<A> {
    /// All flags.
    pub flags: A,
    /// The names of those that were typed, without their dashes.
    typed: BTreeSet<String>,
}

impl<A: Serialize> Given<A> {
    /// The values that were typed, by their names.
    pub fn typed(&self) -> Result<Table> {
        let all = Table::try_from(&self.flags)?;
        Ok(all.into_iter().filter(|(key, _)| self.typed.contains(key)).collect())
    }
}

impl<A: FromArgMatches> FromArgMatches for Given<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Given { flags: A::from_arg_matches(matches)?, typed: typed(matches) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.typed.extend(typed(matches));
        self.flags.update_from_arg_matches(matches)
    }
}

impl<A: Args> Args for Given<A> {
    fn group_id() -> Option<clap::Id> {
        A::group_id()
    }

    fn augment_args(command: Command) -> Command {
        A::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        A::augment_args_for_update(command)
    }
}

fn typed(matches: &ArgMatches) -> BTreeSet<String> {
    let is_typed = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches.ids().filter(is_typed).map(|id| id.as_str().replace('_', "-")).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Args, Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Flags {
        #[arg(long, default_value_t = 3)]
        log_every: u64,
        #[arg(long, default_value_t = 5)]
        epochs: u64,
        #[arg(long)]
        fast: bool,
        #[arg(long)]
        lr: Option<f64>,
    }

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        given: Given<Flags>,
    }

    #[test]
    fn defaults_are_not_typed() {
        let typed = |line: &str| {
            let given = Line::try_parse_from(line.split(' ')).unwrap().given;
            assert_eq!(given.flags.log_every, 3);
            given.typed().unwrap().to_string()
        };
        assert_eq!(typed("x"), "");
        assert_eq!(typed("x --epochs 5"), "epochs = 5\n");
        assert_eq!(typed("x --log-every 3 --fast --lr 0.5"), "fast = true\nlog-every = 3\nlr = 0.5\n");
    }
}
