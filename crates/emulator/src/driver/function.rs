//! Functions: kernels of modules and libraries, their attributes and parameters.

use std::ffi::{CString, c_char, c_int, c_uint};
use std::sync::{Arc, Mutex};

use super::abi::{Handle, Out};
use super::context::{Context, current};
use super::device::{Ordinal, check};
use super::entry::{entries, refuse};
use super::launch::{DEFAULT_SHARED, LARGEST_CLUSTER, product};
use super::library::Library;
use super::module::Module;
use super::table::{Object, Table, lock};
use super::{Code, Driver, Result, driver};
use crate::program::Program;
use crate::ptx::Error;
use crate::ptx::ast::Limits;

/// A kernel.
#[derive(Debug)]
pub(super) struct Function {
    /// Its name.
    pub name: String,
    /// The same, for C.
    c_name: CString,
    /// The context of its module; NULL for a kernel of a library, which runs in any.
    pub context: Handle<Context>,
    /// Where it comes from.
    pub source: Source,
    /// The architecture that its PTX was made for: 90 for `sm_90a`.
    target: u32,
    program: Result<Arc<Program>, Error>,
    settings: Mutex<Settings>,
}

/// Where a function comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A module.
    Module(Handle<Module>),
    /// A library.
    Library(Handle<Library>),
}

/// What programs set.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    dynamic_shared: Option<u32>,
    carveout: c_int,
    cluster: [u32; 3],
    non_portable_cluster: bool,
    scheduling: c_int,
}

impl Object for Function {
    const WHAT: &'static str = "function";

    fn table(driver: &Driver) -> &Table<Function> {
        &driver.functions
    }
}

/// Registers of a thread, where `.maxnreg` does not say: nobody has compiled the kernel.
const REGISTERS: u32 = 64;
const MOST_REGISTERS: u32 = 65536;

/// `CUfunction_attribute`
mod attribute {
    pub(super) const MAX_THREADS_PER_BLOCK: u32 = 0;
    pub(super) const SHARED_SIZE: u32 = 1;
    pub(super) const CONST_SIZE: u32 = 2;
    pub(super) const LOCAL_SIZE: u32 = 3;
    pub(super) const NUM_REGS: u32 = 4;
    pub(super) const PTX_VERSION: u32 = 5;
    pub(super) const BINARY_VERSION: u32 = 6;
    pub(super) const CACHE_MODE_CA: u32 = 7;
    pub(super) const MAX_DYNAMIC_SHARED_SIZE: u32 = 8;
    pub(super) const PREFERRED_CARVEOUT: u32 = 9;
    pub(super) const CLUSTER_SIZE_MUST_BE_SET: u32 = 10;
    pub(super) const REQUIRED_CLUSTER_WIDTH: u32 = 11;
    pub(super) const REQUIRED_CLUSTER_DEPTH: u32 = 13;
    pub(super) const NON_PORTABLE_CLUSTER_SIZE_ALLOWED: u32 = 14;
    pub(super) const CLUSTER_SCHEDULING_POLICY: u32 = 15;
}

impl Function {
    /// A kernel as it was loaded.
    pub(super) fn new(
        name: &str,
        program: Result<Arc<Program>, Error>,
        target: u32,
        context: Handle<Context>,
        source: Source,
    ) -> Function {
        Function {
            name: name.to_owned(),
            c_name: CString::new(name).unwrap_or_default(),
            context,
            source,
            target,
            program,
            settings: Mutex::new(Settings { carveout: -1, ..Settings::default() }),
        }
    }

    /// What it runs; where the emulator cannot run it, an error that says why.
    pub(super) fn program(&self) -> Result<&Arc<Program>> {
        self.program.as_ref().map_err(|why| refuse(Code::NOT_SUPPORTED, format_args!("{}: {why}", self.name)))
    }

    /// Its performance directives.
    pub(super) fn limits(&self) -> Result<Limits> {
        Ok(self.program()?.limits)
    }

    /// Registers of a thread: what `.maxnreg` allows, no more than blocks of `.maxntid` threads leave.
    pub(super) fn registers(&self) -> u32 {
        let limits = self.program.as_ref().map(|program| program.limits).unwrap_or_default();
        let most = limits
            .required_threads
            .or(limits.max_threads)
            .map_or(255, |threads| MOST_REGISTERS / product(threads).clamp(1, 1024) as u32);
        limits.max_registers.unwrap_or(REGISTERS).min(most).min(255)
    }

    /// Threads of the largest block.
    pub(super) fn max_threads(&self) -> Result<u32> {
        let limits = self.limits()?;
        let named = limits.required_threads.or(limits.max_threads).map_or(1024, product);
        let fitting = MOST_REGISTERS / self.registers().max(1) / 32 * 32;
        Ok((named.min(1024) as u32).min(fitting))
    }

