//! Import and export of Hugging Face folders.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::tempdir;
use wikigpt_gpt::files::{
    Extras, Model, ModelKind, describe, load_model, load_weights, model_path, save_model,
};
use wikigpt_gpt::{Config, Layout};

use crate::foreign::{Tensors, config_json, params, serialize, small, tensors, value, write};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpt2-tiny")
}

fn refusal(path: &Path) -> String {
    let message = load_model(path).expect_err("this model must be refused").to_string();
    assert!(!message.contains('\n') && message.contains(&*path.to_string_lossy()), "{message}");
    message
}

/// Writes a changed model and returns how it is refused.
fn refused(change: impl FnOnce(&mut Value, &mut Tensors)) -> String {
    let folder = tempdir().unwrap();
    let config = small();
    let (mut json, mut tensors) = (config_json(&config), tensors(&config, "transformer.", Dtype::F32));
    change(&mut json, &mut tensors);
    write(folder.path(), &json, &tensors);
    refusal(folder.path())
}

#[test]
fn what_transformers_saved_has_the_weights_that_it_computes_with() {
    let model = load_model(&fixture()).unwrap();
    assert!(model.config.tied && model.config.bias);
    assert_eq!((model.config.vocab_size, model.config.context, model.config.n_embd), (16, 8, 8));
    let text = fs::read_to_string(fixture().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let layout = Layout::new(&model.config).unwrap();
    let linear = expected["linear"].as_object().unwrap();
    assert_eq!(linear.len(), 4);
    for (name, responses) in linear {
        let tensor = layout.tensors.iter().find(|t| t.name == format!("{name}.weight")).unwrap();
        let [_, inputs] = tensor.shape[..] else { panic!("a matrix") };
        for (at, weight) in model.params[tensor.live()].iter().enumerate() {
            let (o, i) = (at / inputs, at % inputs);
            let response = responses[i][o].as_f64().unwrap();
            assert!(
                (response - f64::from(*weight)).abs() < 2e-6,
                "{name}, {i} to {o}: {weight}, not {response}"
            );
        }
    }
    assert!(model.params[layout.wte.start + 16 * 8..layout.wte.end].iter().all(|padding| *padding == 0.0));
}

#[test]
fn every_type_prefix_and_head_is_read() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for prefix in ["", "transformer."] {
            for tied in [true, false] {
                let config = Config { tied, ..small() };
                let folder = tempdir().unwrap();
                write(folder.path(), &config_json(&config), &tensors(&config, prefix, dtype));
                let model = load_model(folder.path()).unwrap();
                assert_eq!(model.config, config);
                assert_eq!(model.params, params(&config), "{dtype} {prefix} {tied}");
                let path = folder.path().join("model.safetensors");
                assert_eq!(load_model(&path).unwrap(), Model { path, ..model });
            }
        }
    }
}

#[test]
fn a_head_that_equals_the_embedding_is_tied_unless_the_configuration_says_otherwise() {
    let config = small();
    for dtype in [Dtype::F32, Dtype::BF16] {
        let mut tensors = tensors(&config, "transformer.", Dtype::F32);
        let values: Vec<_> = (0..65 * 34).map(|at| value("wte.weight", at)).collect();
        let head = (dtype, vec![65, 34], crate::foreign::bytes(&values, dtype));
        tensors.insert("lm_head.weight".into(), head);
        for (tie, tied) in [(json!(null), true), (json!(true), true), (json!(false), false)] {
            let folder = tempdir().unwrap();
            let mut json = config_json(&config);
            json["tie_word_embeddings"] = tie;
            write(folder.path(), &json, &tensors);
            assert_eq!(load_model(folder.path()).unwrap().config.tied, tied);
        }
    }
}

#[test]
fn masks_that_old_files_carry_are_passed_over() {
    let folder = tempdir().unwrap();
    let config = small();
    let mut tensors = tensors(&config, "", Dtype::F32);
    tensors.insert("h.1.attn.bias".into(), (Dtype::BOOL, vec![1, 1, 9, 9], vec![1; 81]));
    tensors.insert("h.0.attn.masked_bias".into(), (Dtype::F32, vec![], vec![0; 4]));
    write(folder.path(), &config_json(&config), &tensors);
    assert_eq!(load_model(folder.path()).unwrap().params, params(&config));
}

