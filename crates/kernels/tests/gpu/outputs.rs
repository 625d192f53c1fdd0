//! What every op writes, kept in a file by one device and compared by another: the emulator's results beside a card's.
//!
//! With `WIKIGPT_OUTPUTS=FILE` in the environment the file is compared with, or written if it is not there. Approximations
//! (exponentials, roots) and the order of a tensor core's sums are the device's own: where bits differ, the difference is held to the
//! precision's rounding.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use wikigpt_kernels::Precision;
use wikigpt_ops::workload::{OPS, Shape, Tensors, relative_error};

use crate::rig::gpu;

/// What was written, by precision, width and op; an op may write several tensors.
type Outputs = BTreeMap<String, Vec<Vec<f32>>>;

/// Sequences that fill no tile, and the head sizes: both of tensor cores', and an odd one.
const SHAPES: [(&str, Shape); 3] = [
    ("HS=64", Shape { B: 2, T: 70, NH: 2, HS: 64, V: 300, Vp: 384, parameters: 5000 }),
    ("HS=128", Shape { B: 1, T: 70, NH: 1, HS: 128, V: 300, Vp: 384, parameters: 5000 }),
    ("HS=20", Shape { B: 2, T: 37, NH: 3, HS: 20, V: 300, Vp: 384, parameters: 5001 }),
];

/// Runs every op by itself, from the same numbers.
fn outputs(precisions: &[Precision]) -> Outputs {
    let mut all = Outputs::new();
    for precision in precisions {
        for (width, shape) in SHAPES {
            for (op, name) in OPS {
                // What ops before it wrote is no input of this one.
                let mut tensors = Tensors::new(gpu(*precision, Precision::F32), shape).unwrap();
                tensors.run(op).unwrap();
                let written = tensors.written(op).unwrap();
                // Of some ops, part of what they write is unspecified.
                if !written.is_empty() {
                    all.insert(format!("{precision:?} {width} {name}"), written);
                }
            }
        }
    }
    all
}

fn write(path: &Path, outputs: &Outputs) {
    let tensors = outputs.iter().flat_map(|(name, tensors)| {
        tensors.iter().enumerate().map(move |(i, data)| {
            let bytes = bytemuck::cast_slice(data);
            (format!("{name}\n{i}"), TensorView::new(Dtype::F32, vec![data.len()], bytes).unwrap())
        })
    });
    safetensors::serialize_to_file(tensors, None, path).unwrap();
}

fn read(path: &Path) -> Outputs {
    let bytes = fs::read(path).unwrap();
    let mut outputs = Outputs::new();
    // In the order of their numbers, which are single digits.
    for (name, tensor) in
        SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().collect::<BTreeMap<_, _>>()
    {
        let (op, _) = name.split_once('\n').unwrap();
        let floats = tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        outputs.entry(op.to_owned()).or_default().push(floats.collect());
    }
    outputs
}

/// How many have the same bits, and those that differ by more than rounding: the first line of each op that differs is printed.
fn compare(got: &Outputs, want: &Outputs) -> (usize, Vec<String>) {
    let not_in = |a: &Outputs, b: &Outputs| a.keys().find(|name| !b.contains_key(*name)).cloned();
    assert_eq!((not_in(got, want), not_in(want, got)), (None, None), "ops that one side has alone");
    let (mut same, mut wrong) = (0, Vec::new());
    for ((name, got), want) in got.iter().zip(want.values()) {
        let bits = |tensors: &[Vec<f32>]| tensors.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(got) == bits(want) {
            same += 1;
            continue;
        }
        let off = relative_error(got, want);
        println!("{name}: other bits, {off:.1e} apart");
        let rounding = if name.starts_with("F32") { 1e-5 } else { 1e-2 };
        if off.is_nan() || off > rounding {
            wrong.push(format!("{name}: {off:.1e} apart"));
        }
    }
    (same, wrong)
}

#[test]
fn outputs_are_those_of_the_file() {
    let Some(path) = env::var_os("WIKIGPT_OUTPUTS") else { return };
    let (path, outputs) = (Path::new(&path), outputs(&[Precision::F32, Precision::Bf16]));
    if !path.exists() {
        return write(path, &outputs);
    }
    let (same, wrong) = compare(&outputs, &read(path));
    println!("{same} of {} have the same bits as in {}", outputs.len(), path.display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_of_outputs_is_read_as_written_and_differences_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outputs.safetensors");
    let mut outputs = Outputs::from([
        ("F32 HS=1 one".to_owned(), vec![vec![1.0, 2.0], vec![3.0]]),
        ("Bf16 HS=1 two".to_owned(), vec![vec![4.0; 9]]),
    ]);
    write(&path, &outputs);
    let kept = read(&path);
    assert_eq!(compare(&outputs, &kept), (2, Vec::new()));
    let change = |outputs: &mut Outputs, to: f32| outputs.get_mut("F32 HS=1 one").unwrap()[1][0] = to;
    change(&mut outputs, 3.000_001);
    assert_eq!(compare(&outputs, &kept), (1, Vec::new()));
    for wrong in [3.1, f32::NAN] {
        change(&mut outputs, wrong);
        assert_eq!(compare(&outputs, &kept).1.len(), 1);
    }
}