    /// Bytes of dynamic shared memory that a launch may have.
    pub(super) fn max_dynamic_shared(&self) -> Result<u32> {
        let fixed = self.program()?.shared_bytes;
        Ok(lock(&self.settings).dynamic_shared.unwrap_or(DEFAULT_SHARED.saturating_sub(fixed)))
    }

    /// Whether clusters of more than 8 blocks are allowed.
    pub(super) fn non_portable_cluster(&self) -> bool {
        lock(&self.settings).non_portable_cluster
    }

    /// The cluster that was set, where one was.
    pub(super) fn required_cluster(&self) -> Option<[u32; 3]> {
        Some(lock(&self.settings).cluster).filter(|cluster| product(*cluster) > 0)
    }

    fn get(&self, driver: &Driver, number: c_uint) -> Result<c_int> {
        let program = self.program()?;
        let settings = *lock(&self.settings);
        let cluster = program.limits.required_cluster.unwrap_or(settings.cluster);
        let (major, minor) = driver.device.capability;
        Ok(match number {
            attribute::MAX_THREADS_PER_BLOCK => self.max_threads()? as c_int,
            attribute::SHARED_SIZE => program.shared_bytes as c_int,
            attribute::CONST_SIZE => 0,
            attribute::LOCAL_SIZE => program.local_bytes as c_int,
            attribute::NUM_REGS => self.registers() as c_int,
            attribute::PTX_VERSION => self.target as c_int,
            attribute::BINARY_VERSION => (major * 10 + minor) as c_int,
            attribute::CACHE_MODE_CA => 0,
            attribute::MAX_DYNAMIC_SHARED_SIZE => self.max_dynamic_shared()? as c_int,
            attribute::PREFERRED_CARVEOUT => settings.carveout,
            attribute::CLUSTER_SIZE_MUST_BE_SET => {
                c_int::from(program.limits.explicit_cluster && program.limits.required_cluster.is_none())
            }
            attribute::REQUIRED_CLUSTER_WIDTH..=attribute::REQUIRED_CLUSTER_DEPTH => {
                cluster[(number - attribute::REQUIRED_CLUSTER_WIDTH) as usize] as c_int
            }
            attribute::NON_PORTABLE_CLUSTER_SIZE_ALLOWED => c_int::from(settings.non_portable_cluster),
            attribute::CLUSTER_SCHEDULING_POLICY => settings.scheduling,
            _ => {
                return Err(refuse(
                    Code::INVALID_VALUE,
                    format_args!("function attribute {number} is not known"),
                ));
            }
        })
    }

    fn set(&self, driver: &Driver, number: c_uint, value: c_int) -> Result<()> {
        let program = self.program()?;
        let bad = |expected: String| {
            let name = &self.name;
            Err(refuse(
                Code::INVALID_VALUE,
                format_args!("{name}: function attribute {number} of {value}, expected {expected}"),
            ))
        };
        let mut settings = lock(&self.settings);
        match number {
            attribute::MAX_DYNAMIC_SHARED_SIZE => {
                let most = driver.device.shared_per_block.saturating_sub(program.shared_bytes);
                match u32::try_from(value) {
                    Ok(bytes) if bytes <= most => settings.dynamic_shared = Some(bytes),
                    _ => {
                        return bad(format!(
                            "0 to {most}, which is what a block may have less the static shared memory"
                        ));
                    }
                }
            }
            attribute::PREFERRED_CARVEOUT => match value {
                -1..=100 => settings.carveout = value,
                _ => return bad("-1 to 100".into()),
            },
            attribute::REQUIRED_CLUSTER_WIDTH..=attribute::REQUIRED_CLUSTER_DEPTH => {
                if program.limits.required_cluster.is_some() || !driver.device.at_least(9, 0) {
                    return Err(refuse(
                        Code::NOT_PERMITTED,
                        "the cluster of the kernel is fixed, or the device has none",
                    ));
                }
                match u32::try_from(value) {
                    Ok(blocks) if u64::from(blocks) <= LARGEST_CLUSTER => {
                        settings.cluster[(number - attribute::REQUIRED_CLUSTER_WIDTH) as usize] = blocks;
                    }
                    _ => return bad(format!("0 to {LARGEST_CLUSTER}")),
                }
            }
            attribute::NON_PORTABLE_CLUSTER_SIZE_ALLOWED => match value {
                0 | 1 => settings.non_portable_cluster = value == 1,
                _ => return bad("0 or 1".into()),
            },
            attribute::CLUSTER_SCHEDULING_POLICY => match value {
                0..=2 => settings.scheduling = value,
                _ => return bad("0 to 2".into()),
            },
            _ => {
                return Err(refuse(
                    Code::INVALID_VALUE,
                    format_args!("function attribute {number} cannot be set"),
                ));
            }
        }
        Ok(())
    }

