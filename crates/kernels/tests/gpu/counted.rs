//! Tests on what the emulator counts.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

const COUNTERS: &str = "WIKIGPT_EMU_COUNTERS";

/// Calls `measure` with the file that gets a line for each launch. The emulator is told where to count by the environment, before it
/// starts: the test `name` runs itself again with that set.
pub fn counted(name: &str, measure: fn(&Path)) {
    if env::var_os("WIKIGPT_TEST_DEVICE").is_some_and(|device| device == "cuda") {
        return; // A card does not count.
    }
    if let Some(file) = env::var_os(COUNTERS) {
        return measure(Path::new(&file));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", name, "--nocapture"]);
    // What is counted does not depend on what is checked.
    command.env(COUNTERS, folder.path().join("counters.jsonl")).env("WIKIGPT_EMU_CHECK", "none");
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// What was counted of the launches after the first `seen`.
pub fn launches(file: &Path, seen: usize) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the emulator counts");
    text.lines().skip(seen).map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
