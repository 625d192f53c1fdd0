//! Folders of adapters: PEFT's names, checkpoints that hold nothing else, and the model that they are for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::tempdir;
use wikigpt_gpt::files::{
    Base, Checkpoint, Checkpoints, Extras, ModelKind, describe, export_adapters, link_model, load_adapted,
    load_model, save_model,
};
use wikigpt_gpt::{AdapterLayout, Config, Layout, Lora, Projection, merge};

use crate::foreign::{Arrays, Tensors, bytes, contents_of, params, reader, serialize, small, value};

fn lora() -> Lora {
    Lora { targets: vec![Projection::AttnCProj, Projection::MlpCProj], frozen: 1, ..Lora::new(3) }
}

fn classifier() -> Config {
    small().classifier(["yes", "no"].map(String::from).to_vec())
}

/// Adapters and their moments.
fn arrays(layout: &AdapterLayout) -> Arrays {
    [0, 1, 2].map(|array| {
        let mut values = vec![0.0; layout.len];
        for tensor in &layout.tensors {
            let live = values[tensor.live()].iter_mut();
            live.enumerate().for_each(|(at, out)| *out = (value(&tensor.name, at) + array as f32) / 3.0);
        }
        values
    })
}

/// Saves a model, and beside it a run of adapters for it; the two folders.
fn saved(top: &Path, config: &Config) -> (PathBuf, PathBuf) {
    let (base, run) = (top.join("base"), top.join("run"));
    save_model(&base, config, &params(config), &Extras::default()).unwrap();
    let layout = AdapterLayout::new(config, &lora()).unwrap();
    let of = Base::of(&base, config, &params(config)).unwrap();
    let checkpoints = Checkpoints::of(&run);
    let read = arrays(&layout);
    checkpoints.save_adapters(4, config, &layout, &of, &"state", &Extras::default(), reader(&read)).unwrap();
    (base, run)
}

