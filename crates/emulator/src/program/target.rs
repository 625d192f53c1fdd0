//! Whether a device can run a module.

use crate::device::Device;
use crate::ptx::ast::Module;
use crate::ptx::{Error, ErrorKind, Result};

/// Refuses a module for another device.
///
/// # Errors
/// [`ErrorKind::Target`], saying why.
pub(super) fn check(module: &Module, device: &Device) -> Result<()> {
    let refuse = |message: String| Err(Error { kind: ErrorKind::Target, line: 1, message });
    let Some(target) = module.target.iter().find_map(|target| target.strip_prefix("sm_")) else {
        return refuse("the module has no .target sm_…".to_owned());
    };
    let digits = target.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    let suffix = &target[digits.len()..];
    let Ok(number) = digits.parse::<u32>() else {
        return refuse(format!(".target sm_{target} is not known"));
    };
    let wanted = (number / 10, number % 10);
    let (major, minor) = device.capability;
    let runs = match suffix {
        "" => wanted <= (major, minor),
        // For one architecture alone.
        "a" => wanted == (major, minor) && device.specific,
        // For one family alone.
        "f" => wanted.0 == major && wanted.1 <= minor,
        _ => return refuse(format!(".target sm_{target} is not known")),
    };
    if runs {
        return Ok(());
    }
    let own = if device.specific { "a" } else { "" };
    refuse(format!(".target sm_{target} does not run on {}, which is sm_{major}{minor}{own}", device.name))
}
