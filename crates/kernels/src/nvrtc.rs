//! NVIDIA's run-time compiler: finding its library, and compiling with it.

use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use libloading::Library;

use crate::Error;

/// Names under which the library is installed, newest first.
const NAMES: [&str; 5] =
    ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll"];

/// An opaque program.
type Program = *mut c_void;

/// NVRTC, loaded.
pub struct Nvrtc {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    sizes: [Size; 3],
    texts: [Text; 3],
    archs: (Archs, Archs),
    version: (u32, u32),
    path: PathBuf,
    /// Keep the functions above where they are. They are never unloaded: who looks for the compiler again finds it loaded.
    _libraries: ManuallyDrop<Vec<Library>>,
}

type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Archs = unsafe extern "C" fn(*mut c_int) -> c_int;

/// What to read of a compiled program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Text for any device of the architecture or a later one; the driver compiles it further.
    Ptx,
    /// Code for the architecture.
    Cubin,
}

/// A file that a program may include.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// The name in `#include "…"`.
    pub name: &'static str,
    /// What it holds.
    pub text: &'static str,
}

/// A compiled program and what the compiler said.
pub struct Compiled {
    /// PTX (ending in a 0) or a cubin.
    pub code: Vec<u8>,
    /// Warnings, and the resource report where it was asked for.
    pub log: String,
}

impl Nvrtc {
    /// Looks for the library on the loader's path, under `CUDA_HOME` and `CUDA_PATH`, in the Python environment's packages and under
    /// the usual prefixes, in this order.
    ///
    /// # Errors
    /// [`Error::NoNvrtc`] with the places.
    pub fn find() -> Result<Nvrtc, Error> {
        for name in NAMES {
            if let Some(found) = Nvrtc::load(Path::new(name)) {
                return Ok(found);
            }
        }
        let folders = folders();
        for folder in &folders {
            for name in NAMES {
                let path = folder.join(name);
                if path.is_file()
                    && let Some(found) = Nvrtc::load(&path)
                {
                    return Ok(found);
                }
            }
        }
        let mut looked = vec!["the loader's path".to_owned()];
        looked.extend(folders.iter().map(|folder| folder.display().to_string()));
        Err(Error::NoNvrtc { looked })
    }

    /// Loads one library; none if it is not there or is not NVRTC.
    fn load(path: &Path) -> Option<Nvrtc> {
        let mut libraries = path.parent().map(builtins).unwrap_or_default();
        // SAFETY: loading NVRTC runs its initialisers, which do nothing that concerns this process.
        libraries.push(unsafe { Library::new(path) }.ok()?);
        let library = libraries.last()?;
        // SAFETY: these are NVRTC's functions and their types, the same in every version.
        unsafe {
            let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int =
                *library.get(b"nvrtcVersion\0").ok()?;
            let (mut major, mut minor) = (0, 0);
            if version(&raw mut major, &raw mut minor) != 0 {
                return None;
            }
            let size = |name: &[u8]| library.get::<Size>(name).ok().map(|f| *f);
            let text = |name: &[u8]| library.get::<Text>(name).ok().map(|f| *f);
            let archs = |name: &[u8]| library.get::<Archs>(name).ok().map(|f| *f);
            Some(Nvrtc {
                create: *library.get(b"nvrtcCreateProgram\0").ok()?,
                compile: *library.get(b"nvrtcCompileProgram\0").ok()?,
                destroy: *library.get(b"nvrtcDestroyProgram\0").ok()?,
                sizes: [
                    size(b"nvrtcGetPTXSize\0")?,
                    size(b"nvrtcGetCUBINSize\0")?,
                    size(b"nvrtcGetProgramLogSize\0")?,
                ],
                texts: [text(b"nvrtcGetPTX\0")?, text(b"nvrtcGetCUBIN\0")?, text(b"nvrtcGetProgramLog\0")?],
                archs: (archs(b"nvrtcGetNumSupportedArchs\0")?, archs(b"nvrtcGetSupportedArchs\0")?),
                version: (major as u32, minor as u32),
                path: path.to_owned(),
                _libraries: ManuallyDrop::new(libraries),
            })
        }
    }

    /// Major and minor version.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The library: a bare name if it was found on the loader's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The architectures that it compiles for, as numbers such as 90; ascending.
    pub fn archs(&self) -> Vec<u32> {
        let mut count = 0;
        // SAFETY: the first call says how many numbers the second writes.
        let archs = unsafe {
            if (self.archs.0)(&raw mut count) != 0 {
                return Vec::new();
            }
            let mut archs = vec![0 as c_int; count.max(0) as usize];
            if (self.archs.1)(archs.as_mut_ptr()) != 0 {
                return Vec::new();
            }
            archs
        };
        archs.into_iter().map(|arch| arch as u32).collect()
    }