    fn parameter(&self, index: usize) -> Result<(usize, usize)> {
        let param = self.program()?.params.get(index).copied();
        let param = param.ok_or_else(|| {
            refuse(Code::INVALID_VALUE, format_args!("{} has no parameter {index}", self.name))
        })?;
        Ok((param.offset as usize, param.size as usize))
    }
}

fn parameter(function: Handle<Function>, index: usize, offset: Out<usize>, size: Out<usize>) -> Result<()> {
    let (at, bytes) = function.get()?.parameter(index)?;
    offset.set(at)?;
    size.offer(bytes);
    Ok(())
}

entries! {
    /// An attribute of a function.
    fn cuFuncGetAttribute(value: Out<c_int>, number: c_uint, function: Handle<Function>) {
        let driver = driver()?;
        current()?;
        value.check()?;
        value.set(function.get()?.get(driver, number)?)
    }

    /// Sets an attribute of a function.
    fn cuFuncSetAttribute(function: Handle<Function>, number: c_uint, value: c_int) {
        let driver = driver()?;
        current()?;
        function.get()?.set(driver, number, value)
    }

    /// Prefers shared memory or L1: a hint.
    fn cuFuncSetCacheConfig(function: Handle<Function>, config: c_uint) {
        current()?;
        super::context::check_cache_config(config)?;
        function.get().map(|_| ())
    }

    /// The width of a shared memory bank: 4 bytes, whatever is asked for.
    fn cuFuncSetSharedMemConfig(function: Handle<Function>, _config: c_uint) {
        current()?;
        function.get().map(|_| ())
    }

    /// The module of a function.
    fn cuFuncGetModule(module: Out<Handle<Module>>, function: Handle<Function>) {
        module.check()?;
        match function.get()?.source {
            Source::Module(of) => module.set(of),
            Source::Library(_) => Err(refuse(Code::INVALID_HANDLE, "the function is a kernel of a library")),
        }
    }

    /// The name of a function; it lives as long as the function.
    fn cuFuncGetName(name: Out<*const c_char>, function: Handle<Function>) {
        name.set(function.get()?.c_name.as_ptr())
    }

    /// Where a parameter lies, and its bytes.
    fn cuFuncGetParamInfo(function: Handle<Function>, index: usize, offset: Out<usize>, size: Out<usize>) {
        parameter(function, index, offset, size)
    }

    /// Whether a function is loaded: all are.
    fn cuFuncIsLoaded(state: Out<c_uint>, function: Handle<Function>) {
        function.get()?;
        state.set(1)
    }

    /// Loads a function: it is.
    fn cuFuncLoad(function: Handle<Function>) {
        function.get().map(|_| ())
    }

    /// The function of a kernel: itself.
    fn cuKernelGetFunction(out: Out<Handle<Function>>, kernel: Handle<Function>) {
        current()?;
        kernel.get()?;
        out.set(kernel)
    }

    /// The library of a kernel.
    fn cuKernelGetLibrary(library: Out<Handle<Library>>, kernel: Handle<Function>) {
        library.check()?;
        match kernel.get()?.source {
            Source::Library(of) => library.set(of),
            Source::Module(_) => Err(refuse(Code::INVALID_HANDLE, "the kernel is a function of a module")),
        }
    }

    /// An attribute of a kernel.
    fn cuKernelGetAttribute(value: Out<c_int>, number: c_uint, kernel: Handle<Function>, device: Ordinal) {
        let driver = driver()?;
        value.check()?;
        check(device)?;
        value.set(kernel.get()?.get(driver, number)?)
    }

    /// Sets an attribute of a kernel.
    fn cuKernelSetAttribute(number: c_uint, value: c_int, kernel: Handle<Function>, device: Ordinal) {
        let driver = driver()?;
        check(device)?;
        kernel.get()?.set(driver, number, value)
    }

    /// Prefers shared memory or L1: a hint.
    fn cuKernelSetCacheConfig(kernel: Handle<Function>, config: c_uint, device: Ordinal) {
        check(device)?;
        super::context::check_cache_config(config)?;
        kernel.get().map(|_| ())
    }

    /// The name of a kernel.
    fn cuKernelGetName(name: Out<*const c_char>, kernel: Handle<Function>) {
        name.set(kernel.get()?.c_name.as_ptr())
    }

    /// Where a parameter lies, and its bytes.
    fn cuKernelGetParamInfo(kernel: Handle<Function>, index: usize, offset: Out<usize>, size: Out<usize>) {
        parameter(kernel, index, offset, size)
    }
}
