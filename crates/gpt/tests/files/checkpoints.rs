//! Checkpoints: bit for bit, whole or not at all, and what a kill leaves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tempfile::tempdir;
use wikigpt_gpt::files::{Checkpoint, Checkpoints, Extras, ModelKind, describe, load_model, model_path};
use wikigpt_gpt::{Array, Config, Error, Layout, Result};

use crate::foreign::{Arrays, contents, params, reader, small, tensors};

/// What a trainer would save.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct State {
    epoch: u64,
    index: u64,
    seed: u64,
    loss: f64,
}

fn state(step: u64) -> State {
    State { epoch: step / 7, index: u64::MAX - step, seed: 42, loss: 1.0 / 3.0 }
}

/// Parameters and moments of a step: every value depends on it.
fn arrays(config: &Config, step: u64) -> Arrays {
    let layout = Layout::new(config).unwrap();
    [0, 1, 2].map(|array| {
        let mut values = params(config);
        for tensor in &layout.tensors {
            values[tensor.live()]
                .iter_mut()
                .for_each(|value| *value = (*value + array as f32) / (step as f32 + 3.0));
        }
        values
    })
}

fn save(checkpoints: &Checkpoints, config: &Config, step: u64) -> Result<PathBuf> {
    save_arrays(checkpoints, config, step, &arrays(config, step))
}

fn save_arrays(checkpoints: &Checkpoints, config: &Config, step: u64, arrays: &Arrays) -> Result<PathBuf> {
    checkpoints.save(step, config, &state(step), &Extras::default(), reader(arrays))
}

fn bits(arrays: &Arrays) -> [Vec<u32>; 3] {
    arrays.each_ref().map(|values| values.iter().map(|value| value.to_bits()).collect())
}

/// Panics unless a checkpoint holds what its step's does.
fn check(checkpoint: &Checkpoint, config: &Config) {
    assert_eq!(checkpoint.config(), config);
    assert_eq!(bits(&contents(checkpoint).unwrap()), bits(&arrays(config, checkpoint.step())));
    assert_eq!(checkpoint.state::<State>().unwrap(), state(checkpoint.step()));
}

fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
    checkpoints.list().unwrap().into_iter().map(|(step, _)| step).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_bit_comes_back() {
    for (bias, tied) in [(true, true), (true, false), (false, true)] {
        let config = Config { bias, tied, ..small() };
        let run = tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path());
        let layout = Layout::new(&config).unwrap();
        let mut arrays = arrays(&config, 1);
        // Negative zero, the smallest and the largest values.
        for (at, odd) in [-0.0, f32::from_bits(1), f32::MAX, f32::MIN_POSITIVE].into_iter().enumerate() {
            arrays[0][layout.blocks[1].attn_c_proj.weight.start + at] = odd;
        }
        let folder = save_arrays(&checkpoints, &config, 1, &arrays).unwrap();
        assert_eq!(folder, run.path().join("checkpoints/step-00000001"));
        let checkpoint = Checkpoint::open(&folder).unwrap();
        assert_eq!(bits(&contents(&checkpoint).unwrap()), bits(&arrays));
        assert_eq!(checkpoint.state::<State>().unwrap(), state(1));
        let model = load_model(&folder).unwrap();
        let [_, m, v] = arrays.clone();
        assert_eq!((model.config, bits(&[model.params, m, v])), (config, bits(&arrays)));
    }
}

#[test]
fn arrays_larger_than_a_piece_are_read_in_pieces_and_only_once() {
    const PIECE: usize = 1 << 16;
    let config = Config { vocab_size: 2 * PIECE / 34 + 1, ..small() };
    let layout = Layout::new(&config).unwrap();
    let arrays = [(); 3].map(|()| params(&config));
    let (run, mut from) = (tempdir().unwrap(), reader(&arrays));
    let mut times = [(); 3].map(|()| vec![0; layout.len]);
    let read = |array: Array, start: usize, out: &mut [f32]| {
        assert!(out.len() <= PIECE);
        times[array as usize][start..start + out.len()].iter_mut().for_each(|times| *times += 1);
        from(array, start, out)
    };
    let folder = Checkpoints::of(run.path()).save(1, &config, &(), &Extras::default(), read).unwrap();
    for tensor in &layout.tensors {
        assert!(times.iter().all(|times| times[tensor.live()].iter().all(|times| *times == 1)));
    }
    let expected = tensors(&config, "transformer.", Dtype::F32);
    for (name, prefix) in [("model", ""), ("optimizer", "m."), ("optimizer", "v.")] {
        let bytes = fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for (name, (_, shape, bytes)) in &expected {
            let found = file.tensor(&format!("{prefix}{name}")).unwrap();
            assert!(found.shape() == shape && found.data() == bytes, "{prefix}{name}");
        }
    }
}

