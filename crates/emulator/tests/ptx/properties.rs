//! Texts nobody wrote: the parser returns, whatever it is given, and what it accepts it prints and reads again.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use wikigpt_emulator::ptx::parse;

use super::samples::SAMPLES;
use super::{assert_round_trip, in_kernel, with_header};

/// What PTX is made of, and what it is not.
const TOKENS: [&str; 92] = [
    ".version 9.0",
    ".target sm_90a",
    ".address_size 64",
    ".visible",
    ".extern",
    ".weak",
    ".entry",
    ".func",
    ".global",
    ".const",
    ".shared",
    ".local",
    ".param",
    ".reg",
    ".align",
    ".b8",
    ".b32",
    ".u64",
    ".f32",
    ".f64",
    ".pred",
    ".v2",
    ".v4",
    ".ptr",
    ".attribute",
    ".managed",
    ".maxntid",
    ".minnctapersm",
    ".explicitcluster",
    ".pragma",
    ".section",
    ".file",
    ".loc",
    ".alias",
    ".branchtargets",
    ".callprototype",
    ".calltargets",
    ".shared::cta",
    ".mbarrier::complete_tx::bytes",
    ".uni",
    ".2d",
    "k",
    "x",
    "%r1",
    "%tid.x",
    "$L__BB0_1",
    "_",
    "ld",
    "mov",
    "call",
    "bra",
    "ret",
    "generic",
    "inlined_at",
    "function_name",
    "WARP_SZ",
    "0",
    "1",
    "7U",
    "0x1f",
    "0b1",
    "017",
    "0f3F800000",
    "0d3FF0000000000000",
    "0dFFF8000000000001",
    "1.5",
    "-",
    "+",
    "*",
    "/",
    "%",
    "<<",
    "!",
    "~",
    "?",
    "|",
    "&",
    "^",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    ",",
    ";",
    ":",
    "@",
    "=",
    "\"s\"",
];

/// Parses, and prints and parses again what was accepted.
fn exercise(text: &str) {
    if let Ok(module) = parse(text) {
        assert_round_trip(module);
    }
}

fn soup() -> impl Strategy<Value = String> {
    let token =
        prop_oneof![20 => prop::sample::select(&TOKENS[..]).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec((token, prop::sample::select(&["", " ", "\n"][..])), 0..60)
        .prop_map(|tokens| tokens.iter().flat_map(|(token, blank)| [token.as_str(), blank]).collect())
}

/// The nearest boundary of a character at or before `at`, which wraps.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at % (text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// One of: cut off, a part left out, a part doubled, something put in.
fn mutated(text: &str, kind: u8, from: usize, len: usize, insertion: &str) -> String {
    let from = boundary(text, from);
    let to = boundary(text, (from + len).min(text.len()));
    match kind {
        0 => text[..from].to_owned(),
        1 => format!("{}{}", &text[..from], &text[to..]),
        2 => format!("{}{}", &text[..to], &text[from..]),
        _ => format!("{}{insertion}{}", &text[..from], &text[to..]),
    }
}

proptest! {
    #[test]
    fn token_soup_never_panics(soup in soup()) {
        exercise(&soup);
        exercise(&with_header(&soup));
        exercise(&in_kernel(&soup));
    }

    #[test]
    fn mutations_of_compiled_code_never_panic(
        sample in prop::sample::select(&SAMPLES[..]),
        changes in prop::collection::vec((0..4u8, any::<usize>(), 0..40usize, prop::sample::select(&TOKENS[..])), 1..4),
    ) {
        let text = changes.iter().fold(sample.to_owned(), |text, &(kind, from, len, insertion)| {
            mutated(&text, kind, from, len, insertion)
        });
        exercise(&text);
    }
}

#[test]
fn time_is_linear_in_the_length_of_the_text() {
    let repeated = |unit: &str, count: usize| unit.repeat(count);
    let time = |text: &str| {
        let start = Instant::now();
        let _ = parse(text);
        start.elapsed().max(Duration::from_millis(1))
    };
    // Each of these would be quadratic in a parser that looks back or copies what is left.
    for (before, unit, after) in [
        ("", "add.s32 a, b, 1;\n", ""),
        ("mov.u32 a, {", "b, ", "b};"),
        ("mov.u32 a, ", "1+", "1;"),
        ("add", ".s32", " a;"),
        ("", "L:\n", ""),
        ("", "/* */", ""),
        ("", "{}", ""),
        ("", ".loc 1 2 3, function_name a, inlined_at 1 2 3\n", ""),
        (".global .u32 g[][1] = {", "{},", "{}};"),
        (".reg .b32 ", "a, ", "a;"),
        ("mov.u32 a, 0x", "0", ";"),
        ("mov.f64 a, 1.", "1", ";"),
        ("\"", "a", ""),
    ] {
        let text = |count| in_kernel(&format!("{before}{}{after}", repeated(unit, count)));
        let (small, large) = (text(20_000), text(400_000));
        // 20 times the text; a quadratic parser would take 400 times as long. A busy machine may disturb a measurement.
        let linear = (0..10).any(|_| time(&large) < 100 * time(&small));
        assert!(linear, "{unit:?}: {:?}, then {:?}", time(&small), time(&large));
    }
}
