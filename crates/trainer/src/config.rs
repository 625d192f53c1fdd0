//! Settings from a TOML file and from flags; flags win.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use toml::Table;

use crate::fault::{BadInput, bad_input};
use crate::flags::Flags;
use crate::folder;

/// Ways to say the same thing: a flag takes the place of the others of its row in the file.
const ALTERNATIVES: [&[&str]; 2] = [&["grad-accum", "tokens-per-step"], &["steps", "epochs"]];

/// What a preset stands for.
const SHAPE: [&str; 3] = ["n-layer", "n-head", "n-embd"];

/// The file in a run's folder that has its settings.
pub const FILE: &str = "config.toml";

/// The key under which a run's file has its data's digests, beside the flags.
pub const DIGESTS: &str = "data-sha256";

/// SHA-256 of a run's data, by the names of its parts.
pub type Digests = BTreeMap<String, String>;

/// Reads a TOML file and lays `flags` over it; gives the digests of the data that the file was written for, too.
pub fn read(path: &Path, flags: &Flags) -> Result<(Flags, Digests)> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parsed = match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text),
        Err(error) => Err(format!("not UTF-8 from byte {} on", error.valid_up_to())),
    };
    let (table, digests) =
        parsed.map_err(|sentence| BadInput::new(format!("{}: {sentence}", path.display())))?;
    Ok((overlay(table, flags), digests))
}

