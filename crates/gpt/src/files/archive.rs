//! Reading safetensors: one file or several shards, memory-mapped and checked.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// No configuration, index or state that a model has comes near this; what does is something else.
const LARGEST_JSON: u64 = 64 << 20;

/// The format's own limit.
const LARGEST_HEADER: u64 = 100_000_000;

/// Tensors by name, from one file or from shards.
pub(super) struct Archive {
    /// The file, or the index of the shards.
    pub path: PathBuf,
    files: Vec<(PathBuf, Mmap)>,
    tensors: BTreeMap<String, Entry>,
    metadata: HashMap<String, String>,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// One tensor of an [`Archive`].
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub path: &'a Path,
    pub dtype: Dtype,
    pub shape: &'a [usize],
    pub bytes: &'a [u8],
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Archive {
    /// Opens a `.safetensors` file, or with it the shards that a `.index.json` lists.
    pub fn open(path: &Path) -> Result<Archive> {
        let mut archive = Archive {
            path: path.to_path_buf(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: HashMap::new(),
        };
        if path.extension().is_some_and(|extension| extension == "json") {
            archive.add_shards(path)?;
        } else {
            archive.add(path)?;
        }
        Ok(archive)
    }

    fn add_shards(&mut self, path: &Path) -> Result {
        let index: Index = read_json(path)?;
        let mut shards: Vec<_> = index.weight_map.values().collect();
        shards.sort();
        shards.dedup();
        for &shard in &shards {
            // A name with a separator could point anywhere on the machine.
            if Path::new(shard).file_name() != Some(shard.as_ref()) {
                return Err(file(
                    path,
                    format!("the shard '{shard}' is not the plain name of a file beside it"),
                ));
            }
            self.add(&path.with_file_name(shard))?;
        }
        for (name, shard) in &index.weight_map {
            let found = self.tensors.get(name).map(|entry| self.files[entry.file].0.file_name());
            if found != Some(Some(shard.as_ref())) {
                return Err(file(path, format!("it says that {name} is in {shard}, but it is not there")));
            }
        }
        Ok(())
    }

    /// Maps one file and takes in its tensors.
    fn add(&mut self, path: &Path) -> Result {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let opened = File::open(path).map_err(io)?;
        let metadata = opened.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(file(path, "not a file: a .safetensors file is asked for"));
        }
        // SAFETY: the map is read only, and this program replaces files by renaming, never in place, so its own
        // writes do not show in it. Another process that cuts the file short meanwhile ends this one by SIGBUS,
        // as with every memory map; values that it changes are checked again where they are read.
        let map = unsafe { Mmap::map(&opened) }.map_err(io)?;
        let (header, data) = header(path, &map)?;
        for (name, info) in header.tensors() {
            let (start, end) = info.data_offsets;
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: data + start..data + end,
            };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                let other = self.files[other.file].0.display().to_string();
                return Err(file(path, format!("its tensor {name} is also in {other}")));
            }
        }
        self.metadata.extend(header.metadata().clone().unwrap_or_default());
        self.files.push((path.to_path_buf(), map));
        Ok(())
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Bytes of all files.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|(_, map)| map.len() as u64).sum()
    }

    /// The `__metadata__` of the headers.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// A tensor by its name.
    pub fn get(&self, name: &str) -> Option<View<'_>> {
        let entry = self.tensors.get(name)?;
        let (path, map) = &self.files[entry.file];
        Some(View { path, dtype: entry.dtype, shape: &entry.shape, bytes: &map[entry.bytes.clone()] })
    }
}

/// Reads the header of a file: its tensors, and where the data begins. Every tensor then lies within the file.
///
/// The safetensors crate checks that tensors follow one another and are as long as their shapes say. It would also
/// compare the file's length, but by a sum that a hostile header makes overflow.
fn header(path: &Path, bytes: &[u8]) -> Result<(Metadata, usize)> {
    let refuse = |message: String| Err(file(path, message));
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return refuse(format!("{} bytes are no safetensors file", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    let Some(text) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
        return refuse(format!(
            "not a safetensors file, or the end of it is missing: its header would be {length} bytes long"
        ));
    };
    if length > LARGEST_HEADER {
        return refuse(format!("not a safetensors file: a header of {length} bytes has no model"));
    }
    let header: Metadata = match serde_json::from_slice(text) {
        Ok(header) => header,
        Err(error) => return refuse(format!("its safetensors header is damaged: {error}")),
    };
    let (said, found) = (header.data_len(), rest.len() - text.len());
    if said != found {
        return refuse(format!("its header speaks of {said} bytes of data, but {found} follow it"));
    }
    Ok((header, bytes.len() - found))
}

/// The values of `bytes` as f32, in order: exactly as many as `out` has room for.
///
/// `dtype` is one that [`is_float`] takes.
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => decode_with(bytes, out, f32::from_le_bytes),
        Dtype::F16 => decode_with(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => decode_with(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        other => unreachable!("the type {other} was checked when the file was opened"),
    }
}

fn decode_with<const W: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; W]) -> f32) {
    let (values, rest) = bytes.as_chunks::<W>();
    assert!(values.len() == out.len() && rest.is_empty(), "the size was checked when the file was opened");
    for (out, bytes) in out.iter_mut().zip(values) {
        *out = value(*bytes);
    }
}

/// Whether weights can be read from this type.
pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Reads a JSON file, with its name in every error.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let length = fs::metadata(path).map_err(io)?.len();
    if length > LARGEST_JSON {
        return Err(file(path, format!("{length} bytes are too many for a file of settings")));
    }
    let text = fs::read(path).map_err(io)?;
    serde_json::from_slice(&text).map_err(|error| file(path, format!("cannot be understood: {error}")))
}

/// An [`Error::File`].
pub(super) fn file(path: &Path, message: impl Into<String>) -> Error {
    Error::File { path: path.to_path_buf(), message: message.into() }
}
