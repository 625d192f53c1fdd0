//! A backend for tests.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use wikigpt_kernels::{Gpu, Options, Precision};

/// The workspace's build folder.
pub fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the build folder").to_owned()
}

/// Loads the emulator in place of the driver, and NVRTC for it, before anything looks for them by name; or nothing, if the tests
/// are to run on a card.
pub fn load() {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        if std::env::var_os("WIKIGPT_TEST_DEVICE").is_some_and(|device| device == "cuda") {
            return;
        }
        let driver = target().join("emulator/libcuda.so");
        assert!(driver.is_file(), "{} is not there: run `cargo xtask emulator` first", driver.display());
        open(&driver);
        for library in nvrtc() {
            open(&library);
        }
    });
}

/// Loads a library for good.
fn open(path: &Path) {
    // SAFETY: the emulator and NVRTC do nothing to this process before they are called.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    std::mem::forget(library.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
}

/// The NVRTC that `cargo xtask emulator` installs where there is no other, after the library that it looks for by name.
fn nvrtc() -> Vec<PathBuf> {
    let Ok(pythons) = std::fs::read_dir(target().join("nvrtc-venv/lib")) else { return Vec::new() };
    let folders = pythons.flatten().map(|python| python.path().join("site-packages/nvidia/cu13/lib"));
    let names = ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"];
    folders.flat_map(|folder| names.map(|name| folder.join(name))).filter(|path| path.is_file()).collect()
}

/// Compiled kernels of all tests.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels")
}

/// A backend in a precision, gradients of parameters in another.
pub fn gpu(precision: Precision, grads: Precision) -> Gpu {
    open_with(Options { grads, ..Options::new(0, precision) })
}

/// A backend opened so, with the tests' own folder of kernels.
pub fn open_with(options: Options) -> Gpu {
    load();
    Gpu::open(Options { cache: Some(cache()), ..options }).expect("a device")
}