#[test]
fn a_head_of_its_own_stays_one_even_where_it_equals_the_embedding() {
    let config = Config { tied: false, ..small() };
    let run = tempdir().unwrap();
    let layout = Layout::new(&config).unwrap();
    let mut arrays = arrays(&config, 1);
    arrays[0].copy_within(layout.wte.clone(), layout.head.unwrap().start);
    let folder = save_arrays(&Checkpoints::of(run.path()), &config, 1, &arrays).unwrap();
    assert_eq!(load_model(&folder).unwrap().config, config);
}

#[test]
fn a_run_is_its_newest_checkpoint_and_the_newest_are_kept() {
    let (run, config) = (tempdir().unwrap(), small());
    let checkpoints = Checkpoints::of(run.path());
    assert!(checkpoints.newest_good().unwrap().is_none());
    for step in [5, 10, 100_000_000, 15] {
        save(&checkpoints, &config, step).unwrap();
    }
    assert_eq!(steps(&checkpoints), [5, 10, 15, 100_000_000]);
    let newest = checkpoints.newest_good().unwrap().unwrap();
    assert_eq!((newest.checkpoint.step(), newest.warnings.len()), (100_000_000, 0));
    check(&newest.checkpoint, &config);
    let path = model_path(run.path()).unwrap();
    assert_eq!(
        (path.kind, path.step, path.folder),
        (ModelKind::Run, Some(100_000_000), checkpoints.path(100_000_000))
    );
    assert_eq!(model_path(&checkpoints.path(5)).unwrap().kind, ModelKind::Checkpoint);
    assert_eq!(load_model(run.path()).unwrap().params, arrays(&config, 100_000_000)[0]);

    checkpoints.prune(2).unwrap();
    assert_eq!(steps(&checkpoints), [15, 100_000_000]);
    checkpoints.prune(0).unwrap();
    assert_eq!(names(&run.path().join("checkpoints")), ["step-100000000"]);

    let description = serde_json::to_value(describe(run.path()).unwrap()).unwrap();
    assert_eq!(description["kind"], "run");
    assert_eq!(description["step"], 100_000_000);
    assert_eq!(description["state"]["seed"], 42);
    assert_eq!(description["checkpoints"]["100000000"], serde_json::Value::Null);
}

#[test]
fn a_run_is_its_best_checkpoint_where_the_newest_names_one() {
    let (run, config) = (tempdir().unwrap(), small());
    let checkpoints = Checkpoints::of(run.path());
    for (step, best) in [(5, Some(5)), (10, Some(10)), (15, Some(10)), (20, Some(10)), (25, Some(99))] {
        let extras = Extras { best, ..Extras::default() };
        let arrays = arrays(&config, step);
        checkpoints.save(step, &config, &state(step), &extras, reader(&arrays)).unwrap();
    }
    let best = || checkpoints.best_good().unwrap().unwrap();
    // One that is not there is no model.
    assert_eq!((best().checkpoint.step(), best().warnings.len()), (25, 0));
    fs::remove_dir_all(checkpoints.path(25)).unwrap();
    assert_eq!((best().checkpoint.step(), best().warnings.len()), (10, 0));
    check(&best().checkpoint, &config);
    assert_eq!(
        (model_path(run.path()).unwrap().step, load_model(run.path()).unwrap().params),
        (Some(10), arrays(&config, 10)[0].clone())
    );
    let newest = checkpoints.newest_good().unwrap().unwrap().checkpoint;
    assert_eq!((newest.step(), newest.best()), (20, Some(10)));
    // The best is kept, however old it is.
    checkpoints.prune(1).unwrap();
    assert_eq!(steps(&checkpoints), [10, 20]);
    checkpoints.prune(1).unwrap();
    assert_eq!(steps(&checkpoints), [10, 20]);
    // A damaged newest one still says which was the best; a damaged best one makes way.
    fs::write(checkpoints.path(20).join("optimizer.safetensors"), "gone").unwrap();
    assert_eq!(best().checkpoint.step(), 10);
    fs::write(checkpoints.path(10).join("model.safetensors"), "gone").unwrap();
    let message = checkpoints.best_good().unwrap_err().to_string();
    assert!(message.contains("no checkpoint is whole"), "{message}");
    save(&checkpoints, &config, 20).unwrap();
    assert_eq!(best().checkpoint.step(), 20);
    let extras = Extras { best: Some(10), ..Extras::default() };
    checkpoints.save(20, &config, &state(20), &extras, reader(&arrays(&config, 20))).unwrap();
    let found = best();
    assert_eq!((found.checkpoint.step(), found.warnings.len()), (20, 1));
    assert!(found.warnings[0].contains("step-00000010"), "{:?}", found.warnings);
}

