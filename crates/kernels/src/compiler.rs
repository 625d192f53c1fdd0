//! From a source to code that the driver takes: compiled by NVRTC for the device at hand, and kept on disk.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fmt, fs};

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError};
use cudarc::nvrtc::Ptx;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::nvrtc::{Nvrtc, Output};
use crate::source::{HEADERS, Source};

/// Bytes of the digest at the end of a kept file: one that was cut off is not taken for a program.
const DIGEST: usize = 32;

/// A constant that a program is specialised on: `-DNAME=VALUE`.
pub type Define = (&'static str, Constant);

/// A constant's value. Every launch looks its program up by them: they are compared without being written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// A dimension, or 1 for yes and 0 for no.
    Number(usize),
    /// A type.
    Type(&'static str),
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Constant::Number(number) => number.fmt(f),
            Constant::Type(name) => f.write_str(name),
        }
    }
}

impl From<usize> for Constant {
    fn from(number: usize) -> Constant {
        Constant::Number(number)
    }
}

impl From<bool> for Constant {
    fn from(yes: bool) -> Constant {
        Constant::Number(yes.into())
    }
}

/// A source and the constants that it is specialised on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The source.
    pub source: Source,
    /// Its constants.
    pub defines: Vec<Define>,
}

/// Compiles programs, once each, and hands out their functions.
pub struct Compiler {
    nvrtc: Nvrtc,
    context: Arc<CudaContext>,
    arch: Arch,
    /// Where compiled programs are kept.
    cache: Option<PathBuf>,
    /// What the driver takes. A driver that refuses one cubin is not asked again.
    output: Output,
    /// By the source's name.
    loaded: HashMap<&'static str, Vec<Loaded>>,
    programs: Vec<Program>,
    /// Told of every program before it is compiled.
    progress: Box<dyn FnMut(&str) + Send>,
    compiled: usize,
}

/// A program that the driver has.
struct Loaded {
    defines: Vec<Define>,
    module: Arc<CudaModule>,
    /// Those that were asked for.
    functions: Vec<(&'static str, CudaFunction)>,
}

impl Loaded {
    fn function(&mut self, source: Source, name: &'static str) -> Result<CudaFunction, String> {
        if let Some((_, function)) = self.functions.iter().find(|(known, _)| *known == name) {
            return Ok(function.clone());
        }
        let function = self.module.load_function(name).map_err(|error| {
            format!("kernels/{} has no function {name}: {}", source.name, crate::words(error))
        })?;
        self.functions.push((name, function.clone()));
        Ok(function)
    }
}

/// What programs are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arch {
    /// The compute capability, as a number such as 90.
    pub number: u32,
    /// Whether the instructions of this very architecture may be used: `sm_90a`.
    pub specific: bool,
}

impl Arch {
    /// That of a device of a compute capability: its own instructions are used from Hopper on.
    pub fn of((major, minor): (u32, u32)) -> Arch {
        Arch { number: 10 * major + minor, specific: major >= 9 }
    }

    fn suffix(self) -> String {
        format!("{}{}", self.number, if self.specific { "a" } else { "" })
    }

    /// `sm_90a`.
    pub fn name(self) -> String {
        format!("sm_{}", self.suffix())
    }

    /// NVRTC's options: for a cubin of the real architecture, for PTX of the virtual one.
    pub fn options(self, output: Output, defines: &[Define]) -> Vec<String> {
        let kind = if output == Output::Cubin { "sm" } else { "compute" };
        let mut options = vec![
            format!("--gpu-architecture={kind}_{}", self.suffix()),
            "--std=c++20".to_owned(),
            "--device-as-default-execution-space".to_owned(),
            "--generate-line-info".to_owned(),
        ];
        options.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        options
    }
}

impl Compiler {
    /// A compiler for a device.
    ///
    /// # Errors
    /// [`Error::NoNvrtc`], [`Error::UnknownArch`].
    pub fn new(
        context: Arc<CudaContext>,
        capability: (u32, u32),
        cache: Option<PathBuf>,
        progress: Box<dyn FnMut(&str) + Send>,
    ) -> Result<Compiler, Error> {
        let nvrtc = Nvrtc::find()?;
        let known = nvrtc.archs();
        let mut arch = Arch::of(capability);
        let mut output = Output::Cubin;
        if !known.is_empty() && !known.contains(&arch.number) {
            // A device newer than the compiler: the driver compiles on from the newest PTX there is.
            let newest = known.iter().rev().find(|known| **known < arch.number).copied();
            let Some(newest) = newest else {
                return Err(Error::UnknownArch {
                    version: nvrtc.version(),
                    path: nvrtc.path().to_owned(),
                    arch: arch.number,
                });
            };
            arch = Arch { number: newest, specific: false };
            output = Output::Ptx;
        }
        Ok(Compiler {
            nvrtc,
            context,
            arch,
            cache,
            output,
            loaded: HashMap::new(),
            programs: Vec::new(),
            progress,
            compiled: 0,
        })
    }

