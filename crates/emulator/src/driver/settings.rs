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
    /// The newest CUDA that the driver knows, as major and minor version.
    pub version: (u32, u32),
    /// The launch that is to fail.
    pub fail: Option<Failing>,
    /// How launches are run.
    pub run: grid::Options,
    /// Where launches are counted.
    pub counters: Option<PathBuf>,
}

/// A launch that fails whatever it does: what a program does of a device's failure can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    /// The kernel.
    pub kernel: String,
    /// Which of its launches, from 1 on.
    pub launch: u64,
}

/// What the driver is where nothing is said.
const VERSION: (u32, u32) = (13, 0);

/// Versions of CUDA and the newest PTX that each takes.
const PTX: [((u32, u32), (u32, u32)); 12] = [
    ((11, 8), (7, 8)),
    ((12, 0), (8, 0)),
    ((12, 1), (8, 1)),
    ((12, 2), (8, 2)),
    ((12, 3), (8, 3)),
    ((12, 4), (8, 4)),
    ((12, 5), (8, 5)),
    ((12, 6), (8, 5)),
    ((12, 7), (8, 6)),
    ((12, 8), (8, 7)),
    ((12, 9), (8, 8)),
    (VERSION, (9, 0)),
];

/// The newest PTX that the driver of a version takes.
pub(super) fn newest_ptx(version: (u32, u32)) -> (u32, u32) {
    PTX.iter().rev().find(|(cuda, _)| *cuda <= version).map_or((0, 0), |(_, ptx)| *ptx)
}

/// The driver's version as the environment has it, also before the driver is started.
pub(super) fn version() -> (u32, u32) {
    text("WIKIGPT_EMU_DRIVER").and_then(|text| parse_version(&text).ok()).unwrap_or(VERSION)
}

fn parse_version(text: &str) -> Result<(u32, u32), String> {
    let parts =
        text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parts
        .filter(|version| PTX.iter().any(|(known, _)| known == version))
        .ok_or_else(|| format!("WIKIGPT_EMU_DRIVER is {text}, expected 11.8, 12.0 to 12.9 or 13.0"))
}

/// A variable of the environment that is not empty.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// Where it says what is not known.
    pub(super) fn read() -> Result<Settings> {
        Settings::parse(&text).map_err(|why| {
            say(why);
            Code::NO_DEVICE
        })
    }

    fn parse(text: &dyn Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let architecture = text("WIKIGPT_EMU_ARCH").unwrap_or_else(|| "sm_90a".to_owned());
        let device = Device::of(&architecture)
            .ok_or_else(|| format!("WIKIGPT_EMU_ARCH is {architecture}, expected sm_80, sm_86 or sm_90a"))?;
        let device = match text("WIKIGPT_EMU_MULTIPROCESSORS") {
            None => device,
            Some(text) => match text.parse() {
                // The driver lives as long as the process, and so may what it plays.
                Ok(multiprocessors @ 1..) => {
                    Box::leak(Box::new(Device { multiprocessors, ..device.clone() }))
                }
                _ => {
                    return Err(format!(
                        "WIKIGPT_EMU_MULTIPROCESSORS is {text}, expected a number from 1 on"
                    ));
                }
            },
        };
        let threads = match text("WIKIGPT_EMU_THREADS") {
            None => std::thread::available_parallelism().map_or(1, usize::from),
            Some(text) => match text.parse() {
                Ok(threads @ 1..) => threads,
                _ => return Err(format!("WIKIGPT_EMU_THREADS is {text}, expected a number from 1 on")),
            },
        };
        let check = checks(text("WIKIGPT_EMU_CHECK").as_deref().unwrap_or("all"))?;
        let run = grid::Options { threads, check, patience: grid::Options::PATIENCE };
        let version = text("WIKIGPT_EMU_DRIVER").map_or(Ok(VERSION), |text| parse_version(&text))?;
        let fail = text("WIKIGPT_EMU_FAIL").map(|text| failing(&text)).transpose()?;
        let counters = text("WIKIGPT_EMU_COUNTERS").map(PathBuf::from);
        Ok(Settings { device, version, fail, run, counters })
    }
}

/// The launch that is to fail: `KERNEL`, the first of it, or `KERNEL:N`.
fn failing(text: &str) -> Result<Failing, String> {
    let (kernel, launch) = text.split_once(':').unwrap_or((text, "1"));
    match launch.parse() {
        Ok(launch @ 1..) => Ok(Failing { kernel: kernel.to_owned(), launch }),
        _ => {
            Err(format!("WIKIGPT_EMU_FAIL is {text}, expected a kernel's name, or KERNEL:N with N from 1 on"))
        }
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
