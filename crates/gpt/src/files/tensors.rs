//! A model's arrays as tensors of a file: Hugging Face's names and layouts, both ways.
//!
//! Hugging Face's GPT-2 keeps the four matrices of a block as `Conv1D`, (in,out); here they are (OC,C) = (out,in).
//! A square one, `attn.c_proj.weight`, would be accepted without being transposed and compute nonsense.

use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::archive::{Archive, View, decode, file, is_float};
use super::folder::NewFile;
use crate::{Array, Config, Layout, Result, Tensor};

/// Values that are converted at once, so that no second copy of a model is held.
const CHUNK: usize = 1 << 16;

/// Rows and columns of a tile of a transposition: two tiles of f32 fit a first-level cache.
const TILE: usize = 32;

/// Whether a tensor is the bias of a layer.
pub(super) fn is_bias(name: &str) -> bool {
    name.ends_with(".bias")
}

/// Whether a tensor is a head's, which Hugging Face keeps beside the transformer.
fn is_head(name: &str) -> bool {
    name == "lm_head.weight" || name == "score.weight"
}

/// Whether Hugging Face stores a tensor as (in,out).
fn is_conv1d(name: &str) -> bool {
    let of_layer = name.contains(".attn.c_") || name.contains(".mlp.c_");
    of_layer && name.ends_with(".weight") && !name.contains(".lora_")
}

/// The shape that a tensor has in a file.
fn stored_shape(tensor: &Tensor) -> Vec<usize> {
    match tensor.shape[..] {
        [rows, columns] if is_conv1d(&tensor.name) => vec![columns, rows],
        _ => tensor.shape.clone(),
    }
}

/// What comes before the names of an array's tensors.
pub(super) fn prefix(array: Array) -> &'static str {
    match array {
        Array::Params => "",
        Array::M => "m.",
        Array::V => "v.",
    }
}

/// Fills its last argument with values of an array, from an element on.
pub(super) type Source<'a> = dyn FnMut(Array, usize, &mut [f32]) -> Result + 'a;

/// A tensor to be written: one of an array, or zeros of its shape.
pub(super) struct Entry {
    array: Option<Array>,
    tensor: Tensor,
}

impl Entry {
    /// A tensor of an array.
    pub fn new(array: Array, tensor: &Tensor) -> Entry {
        Entry { array: Some(array), tensor: tensor.clone() }
    }
}

/// The tensors of an array.
pub(super) fn entries(tensors: &[Tensor], array: Array) -> impl Iterator<Item = Entry> {
    tensors.iter().map(move |tensor| Entry::new(array, tensor))
}

/// Zeros for the biases that a model does without and Hugging Face's cannot.
pub(super) fn zero_biases(config: &Config) -> Result<impl Iterator<Item = Entry>> {
    let biases = if config.bias { Vec::new() } else { biases(config)? };
    Ok(biases.into_iter().map(|tensor| Entry { array: None, tensor }))
}

/// The biases that a model of this shape has or would have.
pub(super) fn biases(config: &Config) -> Result<Vec<Tensor>> {
    let layout = Layout::new(&Config { bias: true, ..config.clone() })?;
    Ok(layout.tensors.into_iter().filter(|tensor| is_bias(&tensor.name)).collect())
}

/// A safetensors file that is ready to be written.
pub(super) struct Writer {
    header: Vec<u8>,
    entries: Vec<Entry>,
    /// Length of the file.
    pub bytes: u64,
}

