//! Between the driver and the interpreter: a text to kernels, a launch to a run.

use std::io::{Write, stdout};
use std::sync::Arc;

use super::entry::say;
use super::launch::Launch;
use super::settings::{Failing, newest_ptx};
use super::work::Launches;
use super::{Code, Driver};
use crate::exec;
use crate::fault::{Fault, FaultKind, Place, Report};
use crate::memory::Allocation;
use crate::program::{Program, check_instructions, function_address, function_number};
use crate::ptx::ast::{Init, Linkage, Module, Space, Variable};
use crate::ptx::{self, Error, ErrorKind, Result};

/// Bytes of the words at which the blocks of a cooperative launch meet: a size, and a barrier's count of arrivals.
const WORKSPACE: u64 = 8;

/// What a text holds.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Kernels: what each runs, or why the emulator cannot run it.
    pub kernels: Vec<(String, Result<Arc<Program>>)>,
    /// Variables and their bytes.
    pub variables: Vec<(String, Arc<Allocation>, u64)>,
    /// The architecture it was made for: 90 for `sm_90a`.
    pub target: u32,
}

/// Loads a text. What is wrong with a kernel is wrong with the text; what is merely not emulated spoils that kernel alone.
pub(super) fn load(driver: &Driver, text: &str) -> Result<Loaded> {
    let module = ptx::parse(text)?;
    check_version(&module, driver.settings.version)?;
    check_instructions(&module)?;
    let variables = Variables::allocate(driver, &module)?;
    let decoded = decode(driver, &module, &variables).and_then(|kernels| {
        variables.initialize(&module)?;
        Ok(kernels)
    });
    match decoded {
        Ok(kernels) => {
            let named = variables.placed.into_iter().map(|(name, found, len)| (name.to_owned(), found, len));
            Ok(Loaded { kernels, variables: named.collect(), target: target(&module) })
        }
        Err(error) => {
            variables.free(driver);
            Err(error)
        }
    }
}

/// Refuses a text of a newer PTX than the driver of a version knows.
fn check_version(module: &Module, version: (u32, u32)) -> Result<()> {
    let newest = newest_ptx(version);
    if module.version <= newest {
        return Ok(());
    }
    let (of, known) = (module.version, newest);
    let message = format!("version {}.{} is newer than this driver's {}.{}", of.0, of.1, known.0, known.1);
    Err(Error { kind: ErrorKind::Version, line: 1, message })
}

fn decode(
    driver: &Driver,
    module: &Module,
    variables: &Variables,
) -> Result<Vec<(String, Result<Arc<Program>>)>> {
    let address = |name: &str| variables.address(name);
    let kernels = module.functions.iter().filter(|function| function.entry && function.body.is_some());
    kernels
        .map(|kernel| {
            let program = match Program::decode(module, kernel.name, &address, driver.device) {
                Ok(program) => Ok(Arc::new(program)),
                Err(error) if error.kind == ErrorKind::Unsupported => Err(error),
                Err(error) => return Err(error),
            };
            Ok((kernel.name.to_owned(), program))
        })
        .collect()
}

/// The number of `.target sm_90a`.
fn target(module: &Module) -> u32 {
    let digits = |target: &&str| {
        let number = target.strip_prefix("sm_")?;
        number.trim_end_matches(|letter: char| letter.is_ascii_lowercase()).parse().ok()
    };
    module.target.iter().find_map(digits).unwrap_or_default()
}

/// A module's variables and where they lie.
struct Variables<'a> {
    placed: Vec<(&'a str, Arc<Allocation>, u64)>,
}

/// Whether a variable lies in the device's memory.
fn in_memory(variable: &Variable) -> bool {
    matches!(variable.space, Space::Global | Space::Const) && variable.linkage != Linkage::Extern
}

/// The bytes of a variable.
fn size(variable: &Variable) -> Result<u64> {
    let elements = variable.len.unwrap_or(1).checked_mul(u64::from(variable.vector.max(1)));
    let bytes = elements.and_then(|elements| elements.checked_mul(u64::from(variable.ty.bytes())));
    bytes.ok_or_else(|| Error::invalid(variable.line, format!("{} is too large", variable.name)))
}