#[test]
fn shards_are_read_and_must_agree_with_their_index() {
    let folder = tempdir().unwrap();
    let config = small();
    let all = tensors(&config, "transformer.", Dtype::F32);
    let mut map = json!({});
    for shard in 0..3 {
        let name = format!("model-{:05}-of-00003.safetensors", shard + 1);
        let part: Tensors = all.clone().into_iter().skip(shard).step_by(3).collect();
        part.keys().for_each(|tensor| map[tensor] = json!(name));
        fs::write(folder.path().join(name), serialize(&part)).unwrap();
    }
    let index = folder.path().join("model.safetensors.index.json");
    let write_index =
        |map: &Value| fs::write(&index, json!({ "metadata": {}, "weight_map": map }).to_string()).unwrap();
    fs::write(folder.path().join("config.json"), config_json(&config).to_string()).unwrap();
    write_index(&map);
    assert_eq!(load_model(folder.path()).unwrap().params, params(&config));

    let mut moved = map.clone();
    moved["transformer.wpe.weight"] = json!("model-00001-of-00003.safetensors");
    moved["transformer.wte.weight"] = json!("model-00001-of-00003.safetensors");
    write_index(&moved);
    assert!(refusal(folder.path()).contains("it is not there"));
    moved["transformer.wte.weight"] = json!("../other.safetensors");
    write_index(&moved);
    assert!(refusal(folder.path()).contains("not the plain name"));
    write_index(&map);
    fs::remove_file(folder.path().join("model-00002-of-00003.safetensors")).unwrap();
    assert!(refusal(folder.path()).contains("model-00002-of-00003.safetensors: No such file"));
}

#[test]
fn biases_of_qkv_may_be_missing_from_all_layers_and_are_zero() {
    let folder = tempdir().unwrap();
    let config = small();
    let mut held = tensors(&config, "transformer.", Dtype::F32);
    held.retain(|name, _| !name.ends_with(".c_attn.bias"));
    write(folder.path(), &config_json(&config), &held);
    let mut expected = params(&config);
    for block in &Layout::new(&config).unwrap().blocks {
        expected[block.c_attn.bias.clone().unwrap()].fill(0.0);
    }
    let model = load_model(folder.path()).unwrap();
    assert!(model.config.bias && model.params == expected);
    assert!(model.warnings[0].contains("the biases of c_attn are not in it"), "{:?}", model.warnings);
    let (alone, warning) = load_weights(&folder.path().join("model.safetensors"), &config).unwrap();
    assert!(alone == expected && warning.as_ref() == Some(&model.warnings[0]));

    let message = refused(|_, tensors| drop(tensors.remove("transformer.h.1.attn.c_attn.bias")));
    assert!(message.contains("h.1.attn.c_attn.bias is missing"), "{message}");
}

#[test]
fn every_wrong_tensor_is_named() {
    let message = refused(|_, tensors| _ = tensors.remove("transformer.h.1.ln_2.bias"));
    assert!(message.contains("h.1.ln_2.bias is missing"), "{message}");

    let message = refused(|_, tensors| {
        _ = tensors.insert("classifier.weight".into(), (Dtype::F32, vec![1], vec![0; 4]))
    });
    assert!(message.contains("no tensor classifier.weight"), "{message}");

    let message =
        refused(|_, tensors| tensors.get_mut("transformer.h.0.attn.c_attn.weight").unwrap().1.reverse());
    assert!(message.contains("h.0.attn.c_attn.weight has the shape [102, 34]"), "{message}");

    let message = refused(|_, tensors| {
        let (dtype, shape, bytes) = tensors.get_mut("transformer.ln_f.weight").unwrap();
        (*dtype, *bytes) = (Dtype::F64, vec![0; shape[0] * 8]);
    });
    assert!(message.contains("ln_f.weight is of type F64"), "{message}");

    for (bad, text) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let message = refused(|_, tensors| {
            let (_, _, bytes) = tensors.get_mut("transformer.h.1.mlp.c_proj.weight").unwrap();
            let last = bytes.len() - 4;
            bytes[last..].copy_from_slice(&bad.to_le_bytes());
        });
        assert!(message.contains(&format!("h.1.mlp.c_proj.weight holds {text}")), "{message}");
    }

    let message = refused(|_, tensors| {
        let twice = tensors["transformer.wpe.weight"].clone();
        tensors.insert("wpe.weight".into(), twice);
    });
    assert!(message.contains("both wpe.weight and transformer.wpe.weight"), "{message}");

    let message = refused(|json, _| json["tie_word_embeddings"] = json!(false));
    assert!(message.contains("lm_head.weight is missing"), "{message}");
}

