//! Classification with `--device cuda` on the emulated driver.

use std::fs;
use std::path::Path;

use crate::common::{json, losses, ok_line, path, text, train_tiny};
use crate::cuda::ok;

#[test]
fn labels_are_learnt_and_given_as_on_the_cpu() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    let (base, train, texts) = (at("base"), at("train.tsv"), at("texts.txt"));
    train_tiny(&base, "--steps 5 --eval-every 0 --sample-every 0 --device cpu");
    let examples = crate::classify::examples(20, 0);
    let rows: String = examples.iter().map(|(text, praise)| format!("{text}\t{praise}\n")).collect();
    fs::write(&train, rows).unwrap();
    let lines: String = examples.iter().map(|(text, _)| format!("{text}\n")).collect();
    fs::write(&texts, lines).unwrap();

    // Batches of several lengths, dropout, a layer frozen.
    let flags = "finetune classify --no-header --epochs 1 --batch 6 --freeze 1 --lr 1e-2";
    let files = ["--train", path(&train), "--valid", path(&train), path(&base), "--out"];
    let (on_cpu, on_gpu) = (at("cpu"), at("gpu"));
    let with = |out: &'_ Path| -> Vec<String> {
        files.iter().copied().chain([path(out)]).map(str::to_owned).collect()
    };
    let cpu_arguments = with(&on_cpu);
    ok_line(
        &format!("{flags} --device cpu --threads 1"),
        &cpu_arguments.iter().map(|a| &**a).collect::<Vec<_>>(),
    );
    let gpu_arguments = with(&on_gpu);
    ok(&format!("{flags} --device cuda"), &gpu_arguments.iter().map(|a| &**a).collect::<Vec<_>>());
    for kind in ["train", "valid"] {
        let (gpu, cpu) = (losses(&on_gpu, kind), losses(&on_cpu, kind));
        assert_eq!(gpu.len(), cpu.len());
        for ((step, gpu), (_, cpu)) in gpu.iter().zip(&cpu) {
            assert!((gpu - cpu).abs() < 1e-4, "{kind} step {step}: loss {gpu}, the CPU's {cpu}");
        }
    }
    let arguments = [path(&on_gpu), path(&texts)];
    let cpu = ok_line("classify --json --device cpu", &arguments);
    let gpu = text(&ok("classify --json --device cuda", &arguments).stdout);
    assert_eq!(gpu.lines().count(), 20);
    for (cpu, gpu) in cpu.lines().zip(gpu.lines()) {
        let p = |line: &str| json(line)["probabilities"]["true"].as_f64().unwrap();
        assert!((p(cpu) - p(gpu)).abs() < 1e-4, "{cpu} {gpu}");
    }
}
