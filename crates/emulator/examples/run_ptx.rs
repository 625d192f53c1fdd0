//! Runs one kernel of a PTX file on whatever libcuda is loaded and writes its buffers to files, so that a GPU and the
//! emulator can be compared bit for bit.
//!
//! ```text
//! run_ptx [--grid X,Y,Z] [--block X,Y,Z] [--cluster X,Y,Z] [--shared BYTES] --out FOLDER FILE.ptx KERNEL ARGUMENT...
//! ```
//!
//! An argument is a number (`u8:7`, `u16:7`, `u32:7`, `i32:-7`, `u64:7`, `f32:1.5`, `f64:1.5`) or a buffer on the device, of which
//! the kernel gets the address: `zeros:BYTES`, `random:BYTES:SEED` (any bits), `floats:COUNT:SEED` (f32 from -1 to 1) or
//! `file:PATH`. After the launch the buffer of argument N is written to FOLDER/N.bin.
//!
//! On a machine with a GPU, and on the emulator:
//!
//! ```text
//! cargo run --package wikigpt-emulator --example run_ptx -- --block 128 --out gpu k.ptx k floats:128:1 zeros:512
//! cargo xtask emulated -- target/debug/examples/run_ptx --block 128 --out emulator k.ptx k floats:128:1 zeros:512
//! cmp gpu/1.bin emulator/1.bin
//! ```

use std::error::Error;
use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::process::ExitCode;
use std::ptr::null_mut;

use cudarc::driver::{result, sys};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A launch as the command line asks for it.
struct Request {
    grid: [u32; 3],
    block: [u32; 3],
    cluster: Option<[u32; 3]>,
    shared: u32,
    out: PathBuf,
    file: PathBuf,
    kernel: String,
    arguments: Vec<Argument>,
}

/// An argument of the kernel.
enum Argument {
    /// Its bytes.
    Number(Vec<u8>),
    /// What a buffer on the device holds.
    Buffer(Vec<u8>),
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|request| run(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Request> {
    let (mut grid, mut block, mut cluster, mut shared, mut out) = ([1; 3], [1; 3], None, 0, None);
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--grid" => grid = triple(&value()?)?,
            "--block" => block = triple(&value()?)?,
            "--cluster" => cluster = Some(triple(&value()?)?),
            "--shared" => shared = value()?.parse()?,
            "--out" => out = Some(PathBuf::from(value()?)),
            _ => rest.push(word),
        }
    }
    let [file, kernel, arguments @ ..] = rest.as_slice() else {
        return Err("expected FILE.ptx KERNEL ARGUMENT...".into());
    };
    Ok(Request {
        grid,
        block,
        cluster,
        shared,
        out: out.ok_or("--out FOLDER is missing")?,
        file: file.into(),
        kernel: kernel.clone(),
        arguments: arguments.iter().map(|word| argument(word)).collect::<Result<_>>()?,
    })
}

/// `X,Y,Z`, of which what is missing is 1.
fn triple(text: &str) -> Result<[u32; 3]> {
    let mut triple = [1; 3];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 3 {
        return Err(format!("{text}: expected X,Y,Z").into());
    }
    for (to, part) in triple.iter_mut().zip(parts) {
        *to = part.parse().map_err(|_| format!("{text}: expected X,Y,Z"))?;
    }
    Ok(triple)
}

fn argument(word: &str) -> Result<Argument> {
    let (kind, value) = word.split_once(':').ok_or_else(|| format!("{word}: expected KIND:VALUE"))?;
    let seeded = || -> Result<(usize, u64)> {
        let (count, seed) = value.split_once(':').ok_or_else(|| format!("{word}: expected COUNT:SEED"))?;
        Ok((count.parse()?, seed.parse()?))
    };
    Ok(match kind {
        "u8" => Argument::Number(vec![value.parse()?]),
        "u16" => Argument::Number(value.parse::<u16>()?.to_le_bytes().into()),
        "u32" => Argument::Number(value.parse::<u32>()?.to_le_bytes().into()),
        "i32" => Argument::Number(value.parse::<i32>()?.to_le_bytes().into()),
        "u64" => Argument::Number(value.parse::<u64>()?.to_le_bytes().into()),
        "f32" => Argument::Number(value.parse::<f32>()?.to_le_bytes().into()),
        "f64" => Argument::Number(value.parse::<f64>()?.to_le_bytes().into()),
        "zeros" => Argument::Buffer(vec![0; value.parse()?]),
        "random" => {
            let (bytes, seed) = seeded()?;
            Argument::Buffer(random(seed).map(|bits| bits as u8).take(bytes).collect())
        }
        "floats" => {
            let (count, seed) = seeded()?;
            let floats = random(seed).map(|bits| (bits >> 8 & 0xff_ffff) as f32 / 8_388_608.0 - 1.0);
            Argument::Buffer(floats.take(count).flat_map(f32::to_le_bytes).collect())
        }
        "file" => Argument::Buffer(std::fs::read(value).map_err(|error| format!("{value}: {error}"))?),
        _ => return Err(format!("{word}: {kind} is not known").into()),
    })
}