    /// NVRTC.
    pub fn nvrtc(&self) -> &Nvrtc {
        &self.nvrtc
    }

    /// What is compiled for.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The folder of compiled programs.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// How many programs NVRTC has compiled so far; those found on disk do not count.
    pub fn compiled(&self) -> usize {
        self.compiled
    }

    /// The programs that have been asked for, in the order of their first use.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// A function of a program specialised on constants.
    ///
    /// # Errors
    /// A sentence.
    pub fn function(
        &mut self,
        source: Source,
        defines: &[Define],
        name: &'static str,
    ) -> Result<CudaFunction, String> {
        let known = self.loaded.entry(source.name).or_default();
        if let Some(loaded) = known.iter_mut().find(|loaded| loaded.defines == defines) {
            return loaded.function(source, name);
        }
        let module = self.module(source, defines)?;
        self.programs.push(Program { source, defines: defines.to_vec() });
        let mut loaded = Loaded { defines: defines.to_vec(), module, functions: Vec::new() };
        let function = loaded.function(source, name);
        self.loaded.entry(source.name).or_default().push(loaded);
        function
    }

    fn module(&mut self, source: Source, defines: &[Define]) -> Result<Arc<CudaModule>, String> {
        loop {
            let code = self.code(source, defines)?;
            let image = match self.output {
                Output::Cubin => Ptx::from_binary(code),
                Output::Ptx => {
                    let text = code.strip_suffix(b"\0").unwrap_or(&code);
                    Ptx::from_src(String::from_utf8_lossy(text).into_owned())
                }
            };
            match self.context.load_module(image) {
                Ok(module) => return Ok(module),
                // The driver cannot run code of this architecture but may compile its PTX.
                Err(DriverError(
                    CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | CUresult::CUDA_ERROR_INVALID_IMAGE,
                )) if self.output == Output::Cubin => {
                    self.output = Output::Ptx;
                }
                Err(error) => return Err(self.refused(source, error)),
            }
        }
    }

    /// Why the driver does not take a program.
    fn refused(&self, source: Source, error: DriverError) -> String {
        let (major, minor) = self.nvrtc.version();
        let old = matches!(
            error.0,
            CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        );
        if old && let Some((driver_major, driver_minor)) = crate::driver_version() {
            return format!(
                "the driver is of CUDA {driver_major}.{driver_minor} and cannot run what NVRTC {major}.{minor} compiles: update the driver, or \
                 install nvidia-cuda-nvrtc {driver_major}.{driver_minor} or older"
            );
        }
        format!("the driver does not take kernels/{}: {}", source.name, crate::words(error))
    }

    /// A program, from disk or compiled.
    fn code(&mut self, source: Source, defines: &[Define]) -> Result<Vec<u8>, String> {
        let options = self.arch.options(self.output, defines);
        let kept = self.cache.as_ref().map(|folder| folder.join(self.key(source, &options)));
        if let Some(code) = kept.as_deref().and_then(read) {
            return Ok(code);
        }
        let constants = text(defines);
        let with = if constants.is_empty() { String::new() } else { format!(" ({constants})") };
        (self.progress)(&format!("compiling kernels/{}{with} for {}", source.name, self.arch.name()));
        let compiled = self.nvrtc.compile(source.name, source.text, HEADERS, &options, self.output)?;
        self.compiled += 1;
        if let Some(path) = kept {
            // A cache that cannot be written costs time at the next start and nothing else.
            let _ = write(&path, &compiled.code);
        }
        Ok(compiled.code)
    }

    /// The name of the file that keeps a program: whatever its code depends on is in it.
    fn key(&self, source: Source, options: &[String]) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(&format!("{:?}", self.nvrtc.version()));
        options.iter().for_each(|option| add(option));
        add(source.name);
        add(source.text);
        for header in HEADERS {
            add(header.name);
            add(header.text);
        }
        let digest: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let stem = source.name.trim_end_matches(".cu").replace('/', "-");
        let extension = if self.output == Output::Cubin { "cubin" } else { "ptx" };
        format!("{stem}-{}-{digest}.{extension}", self.arch.name())
    }
}

/// Constants as they appear in messages.
fn text(defines: &[Define]) -> String {
    defines.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// A kept program, if it is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let len = bytes.len().checked_sub(DIGEST)?;
    let digest = bytes.split_off(len);
    (Sha256::digest(&bytes)[..] == digest[..]).then_some(bytes)
}