#[test]
fn settings_that_cannot_be_computed_are_refused() {
    let cases = [
        ("model_type", json!("llama"), "model_type is 'llama'"),
        ("model_type", json!(null), "no model_type"),
        ("activation_function", json!("gelu"), "activation_function is 'gelu'"),
        ("activation_function", json!("relu"), "activation_function is 'relu'"),
        ("n_inner", json!(64), "n_inner is 64"),
        ("n_ctx", json!(1024), "n_ctx is 1024 but n_positions 9"),
        ("scale_attn_weights", json!(false), "scale_attn_weights is false"),
        ("scale_attn_by_inverse_layer_idx", json!(true), "scale_attn_by_inverse_layer_idx is true"),
        ("add_cross_attention", json!(true), "add_cross_attention is true"),
        ("layer_norm_epsilon", json!(0), "layernorm_eps"),
        ("n_head", json!(3), "cannot be shared out among 3 heads"),
        ("n_layer", json!(3), "h.2.ln_1.weight is missing"),
        ("n_layer", json!(65_536), "n_layer is 65536, but the weights are 28 tensors"),
        ("n_layer", json!(1), "no tensor h.1.attn.c_attn.bias, and 11 more"),
        ("n_embd", json!(4_000_000_000u32), "more parameters than this machine can count"),
        ("vocab_size", json!(66), "wte.weight has the shape [65, 34]"),
        ("vocab_size", json!(-1), "not the configuration of a GPT-2"),
        ("n_positions", json!("nine"), "not the configuration of a GPT-2"),
    ];
    for (key, setting, expected) in cases {
        let message = refused(|json, _| json[key] = setting.clone());
        assert!(message.contains(expected), "{key}: {setting}: {message}");
    }
}

#[test]
fn settings_that_change_nothing_are_accepted() {
    for (key, setting) in [
        ("activation_function", json!("gelu_pytorch_tanh")),
        ("n_inner", json!(136)),
        ("n_ctx", json!(9)),
        ("scale_attn_weights", json!(true)),
        ("reorder_and_upcast_attn", json!(true)),
        ("resid_pdrop", json!(0.5)),
    ] {
        let folder = tempdir().unwrap();
        let config = small();
        let mut json = config_json(&config);
        json[key] = setting;
        write(folder.path(), &json, &tensors(&config, "", Dtype::F32));
        load_model(folder.path()).unwrap();
    }
}

#[test]
fn what_is_saved_is_what_hugging_face_would_hold_and_loads_back_bit_for_bit() {
    for (bias, tied, eps) in
        [(true, true, 1e-5), (true, false, 3e-6), (false, true, 1e-5), (false, false, 1e-5)]
    {
        let config = Config { bias, tied, layernorm_eps: eps, ..small() };
        let top = tempdir().unwrap();
        let folder = top.path().join("a/export");
        save_model(&folder, &config, &params(&config), &Extras::default()).unwrap();

        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut expected = tensors(&config, "transformer.", Dtype::F32);
        if !bias {
            for (name, (_, shape, _)) in
                tensors(&Config { bias: true, ..config.clone() }, "transformer.", Dtype::F32)
            {
                let zeros = vec![0; 4 * shape.iter().product::<usize>()];
                expected.entry(name).or_insert((Dtype::F32, shape, zeros));
            }
        }
        let written: Tensors = file
            .iter()
            .map(|(name, view)| {
                (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
            })
            .collect();
        assert!(written == expected, "bias {bias}, tied {tied}");
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");

        let model = load_model(&folder).unwrap();
        assert_eq!(model.config, config);
        assert_eq!(model.params, params(&config));
        assert_eq!(fs::read_dir(top.path().join("a")).unwrap().count(), 1, "nothing is left beside it");
    }
}

#[test]
fn biases_that_a_model_without_them_was_given_elsewhere_are_kept() {
    let folder = tempdir().unwrap();
    let config = small();
    let mut json = config_json(&config);
    json["wikigpt"] = json!({ "bias": false });
    write(folder.path(), &json, &tensors(&config, "", Dtype::F32));
    let model = load_model(folder.path()).unwrap();
    assert_eq!((&model.config, model.params), (&config, params(&config)));
}

#[test]
fn the_tokenizer_and_its_ids_go_with_the_model() {
    let top = tempdir().unwrap();
    let folder = top.path().join("export");
    let config = small();
    let tokenizer =
        json!({ "added_tokens": [{ "id": 64, "content": "<|endoftext|>" }], "model": {} }).to_string();
    let fill = |folder: &Path| Ok(fs::write(folder.join("notes.txt"), "x")?);
    let extras = Extras {
        bos_token_id: Some(64),
        eos_token_id: Some(64),
        tokenizer_json: Some(&tokenizer),
        fill: Some(&fill),
        best: None,
    };
    save_model(&folder, &config, &params(&config), &extras).unwrap();
    let json =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap() };
    assert_eq!(json("config.json")["eos_token_id"], 64);
    assert_eq!(json("generation_config.json")["bos_token_id"], 64);
    assert_eq!(json("tokenizer_config.json")["eos_token"], "<|endoftext|>");
    assert_eq!(fs::read_to_string(folder.join("tokenizer.json")).unwrap(), tokenizer);
    assert!(folder.join("notes.txt").exists());

    let other = top.path().join("other");
    let extras = Extras { tokenizer_json: Some("{"), ..Extras::default() };
    let message = save_model(&other, &config, &params(&config), &extras).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json: not written, because it is no JSON"), "{message}");
    let fill = |_: &Path| Err("no tokenizer today".into());
    let extras = Extras { fill: Some(&fill), ..Extras::default() };
    let message = save_model(&other, &config, &params(&config), &extras).unwrap_err().to_string();
    assert!(message.contains("no tokenizer today"), "{message}");
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1, "nothing is left of what failed");
}

