//! Modules: loading PTX, its functions and variables.

use std::ffi::{c_char, c_uint};

use super::abi::{Handle, In, Out, Text};
use super::context::{Context, current};
use super::entry::{entries, refuse};
use super::function::{Function, Source};
use super::kernel::{self, Loaded};
use super::memory::{Address, Origin};
use super::table::{Object, Table};
use super::{Code, Driver, Result, driver, image};
use crate::ptx::{Error, ErrorKind};

/// A module.
#[derive(Debug)]
pub(super) struct Module {
    /// The context that it belongs to.
    pub context: Handle<Context>,
    content: Content,
}

/// What a module or library holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    functions: Vec<(String, Handle<Function>)>,
    variables: Vec<(String, Address, usize)>,
}

impl Object for Module {
    const WHAT: &'static str = "module";

    fn table(driver: &Driver) -> &Table<Module> {
        &driver.modules
    }
}

impl Content {
    /// Enters what was loaded.
    pub(super) fn new(driver: &Driver, loaded: Loaded, context: Handle<Context>, source: Source) -> Content {
        let Loaded { kernels, variables, target } = loaded;
        let functions = kernels.into_iter().map(|(name, program)| {
            let function = Function::new(&name, program, target, context, source);
            (name, driver.functions.insert(function))
        });
        let functions = functions.collect();
        let variables = variables.into_iter().map(|(name, allocation, len)| {
            (name, driver.ranges.insert(allocation, None, len, Origin::Variable, context), len as usize)
        });
        Content { functions, variables: variables.collect() }
    }

    /// Takes it all out again.
    pub(super) fn unload(&self, driver: &Driver) {
        for (_, function) in &self.functions {
            // It may be gone with its context.
            let _ = driver.functions.take(*function);
        }
        for (_, address, _) in &self.variables {
            driver.ranges.free(driver, *address, |origin| origin == Origin::Variable);
        }
    }

    /// A function that can run.
    pub(super) fn function(&self, name: &str) -> Result<Handle<Function>> {
        let found = self.functions.iter().find(|(of, _)| of == name).map(|(_, function)| *function);
        let handle =
            found.ok_or_else(|| refuse(Code::NOT_FOUND, format_args!("there is no kernel {name}")))?;
        handle.get()?.program()?;
        Ok(handle)
    }

    /// A variable: its address and bytes.
    pub(super) fn variable(&self, name: &str) -> Result<(Address, usize)> {
        let found =
            self.variables.iter().find(|(of, ..)| of == name).map(|(_, address, len)| (*address, *len));
        found.ok_or_else(|| refuse(Code::NOT_FOUND, format_args!("there is no variable {name}")))
    }

    /// All functions.
    pub(super) fn functions(&self) -> Vec<Handle<Function>> {
        self.functions.iter().map(|(_, function)| *function).collect()
    }
}

/// What programs ask of the compiler that a driver has: where to write what it says. Nothing else matters here.
#[derive(Debug, Default)]
pub(super) struct Options {
    log: Option<Log>,
}

/// Where a text is wanted, the bytes there, and where its length is.
type Log = (Out<c_char>, usize, Option<Out<usize>>);

/// `CUjit_option`
mod option {
    pub(super) const WALL_TIME: u32 = 2;
    pub(super) const INFO_LOG_BUFFER: u32 = 3;
    pub(super) const INFO_LOG_SIZE: u32 = 4;
    pub(super) const ERROR_LOG_BUFFER: u32 = 5;
    pub(super) const ERROR_LOG_SIZE: u32 = 6;
    pub(super) const COUNT: u32 = 35;
}

impl Options {
    /// Reads them; writes empty texts.
    pub(super) fn read(count: c_uint, options: In<c_uint>, values: Out<usize>) -> Result<Options> {
        let names = options.list(count as usize)?;
        let values: Vec<Out<usize>> = (0..names.len()).map(|index| values.at(index)).collect();
        let value = |of: u32| names.iter().position(|name| *name == of).map(|index| values[index]);
        if let Some(unknown) = names.iter().find(|name| **name >= option::COUNT) {
            return Err(refuse(Code::INVALID_VALUE, format_args!("option {unknown} is not known")));
        }
        if let Some(time) = value(option::WALL_TIME) {
            time.set(0)?; // 0.0 as f32, in milliseconds
        }
        let log = |buffer: u32, size: u32| -> Result<Option<Log>> {
            let Some(buffer) = value(buffer) else { return Ok(None) };
            let size = value(size);
            // The value is a number of 32 bits in the room of a pointer.
            let room = size.map(|size| size.get()).transpose()?.unwrap_or_default() as u32 as usize;
            // What stands in a buffer's place is its address.
            Ok(Some((buffer.target(), room, size)))
        };
        if let Some((info, room, size)) = log(option::INFO_LOG_BUFFER, option::INFO_LOG_SIZE)? {
            write_log((info, room, size), "")?;
        }
        let log = log(option::ERROR_LOG_BUFFER, option::ERROR_LOG_SIZE)?;
        if let Some(log) = log {
            write_log(log, "")?;
        }
        Ok(Options { log })
    }