/// Keeps a program: written beside and renamed, so that another process sees all of it or nothing.
fn write(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(code)?;
    file.write_all(&Sha256::digest(code))?;
    file.persist(path)?;
    Ok(())
}

impl Program {
    /// Its path and constants, in words.
    pub fn name(&self) -> String {
        match text(&self.defines) {
            constants if constants.is_empty() => self.source.name.to_owned(),
            constants => format!("{} {constants}", self.source.name),
        }
    }

    /// Compiles it for an architecture, and reads what each of its kernels takes.
    ///
    /// # Errors
    /// What the compiler said; its warnings too, for there should be none.
    pub fn resources(&self, nvrtc: &Nvrtc, arch: Arch) -> Result<Vec<Resources>, String> {
        let mut options = arch.options(Output::Cubin, &self.defines);
        options.push("--ptxas-options=-v".to_owned());
        let Source { name, text } = self.source;
        let log = nvrtc.compile(name, text, HEADERS, &options, Output::Cubin)?.log;
        let report = |line: &str| line.starts_with("ptxas info") || line.starts_with("ptxas         .");
        let rest: Vec<&str> = log.lines().filter(|line| !report(line) && !line.trim().is_empty()).collect();
        if rest.is_empty() { Ok(resources(&log)) } else { Err(rest.join("\n")) }
    }
}

/// What a kernel takes of a multiprocessor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The kernel.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's local memory: arrays that are indexed by no constant, and spilled registers.
    pub stack: u32,
    /// Bytes of registers that are stored for want of room, and loaded again.
    pub spills: (u32, u32),
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

/// Reads the assembler's report: a line that names the kernel, one of its stack, one of its registers.
fn resources(log: &str) -> Vec<Resources> {
    let mut all: Vec<Resources> = Vec::new();
    for line in log.lines() {
        if let Some(kernel) = line.split("Compiling entry function '").nth(1) {
            let kernel = kernel.split('\'').next().unwrap_or_default().to_owned();
            all.push(Resources { kernel, ..Resources::default() });
        }
        let Some(last) = all.last_mut() else { continue };
        let before = |what: &str| {
            let words = line.split(what).next()?;
            (words.len() < line.len()).then(|| words.split_whitespace().last()?.parse().ok())?
        };
        if let Some(stack) = before(" bytes stack frame") {
            last.stack = stack;
            last.spills =
                (before(" bytes spill stores").unwrap_or(0), before(" bytes spill loads").unwrap_or(0));
        }
        if let Some(registers) = before(" registers") {
            last.registers = registers;
            last.shared = before(" bytes smem").unwrap_or(0);
        }
    }
    all
}

/// The folder of compiled programs: `WIKIGPT_KERNEL_CACHE`, or `wikigpt/kernels` in the user's cache folder.
pub fn default_cache() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("WIKIGPT_KERNEL_CACHE") {
        return (!folder.is_empty()).then(|| folder.into());
    }
    let named = env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let caches = named.or_else(|| Some(env::home_dir()?.join(".cache")))?;
    Some(caches.join("wikigpt").join("kernels"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assemblers_report_is_read() {
        let log = "ptxas info    : 0 bytes gmem\n\
                   ptxas info    : Compiling entry function 'first' for 'sm_90a'\n\
                   ptxas info    : Function properties for first\n\
                   ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
                   ptxas info    : Used 10 registers, used 1 barriers, 256 bytes smem\n\
                   ptxas info    : Compiling entry function 'second' for 'sm_90a'\n\
                   ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                   ptxas info    : Used 255 registers\n";
        let first =
            Resources { kernel: "first".into(), registers: 10, stack: 16, spills: (8, 12), shared: 256 };
        let second = Resources { kernel: "second".into(), registers: 255, ..Resources::default() };
        assert_eq!(resources(log), [first, second]);
    }

    #[test]
    fn a_program_that_was_cut_off_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/program.ptx");
        write(&path, b"code").unwrap();
        assert_eq!(read(&path).unwrap(), b"code");
        let bytes = fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            assert_eq!(read(&path), None, "{len} bytes of {}", bytes.len());
        }
    }

    #[test]
    fn architectures() {
        assert_eq!(Arch::of((9, 0)).name(), "sm_90a");
        assert_eq!(Arch::of((8, 6)).name(), "sm_86");
        let options = Arch::of((12, 0)).options(Output::Ptx, &[("C", 768.into())]);
        assert_eq!(options[0], "--gpu-architecture=compute_120a");
        assert!(options.contains(&"-DC=768".to_owned()));
    }
}
