//! Any text: the parser must return, and print and read again what it accepted.
//!
//! `cargo +nightly fuzz run ptx corpus/ptx ../tests/ptx -- -dict=ptx.dict -timeout=10`, in the folder `crates/emulator/fuzz`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wikigpt_emulator::ptx::parse;

fuzz_target!(|text: &str| {
    let Ok(module) = parse(text) else { return };
    let printed = module.to_string();
    match parse(&printed) {
        Ok(again) => assert_eq!(printed, again.to_string()),
        Err(error) => panic!("{error}, in what was printed:\n{printed}"),
    }
});