#[test]
fn a_place_that_holds_something_is_left_alone() {
    let top = tempdir().unwrap();
    let config = small();
    let save = |place: &Path| save_model(place, &config, &params(&config), &Extras::default());
    fs::write(top.path().join("file"), "x").unwrap();
    for (place, expected) in [("", "already holds files"), ("file", "is a file"), ("file/below", "is a file")]
    {
        let message = save(&top.path().join(place)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let mut diverged = params(&config);
    diverged[3] = f32::NAN;
    let place = top.path().join("new");
    let message = save_model(&place, &config, &diverged, &Extras::default()).unwrap_err().to_string();
    assert!(message.contains("wte.weight holds NaN"), "{message}");
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
    // An empty folder is as good as none.
    fs::create_dir(&place).unwrap();
    save(&place).unwrap();
    load_model(&place).unwrap();
}

#[test]
fn paths_that_are_no_model_are_told_apart() {
    let top = tempdir().unwrap();
    let path = |name: &str| top.path().join(name);
    for folder in ["empty", "torch", "half", "run/checkpoints"] {
        fs::create_dir_all(path(folder)).unwrap();
    }
    for name in
        ["torch/config.json", "torch/pytorch_model.bin", "half/config.json", "lone.safetensors", "tokens.bin"]
    {
        fs::write(path(name), "{}").unwrap();
    }
    let cases = [
        ("absent", "No such file"),
        ("empty", "not a model: a run folder"),
        ("torch", "pytorch_model.bin cannot be read"),
        ("half", "neither model.safetensors nor"),
        ("run", "no checkpoint yet"),
        ("lone.safetensors", "no config.json beside it"),
        ("tokens.bin", "a folder or a .safetensors file"),
    ];
    for (name, expected) in cases {
        let message = refusal(&path(name));
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(model_path(&fixture()).unwrap().kind, ModelKind::HuggingFace);
    let weights = model_path(&fixture().join("model.safetensors")).unwrap();
    assert_eq!((weights.kind, weights.folder), (ModelKind::Safetensors, fixture()));
}

#[test]
fn a_folder_and_a_lone_file_are_described() {
    let folder = describe(&fixture()).unwrap();
    assert_eq!((folder.kind, folder.parameters, folder.tensors.len()), (ModelKind::HuggingFace, 1_080, 16));
    assert_eq!(folder.bytes, fs::metadata(fixture().join("model.safetensors")).unwrap().len());
    assert_eq!(folder.metadata["format"], "pt");
    let json = serde_json::to_value(&folder).unwrap();
    assert_eq!(json["kind"], "hugging-face");
    assert_eq!(json["config"]["n_embd"], 8);
    assert_eq!(json["tensors"][0]["name"], "transformer.h.0.attn.c_attn.bias");

    let top = tempdir().unwrap();
    let lone = top.path().join("lone.safetensors");
    fs::copy(fixture().join("model.safetensors"), &lone).unwrap();
    let lone = describe(&lone).unwrap();
    assert_eq!((lone.config, lone.parameters, lone.tensors), (None, 1_080, folder.tensors));
}