/// The parameters with the adapters added to them.
fn merged(config: &Config, mut params: Vec<f32>) -> Vec<f32> {
    let layout = AdapterLayout::new(config, &lora()).unwrap();
    merge(config, &mut params, &layout, &arrays(&layout)[0]).unwrap();
    params
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_checkpoint_holds_what_was_trained_bit_for_bit_and_no_more() {
    let top = tempdir().unwrap();
    for (name, config) in [("language", small()), ("classifier", classifier())] {
        let (base, run) = saved(&top.path().join(name), &config);
        let checkpoint = Checkpoint::open(&Checkpoints::of(&run).path(4)).unwrap();
        let (layout, of) = checkpoint.adapters().unwrap();
        assert_eq!(checkpoint.config(), &config);
        assert_eq!(of.path, base.canonicalize().unwrap());
        assert_eq!(contents_of(&checkpoint, layout.len).unwrap(), arrays(layout));
        let model = checkpoint.base().unwrap();
        assert_eq!(model.config, config);
        assert!(model.params == params(&config));
        let bytes = |path: PathBuf| fs::metadata(path).unwrap().len();
        let adapters = bytes(checkpoint.folder().join("adapter_model.safetensors"));
        assert!(adapters < 4 * layout.len as u64 + 1500, "{adapters}");
        assert!(!checkpoint.folder().join("model.safetensors").exists());
    }
}

/// As `peft.get_peft_model_state_dict` and `LoraConfig.to_dict` have them.
#[test]
fn the_folder_is_pefts() {
    let top = tempdir().unwrap();
    let config = classifier();
    let (base, run) = saved(top.path(), &config);
    let folder = Checkpoints::of(&run).path(4);
    let file = fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let shapes: BTreeMap<_, _> = tensors.iter().map(|(name, view)| (name, view.shape().to_vec())).collect();
    let expected: BTreeMap<&str, Vec<usize>> = [
        ("base_model.model.score.weight", vec![2, 34]),
        ("base_model.model.transformer.h.1.attn.c_proj.lora_A.weight", vec![3, 34]),
        ("base_model.model.transformer.h.1.attn.c_proj.lora_B.weight", vec![34, 3]),
        ("base_model.model.transformer.h.1.mlp.c_proj.lora_A.weight", vec![3, 136]),
        ("base_model.model.transformer.h.1.mlp.c_proj.lora_B.weight", vec![34, 3]),
    ]
    .into();
    assert_eq!(shapes, expected);
    let settings: Value =
        serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
    let expected = json!({
        "peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": base.canonicalize().unwrap(),
        "r": 3, "lora_alpha": 3, "lora_dropout": 0.0, "target_modules": ["attn.c_proj", "mlp.c_proj"],
        "layers_to_transform": [1], "modules_to_save": ["score"], "fan_in_fan_out": true, "bias": "none",
        "inference_mode": true,
    });
    assert_eq!(settings, expected);
}

#[test]
fn adapters_are_read_as_the_model_that_they_make() {
    let top = tempdir().unwrap();
    for (name, config) in [("language", small()), ("classifier", classifier())] {
        let (_, run) = saved(&top.path().join(name), &config);
        let checkpoint = Checkpoints::of(&run).path(4);
        for path in [&run, &checkpoint] {
            let model = load_model(path).unwrap();
            assert_eq!((&model.config, &model.folder), (&config, &checkpoint));
            assert!(model.params == merged(&config, params(&config)), "{name}");
        }
        let description = describe(&run).unwrap();
        assert_eq!((description.kind, description.step), (ModelKind::Run, Some(4)));
        let adapters = description.adapters.unwrap();
        assert_eq!((adapters.rank, adapters.frozen), (3, 1));
        assert_eq!(adapters.targets, ["attn.c_proj", "mlp.c_proj"]);
        let layout = AdapterLayout::new(&config, &lora()).unwrap();
        assert_eq!(description.parameters as usize, layout.tensors.iter().map(|t| t.size()).sum::<usize>());
    }
}

#[test]
fn adapters_are_exported_by_themselves() {
    let top = tempdir().unwrap();
    let config = classifier();
    let (base, run) = saved(top.path(), &config);
    let out = top.path().join("out");
    export_adapters(&run, None, &out, &Extras::default()).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected =
        ["adapter_config.json", "adapter_model.safetensors", "config.json", "generation_config.json"];
    assert_eq!(names, expected);
    let name = "adapter_model.safetensors";
    assert_eq!(
        fs::read(out.join(name)).unwrap(),
        fs::read(Checkpoints::of(&run).path(4).join(name)).unwrap()
    );
    assert!(load_model(&out).unwrap().params == merged(&config, params(&config)));
    let error =
        export_adapters(&base, None, &top.path().join("no"), &Extras::default()).unwrap_err().to_string();
    assert!(error.contains("a model that is whole, not adapters"), "{error}");
    let error = export_adapters(&run, None, &out, &Extras::default()).unwrap_err().to_string();
    assert!(error.contains("already holds files"), "{error}");
    // For whoever has the model under another name.
    let named = top.path().join("named");
    export_adapters(&run, Some(Path::new("gpt2")), &named, &Extras::default()).unwrap();
    let settings: Value =
        serde_json::from_slice(&fs::read(named.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(settings["base_model_name_or_path"], "gpt2");
}

/// A run keeps the model of its adapters, whatever becomes of the folder that it was read from, and wherever the run goes.
#[test]
fn a_kept_model_moves_with_its_run() {
    let top = tempdir().unwrap();
    let config = small();
    let (base, run) = saved(top.path(), &config);
    assert!(link_model(&base, &run.join("base")).unwrap());
    let kept = fs::read(run.join("base/model.safetensors")).unwrap();
    assert_eq!(kept, fs::read(base.join("model.safetensors")).unwrap());
    fs::remove_dir_all(&base).unwrap();
    let moved = top.path().join("elsewhere/run");
    fs::create_dir(top.path().join("elsewhere")).unwrap();
    fs::rename(&run, &moved).unwrap();
    let model = load_model(&moved).unwrap();
    assert!(model.params == merged(&config, params(&config)));
    let checkpoint = Checkpoint::open(&Checkpoints::of(&moved).path(4)).unwrap();
    assert_eq!(checkpoint.base().unwrap().path, moved.join("base").canonicalize().unwrap());
    // Adapters are no files to link, for they need another model.
    assert!(!link_model(&moved, &top.path().join("no")).unwrap());
    assert!(!top.path().join("no").exists());
}

/// What adapters were trained with is what they go on with.
#[test]
fn alpha_comes_back() {
    let top = tempdir().unwrap();
    let config = small();
    let lora = Lora { alpha: 0.1 + 0.2, ..lora() };
    let layout = AdapterLayout::new(&config, &lora).unwrap();
    let base = Base { path: top.path().into(), crc32c: None };
    let (checkpoints, read) = (Checkpoints::of(top.path()), arrays(&layout));
    checkpoints
        .save_adapters(1, &config, &layout, &base, &"state", &Extras::default(), reader(&read))
        .unwrap();
    let folder = checkpoints.path(1);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    assert_eq!(checkpoint.adapters().unwrap(), (&layout, &base));
    assert_eq!(contents_of(&checkpoint, layout.len).unwrap(), read);
    edit(&folder.join("config.json"), |value| value["wikigpt"]["base_crc32c"] = json!("xyz"));
    fs::remove_file(folder.join("state.json")).unwrap();
    let error = describe(&folder).unwrap_err().to_string();
    assert!(error.contains("its base_crc32c is 'xyz'"), "{error}");
}

/// A classifier's adapters are trained beside a language model, and bring the head.
#[test]
fn a_language_model_becomes_a_classifier_by_adapters() {
    let top = tempdir().unwrap();
    let (base, run) = saved(top.path(), &classifier());
    fs::remove_dir_all(&base).unwrap();
    let untied = Config { tied: false, ..small() };
    for language in [small(), untied] {
        save_model(&base, &language, &params(&language), &Extras::default()).unwrap();
        let model = load_model(&run).unwrap();
        assert_eq!(model.config, classifier());
        assert!(model.params == merged(&classifier(), params(&classifier())));
        fs::remove_dir_all(&base).unwrap();
    }
}

#[test]
fn another_model_and_a_missing_one_are_refused() {
    let top = tempdir().unwrap();
    let config = small();
    let (base, run) = saved(top.path(), &config);
    let moved = top.path().join("moved");
    fs::rename(&base, &moved).unwrap();
    let error = load_model(&run).unwrap_err().to_string();
    assert!(error.contains("is not there: merge it with its adapters first, `wikigpt export "), "{error}");
    assert!(error.contains("base' is not there"), "{error}");
    assert!(load_adapted(&run, &moved).unwrap().params == merged(&config, params(&config)));
    let error = load_adapted(&moved, &moved).unwrap_err().to_string();
    assert!(error.contains("a model that is whole, not adapters"), "{error}");

    let mut other = params(&config);
    other[Layout::new(&config).unwrap().ln_f.weight.start] += 1.0;
    save_model(&base, &config, &other, &Extras::default()).unwrap();
    let error = load_model(&run).unwrap_err().to_string();
    assert!(error.contains("trained beside a model that is not the one in"), "{error}");
    fs::remove_dir_all(&base).unwrap();
    let wider = Config { n_embd: 36, ..small() };
    save_model(&base, &wider, &params(&wider), &Extras::default()).unwrap();
    let error = load_model(&run).unwrap_err().to_string();
    assert!(error.contains("they are for a GPT-2 of 2 layers, 2 heads, 34 channels"), "{error}");

    // For themselves, without an end.
    fs::remove_dir_all(&base).unwrap();
    let folder = Checkpoints::of(&run).path(4);
    let own = top.path().join("own");
    fs::create_dir(&own).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(folder.join(name), own.join(name)).unwrap();
    }
    edit(&own.join("adapter_config.json"), |value| value["base_model_name_or_path"] = json!("../own"));
    let error = load_model(&own).unwrap_err().to_string();
    assert!(error.contains("and so on without an end"), "{error}");
}

/// A folder that PEFT could have written: another alpha, the square root of the rank, f16, its older name of the head, no config.json,
/// and a path relative to the folder.
#[test]
fn what_peft_writes_is_read() {
    let top = tempdir().unwrap();
    let config = classifier();
    let (base, folder) = (top.path().join("base"), top.path().join("adapters"));
    save_model(&base, &config, &params(&config), &Extras::default()).unwrap();
    fs::create_dir(&folder).unwrap();
    let lora = Lora { targets: Projection::ALL.to_vec(), ..Lora::new(4) };
    let layout = AdapterLayout::new(&config, &lora).unwrap();
    let mut tensors = BTreeMap::new();
    let mut adapters = vec![0.0; layout.len];
    // 24/√4.
    let scale = 12.0;
    for tensor in &layout.tensors {
        let values: Vec<f32> = (0..tensor.size()).map(|at| value(&tensor.name, at) / 8.0).collect();
        let name = match tensor.name.as_str() {
            "score.weight" => "base_model.model.score.modules_to_save.weight".to_owned(),
            name => format!("base_model.model.transformer.{name}"),
        };
        let factor = if tensor.name.ends_with("lora_B.weight") { scale } else { 1.0 };
        adapters[tensor.live()].iter_mut().zip(&values).for_each(|(out, value)| *out = factor * value);
        tensors.insert(name, (Dtype::F16, tensor.shape.clone(), bytes(&values, Dtype::F16)));
    }
    fs::write(folder.join("adapter_model.safetensors"), serialize(&tensors)).unwrap();
    let settings = json!({
        "peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "../base", "r": 4, "lora_alpha": 24,
        "use_rslora": true, "use_dora": false, "rank_pattern": {}, "alpha_pattern": {}, "bias": "none",
        "modules_to_save": ["score", "classifier", "score"], "target_modules": ["c_attn", "c_proj", "c_fc"], "revision": null,
    });
    let path = folder.join("adapter_config.json");
    fs::write(&path, settings.to_string()).unwrap();
    let mut expected = params(&config);
    merge(&config, &mut expected, &layout, &adapters).unwrap();
    let model = load_model(&folder).unwrap();
    assert!(model.params == expected);
    assert_eq!(model.folder.canonicalize().unwrap(), base.canonicalize().unwrap());
    assert_eq!(describe(&folder).unwrap().kind, ModelKind::Adapters);

    // Beside a language model its labels have no names.
    fs::remove_dir_all(&base).unwrap();
    save_model(&base, &small(), &params(&small()), &Extras::default()).unwrap();
    let model = load_model(&folder).unwrap();
    assert_eq!(model.config.labels, ["LABEL_0", "LABEL_1"]);
    assert!(model.params == expected);

    for (key, bad, said) in [
        ("peft_type", json!("IA3"), "its peft_type is 'IA3'"),
        ("peft_type", Value::Null, "its peft_type is 'none'"),
        ("bias", json!("all"), "its bias is 'all'"),
        ("use_dora", json!(true), "its use_dora is true"),
        ("rank_pattern", json!({"c_attn": 2}), "rank_pattern"),
        ("alora_invocation_tokens", json!([5]), "its alora_invocation_tokens is [5]"),
        ("init_lora_weights", json!("pissa"), "'pissa', which changes the model's own weights"),
        ("r", json!(0), "the rank of adapters must be between 1 and"),
        ("r", json!(5), "has the shape [4, 34]; the model asks for [5, 34]"),
        ("r", json!("4"), "not the configuration of LoRA adapters"),
        ("lora_alpha", json!(-1.0), "the alpha of adapters must be above 0"),
        ("base_model_name_or_path", json!("gpt2"), "its model 'gpt2' is not there"),
        ("base_model_name_or_path", Value::Null, "its model '' is not there"),
    ] {
        let good = fs::read(&path).unwrap();
        edit(&path, |value| value[key] = bad);
        let error = load_model(&folder).unwrap_err().to_string();
        assert!(error.contains(said), "{key}: {error}");
        fs::write(&path, good).unwrap();
    }
    type Change = fn(&mut Tensors);
    let changes: [(&str, Change); 4] = [
        ("h.1.mlp.c_fc.lora_B.weight is missing", |tensors| {
            let lost = tensors.keys().find(|name| name.contains("h.1.mlp.c_fc.lora_B")).unwrap().clone();
            tensors.remove(&lost);
        }),
        ("no tensor base_model.model.h.7.", |tensors| {
            let first = tensors.values().next().unwrap().clone();
            tensors.insert("base_model.model.transformer.h.7.attn.c_attn.lora_A.weight".into(), first);
        }),
        ("it holds no adapter", |tensors| tensors.clear()),
        ("score.weight has the shape [1000000000000, 0]", |tensors| {
            let name = "base_model.model.score.modules_to_save.weight";
            tensors.insert(name.into(), (Dtype::F16, vec![1_000_000_000_000, 0], Vec::new()));
        }),
    ];
    for (said, change) in changes {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        fs::write(folder.join("adapter_model.safetensors"), serialize(&tensors)).unwrap();
        let error = load_model(&folder).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