impl Writer {
    /// Lays out a file of f32 tensors, whose names `root` comes before.
    pub fn new(entries: Vec<Entry>, root: &str) -> Writer {
        let mut end = 0;
        let info = |Entry { array, tensor }: &Entry| {
            let start = end;
            end += 4 * tensor.size();
            let shape = stored_shape(tensor);
            let info = TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) };
            let transformer = if is_head(&tensor.name) { "" } else { "transformer." };
            (format!("{}{root}{transformer}{}", array.map_or("", prefix), tensor.name), info)
        };
        let infos = entries.iter().map(info).collect();
        // Without it transformers refuses the file.
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let metadata = Metadata::new(Some(format), infos).expect("tensors that follow one another");
        let mut header = serde_json::to_vec(&metadata).expect("strings and numbers");
        header.resize(header.len().next_multiple_of(8), b' ');
        let bytes = 8 + header.len() as u64 + end as u64;
        Writer { header, entries, bytes }
    }

    /// Writes it, holding one chunk or one matrix that is to be transposed. Refuses NaN and infinity: what follows would
    /// be written and read, and every later step be lost.
    pub fn write(&self, out: &mut NewFile, place: &Path, source: &mut Source) -> Result {
        out.write(&(self.header.len() as u64).to_le_bytes())?;
        out.write(&self.header)?;
        let (mut values, mut buffer) = (Vec::new(), Vec::new());
        for Entry { array, tensor } in &self.entries {
            let conv1d = is_conv1d(&tensor.name);
            let size = tensor.size();
            let most = if conv1d { size } else { CHUNK };
            for start in (0..size).step_by(most) {
                values.clear();
                values.resize(most.min(size - start), 0.0);
                if let Some(array) = array {
                    source(*array, tensor.range.start + start, &mut values)?;
                }
                if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                    let name = format!("{}{}", array.map_or("", prefix), tensor.name);
                    let message = format!("not written, because {name} holds {value}: training has diverged");
                    return Err(file(place, message));
                }
                match tensor.shape[..] {
                    [_, columns] if conv1d => write_transposed(out, &mut buffer, &values, columns)?,
                    _ => write_values(out, &mut buffer, &values)?,
                }
            }
        }
        Ok(())
    }
}

/// The file's (columns,rows) from `values` (rows,columns), some of the file's rows at a time.
fn write_transposed(out: &mut NewFile, buffer: &mut Vec<u8>, values: &[f32], columns: usize) -> Result {
    let rows = values.len() / columns;
    let mut band = vec![0.0; TILE * rows];
    for first in (0..columns).step_by(TILE) {
        let taken = TILE.min(columns - first);
        for (r, row) in values.chunks_exact(columns).enumerate() {
            for (c, value) in row[first..first + taken].iter().enumerate() {
                band[c * rows + r] = *value;
            }
        }
        write_values(out, buffer, &band[..taken * rows])?;
    }
    Ok(())
}

fn write_values(out: &mut NewFile, buffer: &mut Vec<u8>, values: &[f32]) -> Result {
    buffer.clear();
    buffer.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    out.write(buffer)
}

/// The tensors of an archive that belong to a model, by Hugging Face's names without `transformer.`.
pub(super) struct Named<'a> {
    archive: &'a Archive,
    views: HashMap<&'a str, View<'a>>,
    prefix: &'a str,
}

