//! Libraries: modules that belong to no context.

use std::ffi::{c_uint, c_void};

use super::abi::{Handle, In, Out, Text};
use super::context::current;
use super::entry::{entries, refuse};
use super::function::{Function, Source};
use super::image;
use super::memory::Address;
use super::module::{Content, Module, Options, load_text, read_file};
use super::table::{Object, Table};
use super::{Code, Driver, Result, driver};

/// A library.
#[derive(Debug)]
pub(super) struct Library {
    content: Content,
}

impl Object for Library {
    const WHAT: &'static str = "library";

    fn table(driver: &Driver) -> &Table<Library> {
        &driver.libraries
    }
}

/// `CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE`, `CU_LIBRARY_BINARY_IS_PRESERVED`
const OPTIONS: c_uint = 2;

fn load(
    library: Out<Handle<Library>>,
    text: impl FnOnce() -> Result<String>,
    jit: (In<c_uint>, Out<usize>, c_uint),
    options: (In<c_uint>, c_uint),
) -> Result<()> {
    let driver = driver()?;
    library.check()?;
    if let Some(option) = options.0.list(options.1 as usize)?.into_iter().find(|option| *option >= OPTIONS) {
        return Err(refuse(Code::INVALID_VALUE, format_args!("library option {option} is not known")));
    }
    let jit = Options::read(jit.2, jit.0, jit.1)?;
    let loaded = load_text(driver, &text()?, &jit)?;
    let (handle, _) = driver.libraries.insert_with(|handle| Library {
        content: Content::new(driver, loaded, Handle::NULL, Source::Library(handle)),
    });
    library.set(handle)
}

entries! {
    /// Loads an image.
    fn cuLibraryLoadData(
        library: Out<Handle<Library>>,
        code: In<u8>,
        jit: In<c_uint>,
        jit_values: Out<usize>,
        jit_count: c_uint,
        options: In<c_uint>,
        _option_values: In<usize>,
        count: c_uint,
    ) {
        load(library, || image::ptx(code), (jit, jit_values, jit_count), (options, count))
    }

    /// Loads a file.
    fn cuLibraryLoadFromFile(
        library: Out<Handle<Library>>,
        path: Text,
        jit: In<c_uint>,
        jit_values: Out<usize>,
        jit_count: c_uint,
        options: In<c_uint>,
        _option_values: In<usize>,
        count: c_uint,
    ) {
        load(library, || read_file(path), (jit, jit_values, jit_count), (options, count))
    }

    /// Unloads a library.
    fn cuLibraryUnload(library: Handle<Library>) {
        let driver = driver()?;
        driver.libraries.remove(library)?.content.unload(driver);
        Ok(())
    }

    /// A kernel of a library.
    fn cuLibraryGetKernel(kernel: Out<Handle<Function>>, library: Handle<Library>, name: Text) {
        kernel.check()?;
        let name = name.get()?;
        kernel.set(library.get()?.content.function(&name)?)
    }

    /// How many kernels a library has.
    fn cuLibraryGetKernelCount(count: Out<c_uint>, library: Handle<Library>) {
        count.set(library.get()?.content.functions().len() as c_uint)
    }

    /// The kernels of a library.
    fn cuLibraryEnumerateKernels(kernels: Out<Handle<Function>>, room: c_uint, library: Handle<Library>) {
        kernels.fill(library.get()?.content.functions().into_iter().take(room as usize))
    }

    /// The module that a library is in the current context: it is none.
    fn cuLibraryGetModule(_module: Out<Handle<Module>>, library: Handle<Library>) {
        current()?;
        library.get()?;
        Err(refuse(Code::NOT_SUPPORTED, "libraries are no modules; ask them for kernels and variables"))
    }

    /// A variable of a library.
    fn cuLibraryGetGlobal(address: Out<Address>, bytes: Out<usize>, library: Handle<Library>, name: Text) {
        current()?;
        let name = name.get()?;
        let (at, len) = library.get()?.content.variable(&name)?;
        address.offer(at);
        bytes.offer(len);
        Ok(())
    }

    /// A managed variable of a library: PTX for these devices has none.
    fn cuLibraryGetManaged(_address: Out<Address>, _bytes: Out<usize>, library: Handle<Library>, name: Text) {
        library.get()?;
        Err(refuse(Code::NOT_FOUND, format_args!("there is no managed variable {}", name.get()?)))
    }

    /// A function that host and device share: there is none.
    fn cuLibraryGetUnifiedFunction(_function: Out<*const c_void>, library: Handle<Library>, name: Text) {
        library.get()?;
        Err(refuse(Code::NOT_FOUND, format_args!("there is no unified function {}", name.get()?)))
    }
}
