//! Property tests: whatever the bytes, loading ends with a model or with one sentence.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::tempdir;
use wikigpt_gpt::files::{Checkpoint, Checkpoints, Extras, describe, load_model};
use wikigpt_gpt::{Config, Layout};

use crate::foreign::{config_json, contents, params, reader, serialize, tensors, write};

fn tiny() -> Config {
    Config { n_layer: 1, n_head: 1, n_embd: 2, context: 3, ..Config::preset("tiny", 5).unwrap() }
}

/// Loads and describes a folder; panics unless what comes of it is a model of finite weights or a sentence.
fn try_load(folder: &Path) {
    match load_model(folder) {
        Ok(model) => {
            assert_eq!(model.params.len(), Layout::new(&model.config).unwrap().len);
            assert!(model.params.iter().all(|value| value.is_finite()));
            describe(folder).unwrap();
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(sentence.contains(&*folder.to_string_lossy()) && !sentence.contains('\n'), "{sentence}");
            let _ = describe(folder);
        }
    }
}

fn valid() -> Vec<u8> {
    serialize(&tensors(&tiny(), "transformer.", Dtype::F32))
}

/// A header and data as a file, with the length that the header says it has.
fn file(length: u64, header: &[u8], data: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes(), header, data].concat()
}

/// The header of a valid file as JSON, and its data.
fn parts() -> (Value, Vec<u8>) {
    let bytes = valid();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

fn load_bytes(bytes: &[u8]) {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config_json(&tiny()).to_string()).unwrap();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    try_load(folder.path());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempdir().unwrap();
    let bytes = valid();
    fs::write(folder.path().join("config.json"), config_json(&tiny()).to_string()).unwrap();
    let path = folder.path().join("model.safetensors");
    for length in 0..bytes.len() {
        // A new file each time: some file systems wait for the disk when one is overwritten.
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(load_model(folder.path()).is_err(), "{length} of {} bytes", bytes.len());
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn lengths_that_overflow_when_they_are_added_up_are_refused() {
    let mut header = json!({});
    let mut end = 0u64;
    for (at, bytes) in [(1u64 << 61) - 4; 8].into_iter().chain([16]).enumerate() {
        header[format!("t{at}")] =
            json!({ "dtype": "F32", "shape": [bytes / 4], "data_offsets": [end, end + bytes] });
        end += bytes;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("lone.safetensors");
    fs::write(&path, file(header.to_string().len() as u64, header.to_string().as_bytes(), b"")).unwrap();
    let message = describe(&path).unwrap_err().to_string();
    assert!(message.contains("speaks of 18446744073709551600 bytes of data, but 0 follow"), "{message}");
}

/// A size such as a damaged or hostile header might give.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![0..20u64, any::<u64>(), (0..64u32).prop_map(|bit| 1 << bit), Just(u64::MAX)]
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), length in size()) {
        load_bytes(&bytes);
        load_bytes(&file(length, &bytes, b""));
    }

    #[test]
    fn changed_bytes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = valid();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        load_bytes(&bytes);
    }

    #[test]
    fn lies_about_the_header(length in size(), cut in any::<prop::sample::Index>()) {
        let (header, data) = parts();
        let header = header.to_string();
        load_bytes(&file(length, header.as_bytes(), &data));
        let cut = cut.index(header.len());
        load_bytes(&file(header.len() as u64, &header.as_bytes()[..cut], &data));
        load_bytes(&file(cut as u64, header.as_bytes(), &data));
    }

    #[test]
    fn lies_about_a_tensor(
        which in any::<prop::sample::Index>(),
        shape in prop::collection::vec(size(), 0..4),
        offsets in (size(), size()),
        dtype in prop::sample::select(vec!["F64", "F32", "BF16", "F16", "BOOL", "U8", "F8_E4M3", "F4", "C64", "none"]),
        parts_changed in 1..8u8,
    ) {
        let (mut header, data) = parts();
        let names: Vec<String> = header.as_object().unwrap().keys().cloned().collect();
        let tensor = &mut header[which.get(&names)];
        if parts_changed & 1 != 0 {
            tensor["shape"] = json!(shape);
        }
        if parts_changed & 2 != 0 {
            tensor["data_offsets"] = json!([offsets.0, offsets.1]);
        }
        if parts_changed & 4 != 0 {
            tensor["dtype"] = json!(dtype);
        }
        let header = header.to_string();
        load_bytes(&file(header.len() as u64, header.as_bytes(), &data));
    }

    #[test]
    fn lies_about_the_shape(sizes in prop::array::uniform5(size()), which in 1..32u8) {
        let folder = tempdir().unwrap();
        let mut json = config_json(&tiny());
        for (bit, key) in ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"].into_iter().enumerate() {
            if which >> bit & 1 != 0 {
                json[key] = json!(sizes[bit]);
            }
        }
        write(folder.path(), &json, &tensors(&tiny(), "", Dtype::F32));
        try_load(folder.path());
    }

    #[test]
    fn changed_settings(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let folder = tempdir().unwrap();
        let mut text = config_json(&tiny()).to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if cut {
            text.truncate(at);
        }
        fs::write(folder.path().join("config.json"), text).unwrap();
        fs::write(folder.path().join("model.safetensors"), valid()).unwrap();
        try_load(folder.path());
    }

    #[test]
    fn indices_of_shards(text in "\\PC{0,60}", name in "\\PC{0,20}") {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("config.json"), config_json(&tiny()).to_string()).unwrap();
        fs::write(folder.path().join("shard"), valid()).unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        for text in [text, json!({ "weight_map": { "wte.weight": name, "wpe.weight": "shard" } }).to_string()] {
            fs::write(&index, text).unwrap();
            try_load(folder.path());
            fs::remove_file(&index).unwrap();
        }
    }
}

proptest! {
    // Each case waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_changed_byte_of_a_checkpoint_goes_unnoticed(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let (run, config) = (tempdir().unwrap(), tiny());
        let arrays = [(); 3].map(|()| params(&config));
        let checkpoints = Checkpoints::of(run.path());
        let folder = checkpoints.save(7, &config, &[1, 2, 3], &Extras::default(), reader(&arrays)).unwrap();
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let lengths: Vec<_> = files.iter().map(|file| fs::metadata(file).unwrap().len() as usize).collect();
        let mut at = at.index(lengths.iter().sum());
        let mut which = 0;
        while at >= lengths[which] {
            at -= lengths[which];
            which += 1;
        }
        let mut bytes = fs::read(&files[which]).unwrap();
        bytes[at] ^= flip;
        fs::write(&files[which], bytes).unwrap();
        // A changed state.json may say the same in other words; any other file may not change at all.
        if let Ok(checkpoint) = Checkpoint::open(&folder) {
            prop_assert!(files[which].ends_with("state.json"));
            prop_assert_eq!(contents(&checkpoint).unwrap(), arrays);
        }
    }
}