#[test]
fn a_damaged_one_is_passed_over_with_a_warning_that_names_it() {
    type Damage = fn(&Path);
    fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
    let damages: [(Damage, &str); 8] = [
        (|f| fs::remove_file(f.join("state.json")).unwrap(), "state.json: No such file"),
        (|f| fs::write(f.join("state.json"), "{").unwrap(), "state.json: cannot be understood"),
        (|f| fs::remove_file(f.join("config.json")).unwrap(), "config.json: No such file"),
        (|f| fs::remove_file(f.join("model.safetensors")).unwrap(), "model.safetensors: No such file"),
        (
            |f| change(&f.join("model.safetensors"), |b| b.truncate(9_000)),
            "model.safetensors: it has 9000 bytes instead",
        ),
        (|f| change(&f.join("optimizer.safetensors"), |b| b.push(0)), "optimizer.safetensors: it has"),
        (|f| change(&f.join("model.safetensors"), |b| *b.last_mut().unwrap() ^= 1), "have changed since"),
        (|f| change(&f.join("config.json"), |b| b[20] ^= 1), "config.json: its contents have changed"),
    ];
    let config = small();
    for (damage, expected) in damages {
        let run = tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path());
        [10, 20].iter().for_each(|step| _ = save(&checkpoints, &config, *step).unwrap());
        damage(&checkpoints.path(20));
        let newest = checkpoints.newest_good().unwrap().unwrap();
        check(&newest.checkpoint, &config);
        assert_eq!((newest.checkpoint.step(), newest.warnings.len()), (10, 1));
        let warning = &newest.warnings[0];
        assert!(
            warning.contains("step-00000020") && warning.contains(expected),
            "{warning} lacks {expected}"
        );
        assert_eq!(load_model(run.path()).unwrap().warnings, newest.warnings);
        // It does not count as one that is kept, and makes way for a good one of its step.
        checkpoints.prune(1).unwrap();
        assert_eq!(checkpoints.newest_good().unwrap().unwrap().checkpoint.step(), 10);
        save(&checkpoints, &config, 20).unwrap();
        check(&checkpoints.newest_good().unwrap().unwrap().checkpoint, &config);
        damage(&checkpoints.path(20));
        fs::remove_dir_all(checkpoints.path(10)).unwrap();
        let message = checkpoints.newest_good().unwrap_err().to_string();
        assert!(message.contains("no checkpoint is whole") && message.contains("step-00000020"), "{message}");
    }
}

#[test]
fn nothing_is_written_once_training_has_diverged() {
    let (run, config) = (tempdir().unwrap(), small());
    let checkpoints = Checkpoints::of(run.path());
    save(&checkpoints, &config, 10).unwrap();
    let layout = Layout::new(&config).unwrap();
    for (array, name) in
        ["h.0.mlp.c_fc.weight", "m.h.0.mlp.c_fc.weight", "v.h.0.mlp.c_fc.weight"].iter().enumerate()
    {
        let mut arrays = arrays(&config, 20);
        arrays[array][layout.blocks[0].c_fc.weight.start] = f32::INFINITY;
        let message = save_arrays(&checkpoints, &config, 20, &arrays).unwrap_err().to_string();
        assert!(message.contains(&format!("{name} holds inf")), "{message}");
    }
    assert_eq!(names(&run.path().join("checkpoints")), ["step-00000010"]);
}