    /// The code of what is wrong with a text, after writing it where the program asked for it.
    fn refuse(&self, error: &Error) -> Code {
        let code = match error.kind {
            ErrorKind::Invalid => Code::INVALID_PTX,
            ErrorKind::Version => Code::UNSUPPORTED_PTX_VERSION,
            ErrorKind::Target => Code::NO_BINARY_FOR_GPU,
            ErrorKind::Unsupported => Code::NOT_SUPPORTED,
        };
        if let Some(log) = self.log {
            let Error { line, message, .. } = error;
            let text = format!(
                "ptxas application ptx input, line {line}; error   : {message}\n\
                 ptxas fatal   : Ptx assembly aborted due to errors"
            );
            // A text without room is left out.
            let _ = write_log(log, &text);
        }
        refuse(code, error)
    }
}

fn write_log((buffer, room, size): Log, text: &str) -> Result<()> {
    if room == 0 || !buffer.wanted() {
        return Ok(());
    }
    buffer.text(text, i32::try_from(room).unwrap_or(i32::MAX))?;
    if let Some(size) = size {
        size.set(text.len().min(room - 1))?;
    }
    Ok(())
}

/// Loads a text.
pub(super) fn load_text(driver: &Driver, text: &str, options: &Options) -> Result<Loaded> {
    kernel::load(driver, text).map_err(|error| options.refuse(&error))
}

fn load(out: Out<Handle<Module>>, text: impl FnOnce() -> Result<String>, options: &Options) -> Result<()> {
    let (driver, context) = (driver()?, current()?);
    out.check()?;
    let loaded = load_text(driver, &text()?, options)?;
    let (handle, _) = driver.modules.insert_with(|handle| Module {
        context: context.handle,
        content: Content::new(driver, loaded, context.handle, Source::Module(handle)),
    });
    out.set(handle)
}

/// The text of a file, which may be a fat binary.
pub(super) fn read_file(path: Text) -> Result<String> {
    let path = path.get()?;
    let mut bytes = std::fs::read(&path)
        .map_err(|error| refuse(Code::FILE_NOT_FOUND, format_args!("{path}: {error}")))?;
    bytes.extend([0; 8]);
    image::ptx(In::of(&bytes))
}

entries! {
    /// Loads an image.
    fn cuModuleLoadData(module: Out<Handle<Module>>, code: In<u8>) {
        load(module, || image::ptx(code), &Options::default())
    }

    /// Loads an image, with options.
    fn cuModuleLoadDataEx(module: Out<Handle<Module>>, code: In<u8>, count: c_uint, options: In<c_uint>, values: Out<usize>) {
        let options = Options::read(count, options, values)?;
        load(module, || image::ptx(code), &options)
    }

    /// Loads a fat binary.
    fn cuModuleLoadFatBinary(module: Out<Handle<Module>>, code: In<u8>) {
        load(module, || image::ptx(code), &Options::default())
    }

    /// Loads a file.
    fn cuModuleLoad(module: Out<Handle<Module>>, path: Text) {
        load(module, || read_file(path), &Options::default())
    }

    /// Unloads a module.
    fn cuModuleUnload(module: Handle<Module>) {
        let (driver, context) = (driver()?, current()?);
        context.synchronize()?;
        driver.modules.remove(module)?.content.unload(driver);
        Ok(())
    }

    /// A function of a module.
    fn cuModuleGetFunction(function: Out<Handle<Function>>, module: Handle<Module>, name: Text) {
        current()?;
        function.check()?;
        let name = name.get()?;
        function.set(module.get()?.content.function(&name)?)
    }

    /// How many functions a module has.
    fn cuModuleGetFunctionCount(count: Out<c_uint>, module: Handle<Module>) {
        count.set(module.get()?.content.functions.len() as c_uint)
    }

    /// The functions of a module.
    fn cuModuleEnumerateFunctions(functions: Out<Handle<Function>>, room: c_uint, module: Handle<Module>) {
        functions.fill(module.get()?.content.functions().into_iter().take(room as usize))
    }

    /// A variable of a module.
    fn cuModuleGetGlobal_v2(address: Out<Address>, bytes: Out<usize>, module: Handle<Module>, name: Text) {
        current()?;
        let name = name.get()?;
        let (at, len) = module.get()?.content.variable(&name)?;
        address.offer(at);
        bytes.offer(len);
        Ok(())
    }

    /// Whether functions are loaded when they are first used: no, at once.
    fn cuModuleGetLoadingMode(mode: Out<c_uint>) {
        driver()?;
        mode.set(1)
    }
}
