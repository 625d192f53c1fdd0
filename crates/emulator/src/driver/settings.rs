//! What the environment says.

use std::path::PathBuf;

use super::entry::say;
use super::{Code, Result};
use crate::check;
use crate::device::Device;
use crate::exec::grid;

/// Everything that the environment decides.
#[derive(Debug)]
pub(super) struct Settings {
    /// The device that is played.
    pub device: &'static Device,
    /// How launches are run.
    pub run: grid::Options,
    /// Where launches are counted.
    pub counters: Option<PathBuf>,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// Where it says what is not known.
    pub(super) fn read() -> Result<Settings> {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        Settings::parse(&text).map_err(|why| {
            say(why);
            Code::NO_DEVICE
        })
    }

    fn parse(text: &dyn Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let architecture = text("WIKIGPT_EMU_ARCH").unwrap_or_else(|| "sm_90a".to_owned());
        let device = Device::of(&architecture)
            .ok_or_else(|| format!("WIKIGPT_EMU_ARCH is {architecture}, expected sm_80, sm_86 or sm_90a"))?;
        let threads = match text("WIKIGPT_EMU_THREADS") {
            None => std::thread::available_parallelism().map_or(1, usize::from),
            Some(text) => match text.parse() {
                Ok(threads @ 1..) => threads,
                _ => return Err(format!("WIKIGPT_EMU_THREADS is {text}, expected a number from 1 on")),
            },
        };
        let check = checks(text("WIKIGPT_EMU_CHECK").as_deref().unwrap_or("all"))?;
        let run = grid::Options { threads, check, patience: grid::Options::PATIENCE };
        Ok(Settings { device, run, counters: text("WIKIGPT_EMU_COUNTERS").map(PathBuf::from) })
    }
}

/// What is to be checked: `all`, `none`, or a list; with `report`, the kernel goes on after what is found.
fn checks(text: &str) -> Result<check::Options, String> {
    let mut options = check::Options::NONE;
    for name in text.split(',').map(str::trim) {
        match name {
            "all" => options = check::Options { report: options.report, ..check::Options::ALL },
            "none" => {}
            "races" => options.races = true,
            "proxy" => options.proxy = true,
            "uninitialized" => options.uninitialized = true,
            "report" => options.report = true,
            _ => {
                return Err(format!(
                    "WIKIGPT_EMU_CHECK has {name}, expected all, none, races, proxy, uninitialized or report"
                ));
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests;