#[test]
fn nan_in_a_checkpoint_is_refused_when_it_is_read() {
    // As if an older program had written it: whole, digests and all.
    let (run, config) = (tempdir().unwrap(), small());
    let folder = save(&Checkpoints::of(run.path()), &config, 10).unwrap();
    for (name, tensor) in [("optimizer", "v.ln_f.bias"), ("model", "ln_f.bias")] {
        let path = folder.join(format!("{name}.safetensors"));
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let state = folder.join("state.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
        json["files"][format!("{name}.safetensors")]["crc32c"] = crc32c::crc32c(&bytes).into();
        fs::write(&state, json.to_string()).unwrap();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let message = contents(&checkpoint).unwrap_err().to_string();
        assert!(message.contains(&format!("{tensor} holds NaN")), "{message}");
    }
}

#[test]
fn what_a_kill_left_is_cleared_away_and_nothing_else() {
    let (run, config) = (tempdir().unwrap(), small());
    let checkpoints = Checkpoints::of(run.path());
    let folder = run.path().join("checkpoints");
    [10, 20].iter().for_each(|step| _ = save(&checkpoints, &config, *step).unwrap());
    // Killed while writing step 30, and between the two renames that replace step 20.
    fs::create_dir(folder.join(".tmp-step-00000030")).unwrap();
    fs::write(folder.join(".tmp-step-00000030/model.safetensors"), "half").unwrap();
    fs::rename(checkpoints.path(20), folder.join(".old-step-00000020")).unwrap();
    fs::create_dir(folder.join("notes")).unwrap();
    fs::create_dir(folder.join("step-20")).unwrap();
    let newest = checkpoints.newest_good().unwrap().unwrap();
    assert_eq!((newest.checkpoint.step(), newest.warnings.len()), (20, 0));
    check(&newest.checkpoint, &config);
    save(&checkpoints, &config, 40).unwrap();
    assert_eq!(names(&folder), ["notes", "step-00000010", "step-00000020", "step-00000040", "step-20"]);
    // Killed after the second rename.
    fs::create_dir(folder.join(".old-step-00000040")).unwrap();
    check(&checkpoints.newest_good().unwrap().unwrap().checkpoint, &config);
    save(&checkpoints, &config, 40).unwrap();
    assert_eq!(names(&folder), ["notes", "step-00000010", "step-00000020", "step-00000040", "step-20"]);
}

#[test]
fn a_failure_on_the_way_leaves_the_last_one() {
    let (run, config) = (tempdir().unwrap(), small());
    let checkpoints = Checkpoints::of(run.path());
    save(&checkpoints, &config, 10).unwrap();
    let arrays = arrays(&config, 10);
    let fill = |folder: &Path| {
        assert!(folder.join("model.safetensors").exists());
        Err("the tokenizer has gone".into())
    };
    let extras = Extras { fill: Some(&fill), ..Extras::default() };
    let error = checkpoints.save(10, &config, &state(11), &extras, reader(&arrays)).unwrap_err();
    assert!(
        matches!(error, Error::Fill { .. }) && error.to_string().contains("the tokenizer has gone"),
        "{error}"
    );
    let mut from = reader(&arrays);
    let read = |array, start, out: &mut [f32]| match array {
        Array::V => Err(Error::Config("the device has gone".into())),
        _ => from(array, start, out),
    };
    let error = checkpoints.save(10, &config, &state(11), &Extras::default(), read).unwrap_err();
    assert_eq!(error.to_string(), "the device has gone");
    assert_eq!(names(&run.path().join("checkpoints")), ["step-00000010"]);
    check(&checkpoints.newest_good().unwrap().unwrap().checkpoint, &config);
}

/// Runs itself in another process, which saves without end and is killed, again and again at another instant.
#[test]
fn a_kill_at_any_instant_leaves_a_good_checkpoint() {
    const RUN: &str = "WIKIGPT_TEST_SAVES_TO";
    let config = small();
    if let Some(run) = std::env::var_os(RUN) {
        let checkpoints = Checkpoints::of(Path::new(&run));
        // Two steps in turn, so that each save replaces a checkpoint.
        for step in [1, 2].into_iter().cycle() {
            save(&checkpoints, &config, step).unwrap();
            println!("saved");
        }
    }
    let run = tempdir().unwrap();
    let checkpoints = Checkpoints::of(run.path());
    save(&checkpoints, &config, 2).unwrap();
    let mut interrupted = 0;
    for round in 0..40 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "checkpoints::a_kill_at_any_instant_leaves_a_good_checkpoint", "--nocapture"])
            .env(RUN, run.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(output.any(|line| line.unwrap().contains("saved")));
        std::thread::sleep(Duration::from_micros(737 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let newest = checkpoints.newest_good().unwrap().unwrap();
        assert_eq!((newest.checkpoint.step(), newest.warnings), (2, Vec::<String>::new()), "round {round}");
        check(&newest.checkpoint, &config);
        interrupted +=
            usize::from(names(&run.path().join("checkpoints")).iter().any(|name| name.starts_with('.')));
    }
    assert!(interrupted > 0, "no kill came while a checkpoint was being written");
    save(&checkpoints, &config, 3).unwrap();
    assert_eq!(names(&run.path().join("checkpoints")), ["step-00000001", "step-00000002", "step-00000003"]);
}