/// Writes settings so that [`read`] gives them back.
pub fn write(path: &Path, flags: &Flags, digests: &Digests) -> Result<()> {
    let head = format!(
        "# Settings of this run; `wikigpt train --config` with this file repeats it.\n# Written by wikigpt {}.\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut table = Table::try_from(flags).context("cannot write the settings as TOML")?;
    if !digests.is_empty() {
        table.insert(DIGESTS.to_owned(), Table::try_from(digests)?.into());
    }
    folder::write_file(path, format!("{head}{table}").as_bytes())
}

/// Checks a file's keys and values.
fn parse(text: &str) -> Result<(Table, Digests), String> {
    let line_of = |offset: usize| text[..offset].matches('\n').count() + 1;
    let describe = |error: toml::de::Error| match error.span() {
        Some(span) => format!("line {}: {}", line_of(span.start), error.message()),
        None => error.message().to_owned(),
    };
    let written: Table = toml::from_str(text).map_err(describe)?;
    let known = keys();
    let mut table = Table::new();
    let mut digests = Digests::new();
    for (key, value) in written {
        if key == DIGESTS {
            digests =
                value.try_into().map_err(|error: toml::de::Error| format!("{key}: {}", error.message()))?;
            continue;
        }
        let name = key.replace('_', "-");
        if !known.contains(&name) {
            return Err(format!(
                "unknown key `{key}`; a key is a flag of `wikigpt train` without its dashes{}",
                closest(&name, &known).map(|k| format!(", perhaps `{k}`")).unwrap_or_default()
            ));
        }
        // One key at a time, so that a wrong type names its key.
        let single = Table::from_iter([(name.clone(), value.clone())]);
        Flags::deserialize(single).map_err(|error| format!("{key} = {value}: {}", error.message()))?;
        table.insert(name, value);
    }
    for group in ALTERNATIVES {
        if group.iter().all(|key| table.contains_key(*key)) {
            return Err(format!("`{}` and `{}` say the same thing: keep one", group[0], group[1]));
        }
    }
    if let Some(key) = SHAPE.iter().find(|key| table.contains_key("preset") && table.contains_key(**key)) {
        return Err(format!("`preset` and `{key}` say the same thing: keep one"));
    }
    Ok((table, digests))
}

/// Lays flags over a file's settings.
fn overlay(mut table: Table, flags: &Flags) -> Flags {
    let flags = Table::try_from(flags).expect("flags are a TOML table");
    for group in ALTERNATIVES {
        if group.iter().any(|key| flags.contains_key(*key)) {
            group.iter().for_each(|key| _ = table.remove(*key));
        }
    }
    if flags.contains_key("preset") {
        SHAPE.iter().for_each(|key| _ = table.remove(*key));
    }
    table.extend(flags);
    Flags::deserialize(table).expect("each key was checked")
}

/// The keys of a TOML file: the names of the flags.
fn keys() -> Vec<String> {
    let command = Flags::augment_args(clap::Command::new("train"));
    command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect()
}

/// The known key that a mistyped one most resembles, if any does.
fn closest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let distance = |key: &&String| edits(name, key);
    known.iter().min_by_key(distance).filter(|key| distance(key) <= 3)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Refuses data that is not what the digests in a file are of.
pub fn check_digests(found: &Digests, expected: &Digests, file: &Path) -> Result<()> {
    for (part, expected) in expected {
        let found = found.get(part).map_or("no such part", String::as_str);
        if found != expected {
            bad_input!(
                "{}: it was written for other data (SHA-256 of what it calls {part} {expected}, here {found})",
                file.display()
            );
        }
    }
    Ok(())
}

/// Refuses to go on with a run under settings that would make it another run.
pub fn check_resumed(stored: &Flags, flags: &Flags) -> Result<()> {
    const FIXED: [&str; 14] = [
        "out",
        "preset",
        "n-layer",
        "n-head",
        "n-embd",
        "context",
        "bias",
        "tied",
        "init",
        "batch",
        "seed",
        "order",
        "grad-accum",
        "tokens-per-step",
    ];
    check_fixed(&Table::try_from(stored)?, &Table::try_from(flags)?, |key| FIXED.contains(&key))
}

/// Refuses other values of the keys that `is_fixed`.
pub fn check_fixed(stored: &Table, given: &Table, is_fixed: impl Fn(&str) -> bool) -> Result<()> {
    for (key, new) in given.iter().filter(|(key, _)| is_fixed(key)) {
        match stored.get(key) {
            Some(old) if new != old => {
                bad_input!("--{key} {new} does not go with --resume: the run was begun with {old}")
            }
            None => bad_input!("--{key} {new} does not go with --resume: leave it out"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::flags::ScheduleName;

    #[test]
    fn flags_win_and_alternatives_replace_each_other() {
        let (file, _) = parse("n-layer = 3\nsteps = 5\ngrad_accum = 2\nlr = 1\nschedule = \"wsd\"").unwrap();
        let flags = Flags { epochs: Some(1.0), n_layer: Some(4), ..Flags::default() };
        let merged = overlay(file.clone(), &flags);
        assert_eq!((merged.n_layer, merged.steps, merged.epochs), (Some(4), None, Some(1.0)));
        assert_eq!(
            (merged.grad_accum, merged.lr, merged.schedule),
            (Some(2), Some(1.0), Some(ScheduleName::Wsd))
        );
        let flags = Flags { preset: Some("gpt2".into()), ..Flags::default() };
        assert_eq!(overlay(file, &flags).n_layer, None);
    }

    #[test]
    fn mistakes_in_a_file_are_named() {
        let sentence = |text| parse(text).unwrap_err();
        assert!(sentence("n-layr = 3").contains("unknown key `n-layr`"));
        assert!(sentence("n-layr = 3").contains("perhaps `n-layer`"));
        assert!(sentence("lr = \"fast\"").starts_with("lr = \"fast\": "));
        assert!(sentence("data-sha256 = 3").starts_with("data-sha256: "));
        assert!(sentence("schedule = \"cosin\"").contains("schedule"));
        assert!(sentence("steps = 1\nlr = = 2").starts_with("line 2: "));
        assert!(sentence("steps = 1\nepochs = 2").contains("`steps` and `epochs`"));
        assert!(sentence("preset = \"gpt2\"\nn-head = 2").contains("`preset` and `n-head`"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let flags = Flags {
            data: Some(PathBuf::from("a b/ü")),
            seed: Some(i64::MAX as u64),
            lr: Some(1e-3),
            dropout: Some(0.0),
            tied: Some(true),
            schedule: Some(ScheduleName::Linear),
            ..Flags::default()
        };
        let digests = Digests::from([("train".into(), "ab".into()), ("valid".into(), "cd".into())]);
        write(&path, &flags, &digests).unwrap();
        assert_eq!(read(&path, &Flags::default()).unwrap(), (flags, digests));
    }

    #[test]
    fn a_flag_that_is_not_given_says_nothing() {
        assert_eq!(Table::try_from(Flags::default()).unwrap(), Table::new());
    }

    #[test]
    fn a_resumed_run_keeps_its_shape() {
        let stored = Flags { n_layer: Some(2), steps: Some(10), ..Flags::default() };
        assert!(
            check_resumed(&stored, &Flags { n_layer: Some(2), steps: Some(20), ..Flags::default() }).is_ok()
        );
        let error = check_resumed(&stored, &Flags { n_layer: Some(3), ..Flags::default() }).unwrap_err();
        assert!(error.to_string().contains("--n-layer 3"));
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "\\PC{0,200}|([a-z-]{1,12} = [-0-9a-z.\"\\[{]{0,9}\n){0,9}") {
            if let Ok((table, _)) = parse(&text) {
                overlay(table, &Flags::default());
            }
        }
    }
}