impl<'a> Variables<'a> {
    fn allocate(driver: &Driver, module: &Module<'a>) -> Result<Variables<'a>> {
        let mut variables = Variables { placed: Vec::new() };
        for variable in module.variables.iter().filter(|variable| in_memory(variable)) {
            let placed = size(variable).and_then(|len| {
                let full =
                    || Error::invalid(variable.line, format!("no memory is left for {}", variable.name));
                let room = driver.device.memory.saturating_sub(driver.ranges.used());
                let found = (len <= room).then(|| driver.memory.allocate(len)).flatten();
                found.map(|found| (variable.name, found, len)).ok_or_else(full)
            });
            match placed {
                Ok(placed) => variables.placed.push(placed),
                Err(error) => {
                    variables.free(driver);
                    return Err(error);
                }
            }
        }
        Ok(variables)
    }

    fn free(&self, driver: &Driver) {
        for (_, allocation, _) in &self.placed {
            // It was allocated here, and nobody else knows it.
            let _ = driver.memory.free(allocation.base);
        }
    }

    fn address(&self, name: &str) -> Option<u64> {
        self.placed.iter().find(|(of, ..)| *of == name).map(|(_, allocation, _)| allocation.base)
    }

    /// Writes the initial values; what is not named is 0.
    fn initialize(&self, module: &Module) -> Result<()> {
        let variables = module.variables.iter().filter(|variable| in_memory(variable));
        for (variable, (_, allocation, len)) in variables.zip(&self.placed) {
            let element = variable.ty.bytes() as usize;
            let mut bytes = Vec::with_capacity(*len as usize);
            for init in &variable.init {
                let value = match init {
                    Init::Bits(bits) => *bits,
                    Init::Address { name, offset, .. } => {
                        let function = || function_number(module, name).map(function_address);
                        let found = self.address(name).or_else(function);
                        let unknown = || Error::invalid(variable.line, format!("{name} is not declared"));
                        found.ok_or_else(unknown)?.wrapping_add_signed(*offset)
                    }
                };
                let wide = u128::from(value).to_le_bytes();
                bytes.extend_from_slice(wide.get(..element).unwrap_or(&wide));
            }
            if bytes.len() as u64 > *len {
                return Err(Error::invalid(
                    variable.line,
                    format!("{} has more initial values than elements", variable.name),
                ));
            }
            bytes.resize(*len as usize, 0);
            allocation.write(0, &bytes);
        }
        Ok(())
    }
}

/// Runs a launch to its end; counts it where that is asked for.
///
/// # Errors
/// The first fault.
pub(super) fn run(
    driver: &Driver,
    launches: &mut Launches,
    launch: &Launch,
) -> std::result::Result<(), Box<Report>> {
    // A function whose program is missing was refused when the launch was checked.
    let Ok(program) = launch.function.program() else { return Ok(()) };
    launches.count += 1;
    let name = &launch.function.name;
    if let Some(Failing { kernel, launch }) =
        driver.settings.fail.as_ref().filter(|fail| fail.kernel == *name)
    {
        launches.failing += 1;
        if launches.failing == *launch {
            return Err(Box::new(told_to_fail(kernel)));
        }
    }
    let workspace = launch.cooperative.then(|| driver.memory.allocate(WORKSPACE)).flatten();
    if let Some(workspace) = &workspace {
        workspace.fill(0, WORKSPACE, &[0]);
    }
    let run = exec::Launch {
        program,
        params: &launch.params,
        grid: launch.grid,
        threads: launch.threads,
        cluster: launch.cluster,
        dynamic_shared: launch.dynamic_shared,
        memory: &driver.memory,
        device: driver.device,
        number: launches.count,
        workspace: workspace.as_ref().map_or(0, |workspace| workspace.base),
    };
    let mut tell = |report: &Report| say(format_args!("found, and the kernel goes on: {report}"));
    let counters = exec::grid::run(&run, &driver.settings.run, &mut stdout(), &mut tell);
    if let Some(workspace) = &workspace {
        // It was allocated here, and nobody else knows it.
        let _ = driver.memory.free(workspace.base);
    }
    let counters = counters?;
    // Where stdout is closed there is nobody to read.
    let _ = stdout().flush();
    if let Some(file) = &driver.settings.counters
        && let Err(error) = counters.append(&run, file)
    {
        say(format_args!("WIKIGPT_EMU_COUNTERS: {}: {error}", file.display()));
    }
    Ok(())
}

/// The fault of a launch that fails because the environment says so.
fn told_to_fail(kernel: &str) -> Report {
    let fault = Fault::new(FaultKind::Address, "an access that WIKIGPT_EMU_FAIL asked for");
    let place = Place {
        kernel: kernel.to_owned(),
        block: [0; 3],
        thread: [0; 3],
        ptx_line: 0,
        ptx: "none".to_owned(),
        source: None,
    };
    Report { fault, place, other: None }
}

/// The code that a driver gives for a fault.
pub(super) fn code(kind: FaultKind) -> Code {
    match kind {
        FaultKind::Address | FaultKind::UseAfterFree => Code::ILLEGAL_ADDRESS,
        FaultKind::Misaligned => Code::MISALIGNED_ADDRESS,
        FaultKind::AddressSpace => Code::INVALID_ADDRESS_SPACE,
        FaultKind::Instruction => Code::ILLEGAL_INSTRUCTION,
        FaultKind::Assert => Code::ASSERT,
        FaultKind::Deadlock => Code::LAUNCH_TIMEOUT,
        FaultKind::Unsupported => Code::NOT_SUPPORTED,
        FaultKind::Trap
        | FaultKind::Uninitialized
        | FaultKind::Race
        | FaultKind::Async
        | FaultKind::Barrier => Code::LAUNCH_FAILED,
    }
}