    /// Compiles a program.
    ///
    /// # Errors
    /// What the compiler said.
    pub fn compile(
        &self,
        name: &str,
        source: &str,
        headers: &[Header],
        options: &[String],
        output: Output,
    ) -> Result<Compiled, String> {
        let text = |text: &str| CString::new(text).map_err(|_| format!("{name} holds a byte 0"));
        let (source, name_) = (text(source)?, text(name)?);
        let names = headers.iter().map(|header| text(header.name)).collect::<Result<Vec<_>, _>>()?;
        let texts = headers.iter().map(|header| text(header.text)).collect::<Result<Vec<_>, _>>()?;
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let pointers = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
        let (names, texts, options) = (pointers(&names), pointers(&texts), pointers(&options));

        let mut program = null_mut();
        // SAFETY: every pointer is to a text ending in 0 that outlives the call, in arrays of the lengths given.
        let created = unsafe {
            (self.create)(
                &raw mut program,
                source.as_ptr(),
                name_.as_ptr(),
                names.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        if created != 0 {
            return Err(format!("NVRTC does not begin on {name} (code {created})"));
        }
        let program = Guard { nvrtc: self, program };
        // SAFETY: the program is live; the options are texts ending in 0.
        let code = unsafe { (self.compile)(program.program, options.len() as c_int, options.as_ptr()) };
        let log = program.read(2).unwrap_or_default();
        let log = CStr::from_bytes_until_nul(&log).map(|log| log.to_string_lossy().trim().to_owned());
        let log = log.unwrap_or_default();
        if code != 0 {
            return Err(format!("NVRTC refuses {name} (code {code}): {log}"));
        }
        let which = if output == Output::Ptx { 0 } else { 1 };
        let code = program.read(which).ok_or_else(|| format!("NVRTC made nothing of {name}: {log}"))?;
        Ok(Compiled { code, log })
    }
}

/// A program, destroyed at the end.
struct Guard<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Guard<'_> {
    /// The PTX, the cubin or the log.
    fn read(&self, which: usize) -> Option<Vec<u8>> {
        let mut size = 0;
        // SAFETY: the program is live, and the second call writes as many bytes as the first said.
        unsafe {
            if (self.nvrtc.sizes[which])(self.program, &raw mut size) != 0 || size == 0 {
                return None;
            }
            let mut bytes = vec![0_u8; size];
            ((self.nvrtc.texts[which])(self.program, bytes.as_mut_ptr().cast()) == 0).then_some(bytes)
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: the program is live, and this is its last use.
        unsafe { (self.nvrtc.destroy)(&raw mut self.program) };
    }
}

/// What NVRTC loads by name when it first compiles, loaded beforehand where it lies beside it: in a folder that the loader does not know
/// it would not be found.
fn builtins(folder: &Path) -> Vec<Library> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let builtins = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so"))
        // SAFETY: the library holds data for NVRTC and does nothing when it is loaded.
        .filter_map(|entry| unsafe { Library::new(entry.path()) }.ok());
    builtins.collect()
}

/// Folders that may hold the library, besides those of the loader.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(root) = env::var_os(variable).filter(|root| !root.is_empty()) {
            let root = PathBuf::from(root);
            folders.extend([
                root.join("lib64"),
                root.join("lib"),
                root.join("targets/x86_64-linux/lib"),
                root.join("bin"),
            ]);
        }
    }
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        if let Some(root) = env::var_os(variable).filter(|root| !root.is_empty()) {
            folders.extend(packages(Path::new(&root)));
            folders.push(PathBuf::from(&root).join("lib"));
        }
    }
    if let Some(home) = env::home_dir() {
        folders.extend(packages(&home.join(".local")));
    }
    folders.extend(packages(Path::new("/usr")));
    folders.extend(packages(Path::new("/usr/local")));
    folders.extend(
        ["/usr/local/cuda/lib64", "/opt/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"]
            .map(PathBuf::from),
    );
    folders
}

/// Where NVIDIA's wheels lie in a Python prefix: `lib/python3.*/{site,dist}-packages/nvidia/{cu13,cuda_nvrtc}/lib`.
fn packages(prefix: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(prefix.join("lib")) else { return Vec::new() };
    let mut pythons: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")))
        .collect();
    pythons.sort();
    let inside = |python: &PathBuf| {
        let python = python.clone();
        ["site-packages", "dist-packages"].into_iter().flat_map(move |packages| {
            let nvidia = python.join(packages).join("nvidia");
            ["cu13", "cuda_nvrtc"].map(|package| nvidia.join(package).join("lib"))
        })
    };
    pythons.iter().rev().flat_map(inside).filter(|folder| folder.is_dir()).collect()
}