/// Numbers that look like chance, the same on every machine.
fn random(seed: u64) -> impl Iterator<Item = u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    })
}

fn run(request: &Request) -> Result<()> {
    // SAFETY: looks for the library, nothing else.
    if !unsafe { sys::is_culib_present() } {
        return Err("no libcuda is there: cargo xtask emulated -- PROGRAM runs on the emulator".into());
    }
    let text = CString::new(std::fs::read(&request.file)?)?;
    result::init()?;
    let device = result::device::get(0)?;
    eprintln!("on {}", result::device::get_name(device)?);
    // SAFETY: a device that exists; the context stays until the process ends.
    unsafe { result::ctx::set_current(result::primary_ctx::retain(device)?) }?;
    // SAFETY: a text that ends with NUL, and a module that stays loaded.
    let function = unsafe {
        let module = result::module::load_data(text.as_ptr().cast())?;
        result::module::get_function(module, CString::new(request.kernel.as_str())?)?
    };
    let values: Vec<Vec<u8>> = request.arguments.iter().map(upload).collect::<Result<_>>()?;
    launch(request, function, &values)?;
    result::ctx::synchronize()?;
    std::fs::create_dir_all(&request.out)?;
    for (index, (argument, value)) in request.arguments.iter().zip(&values).enumerate() {
        if let Argument::Buffer(bytes) = argument {
            let mut bytes = vec![0_u8; bytes.len()];
            let address = u64::from_le_bytes(value.as_slice().try_into()?);
            // SAFETY: a buffer of this length on the device.
            unsafe { result::memcpy_dtoh_sync(&mut bytes, address) }?;
            std::fs::write(request.out.join(format!("{index}.bin")), bytes)?;
        }
    }
    Ok(())
}

/// The bytes of an argument as the kernel gets them: a buffer's are its address.
fn upload(argument: &Argument) -> Result<Vec<u8>> {
    match argument {
        Argument::Number(bytes) => Ok(bytes.clone()),
        Argument::Buffer(bytes) => {
            // SAFETY: memory of the buffer's length, of which nothing but this copy knows yet.
            let address = unsafe {
                let address = result::malloc_sync(bytes.len().max(1))?;
                result::memcpy_htod_sync(address, bytes)?;
                address
            };
            Ok(address.to_le_bytes().into())
        }
    }
}

fn launch(request: &Request, function: sys::CUfunction, values: &[Vec<u8>]) -> Result<()> {
    let mut params: Vec<*mut c_void> = values.iter().map(|value| value.as_ptr().cast_mut().cast()).collect();
    let [grid, block] = [request.grid, request.block];
    // SAFETY: an attribute's value may be all zeros.
    let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    let cluster = request.cluster.unwrap_or([1; 3]);
    // SAFETY: the three numbers that this attribute has at its start, in a value of 64 bytes.
    unsafe { (&raw mut attribute.value).cast::<[u32; 3]>().write(cluster) };
    let config = sys::CUlaunchConfig {
        gridDimX: grid[0],
        gridDimY: grid[1],
        gridDimZ: grid[2],
        blockDimX: block[0],
        blockDimY: block[1],
        blockDimZ: block[2],
        sharedMemBytes: request.shared,
        hStream: null_mut(),
        attrs: &raw mut attribute,
        numAttrs: u32::from(request.cluster.is_some()),
    };
    if request.shared > 48 * 1024 {
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: a function that exists.
        unsafe { sys::cuFuncSetAttribute(function, attribute, request.shared as i32) }.result()?;
    }
    // SAFETY: as many parameters as the command line names; whether they are the kernel's is for its caller to know.
    unsafe { sys::cuLaunchKernelEx(&config, function, params.as_mut_ptr(), null_mut()) }.result()?;
    Ok(())
}