impl<'a> Named<'a> {
    /// Takes the tensors whose names begin with `prefix`; leaves out the buffers that old files carry.
    pub fn new(archive: &'a Archive, prefix: &'a str) -> Result<Named<'a>> {
        let mut views = HashMap::new();
        for full in archive.names() {
            let Some(name) = full.strip_prefix(prefix) else { continue };
            let name = match name.strip_prefix("transformer.").unwrap_or(name) {
                // PEFT's name of a head that it trains, up to some version.
                "score.modules_to_save.weight" => "score.weight",
                name => name,
            };
            if is_mask(name) {
                continue;
            }
            let view = archive.get(full).expect("a name of this archive");
            if views.insert(name, view).is_some() {
                return Err(file(
                    &archive.path,
                    format!("it holds both {name} and transformer.{name}: remove one"),
                ));
            }
        }
        Ok(Named { archive, views, prefix })
    }

    /// A tensor by its name.
    pub fn get(&self, name: &str) -> Option<View<'a>> {
        self.views.get(name).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Checks every tensor; a sentence for the person who runs the program if the biases of `c_attn` are not there.
    ///
    /// `attn.bias` is a mask that writers leave out, and some of them take these biases for it. transformers reads 0
    /// then, and so do we, where they are missing from all layers.
    pub fn check_all<'t>(&self, tensors: impl Iterator<Item = &'t Tensor> + Clone) -> Result<Option<String>> {
        let is_qkv_bias = |tensor: &Tensor| tensor.name.ends_with(".attn.c_attn.bias");
        let mut qkv_biases = tensors.clone().filter(|t| is_qkv_bias(t)).peekable();
        let missing = qkv_biases.peek().is_some() && qkv_biases.all(|t| self.get(&t.name).is_none());
        for tensor in tensors.filter(|t| !(missing && is_qkv_bias(t))) {
            self.check(tensor)?;
        }
        let path = self.archive.path.display();
        Ok(missing.then(|| format!("{path}: the biases of c_attn are not in it: they are taken to be 0")))
    }

    /// Refuses a missing tensor, and one of another shape or of a type that is no float.
    pub fn check(&self, tensor: &Tensor) -> Result {
        let (name, prefix) = (&tensor.name, self.prefix);
        let Some(view) = self.get(name) else {
            return Err(file(&self.archive.path, format!("the tensor {prefix}{name} is missing")));
        };
        let expected = stored_shape(tensor);
        if view.shape != expected {
            let found = view.shape;
            let message = format!("{prefix}{name} has the shape {found:?}; the model asks for {expected:?}");
            return Err(file(view.path, message));
        }
        if !is_float(view.dtype) {
            let message =
                format!("{prefix}{name} is of type {}; only F32, F16 and BF16 can be read", view.dtype);
            return Err(file(view.path, message));
        }
        Ok(())
    }

    /// Refuses tensors that the model has no place for.
    pub fn check_all_known(&self, known: impl Fn(&str) -> bool) -> Result {
        let mut unknown: Vec<_> = self.views.keys().filter(|name| !known(name)).collect();
        unknown.sort();
        let Some(first) = unknown.first() else { return Ok(()) };
        let more = match unknown.len() - 1 {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        let prefix = self.prefix;
        Err(file(&self.archive.path, format!("GPT-2 of its config.json has no tensor {prefix}{first}{more}")))
    }

    /// Reads a checked tensor into its place; refuses NaN and infinity.
    pub fn read(&self, tensor: &Tensor, out: &mut [f32]) -> Result {
        let view = self.get(&tensor.name).expect("checked before");
        match tensor.shape[..] {
            [_, columns] if is_conv1d(&tensor.name) => read_transposed(view, columns, out),
            _ => decode(view.dtype, view.bytes, out),
        }
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let (prefix, name, value) = (self.prefix, &tensor.name, out[at]);
                let message =
                    format!("{prefix}{name} holds {value}: these weights are damaged or have diverged");
                Err(file(view.path, message))
            }
        }
    }

    /// Whether two checked tensors of one shape hold the same values.
    pub fn equal(&self, a: &str, b: &str) -> bool {
        let (a, b) = (self.get(a).expect("checked before"), self.get(b).expect("checked before"));
        if a.dtype == b.dtype {
            return a.bytes == b.bytes;
        }
        let mut buffers = [vec![0.0; CHUNK], vec![0.0; CHUNK]];
        let chunks = |view: View<'a>| view.bytes.chunks(CHUNK * view.dtype.bitsize() / 8);
        chunks(a).zip(chunks(b)).all(|(x, y)| {
            let n = x.len() * 8 / a.dtype.bitsize();
            let [p, q] = &mut buffers;
            decode(a.dtype, x, &mut p[..n]);
            decode(b.dtype, y, &mut q[..n]);
            p[..n] == q[..n]
        })
    }

    /// Whether a checked tensor is 0 throughout, or not there.
    pub fn is_zero(&self, name: &str) -> bool {
        let Some(view) = self.get(name) else { return true };
        let mut values = vec![0.0; view.shape.iter().product()];
        decode(view.dtype, view.bytes, &mut values);
        values.iter().all(|value| *value == 0.0)
    }
}

/// `attn.bias` and `attn.masked_bias`: the causal mask, which older versions of transformers saved.
fn is_mask(name: &str) -> bool {
    name.starts_with("h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"))
}

/// `out` (rows,columns) from the file's (columns,rows), some of the file's rows at a time.
fn read_transposed(view: View, columns: usize, out: &mut [f32]) {
    let rows = out.len() / columns;
    let width = view.dtype.bitsize() / 8;
    let mut band = vec![0.0; TILE * rows];
    for (b, bytes) in view.bytes.chunks(TILE * rows * width).enumerate() {
        let taken = bytes.len() / (rows * width);
        let band = &mut band[..taken * rows];
        decode(view.dtype, bytes, band);
        for (r, row) in out.chunks_exact_mut(columns).enumerate() {
            for c in 0..taken {
                row[b * TILE + c] = band[c * rows + r];
            }
        }
    }
}
