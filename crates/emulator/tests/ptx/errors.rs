//! What is refused, and how the refusal reads.

use wikigpt_emulator::ptx::{Error, ErrorKind, parse};

use super::{error, in_kernel, with_header};

fn refusal(text: &str) -> (ErrorKind, u32, String) {
    let Error { kind, line, message } = error(text);
    (kind, line, message)
}

fn invalid(line: u32, message: &str) -> (ErrorKind, u32, String) {
    (ErrorKind::Invalid, line, message.to_owned())
}

fn unsupported(line: u32, message: &str) -> (ErrorKind, u32, String) {
    (ErrorKind::Unsupported, line, message.to_owned())
}

#[test]
fn a_version_newer_than_any_known_is_refused_as_such() {
    assert!(parse(".version 9.9").is_ok());
    for text in [".version 9.10", ".version 10.0\n.target sm_200"] {
        assert_eq!(refusal(text).0, ErrorKind::Version, "{text}");
    }
    assert_eq!(refusal("\n.version 10.0").2, "version 10.0 is newer than any known: up to 9.9 are");
    assert_eq!(refusal(".target sm_80"), invalid(1, "expected `.version` at the beginning, found `.target`"));
    assert_eq!(refusal(""), invalid(1, "expected `.version` at the beginning, found the end of the text"));
    assert_eq!(refusal("\u{7f}ELF"), invalid(1, "the character '\\u{7f}' has no meaning here"));
    for text in [".version 9", ".version 1e5", ".version sm_80", ".version 99999999999.0", ".version ."] {
        assert_eq!(refusal(text).0, ErrorKind::Invalid, "{text}");
    }
}

#[test]
fn a_module_is_refused_with_the_line_what_was_expected_and_what_was_found() {
    for (declarations, line, message) in [
        ("garbage", 4, "expected a directive, found `garbage`"),
        (";", 4, "expected a directive, found `;`"),
        (".target sm_80", 4, "a second `.target`"),
        (".file \"a\" 1", 4, "expected the number of a file, found a string"),
        (".file 1 a", 4, "expected the path of a file, found `a`"),
        (".file 1 \"a\n", 4, "a string is not closed on its line"),
        ("/* comment", 4, "a comment is opened here and never closed"),
        (".visible 5", 4, "expected `.entry`, `.func` or a state space, found `5`"),
        (".entry 5", 4, "expected the name of a function, found `5`"),
        (".entry k(", 4, "expected `.param`, found the end of the text"),
        (".entry k(.param .u64 a,)", 4, "expected `.param`, found `)`"),
        (".entry k(.param .u64)", 4, "expected the name of a variable, found `)`"),
        (".entry k(.param a)", 4, "expected a type, found `a`"),
        (".entry k(.param .pred a)", 4, "a predicate outside registers"),
        (".entry k()", 4, "expected `{` or `;` after the head of a function, found the end of the text"),
        (".entry k()\n{\n\n", 5, "a `{` is opened here and never closed"),
        (".entry k() .maxntid {", 4, "expected a number, found `{`"),
        (".entry k() .maxntid -1 {", 4, "expected a number, found -1"),
        (".global .u32 x", 4, "expected `;` after a variable, found the end of the text"),
        (".global .align 3 .u32 x;", 4, "expected a power of two as alignment, found 3"),
        (".global .align 0 .u32 x;", 4, "expected a power of two as alignment, found 0"),
        (".global .u32 x[1.5];", 4, "expected a length, found a floating-point number"),
        (".global .u32 x[4;", 4, "expected `]` after a length, found `;`"),
        (".global .u64 x[0x1000000000000000][16];", 4, "x is larger than any memory"),
        (".global .u32 x[2] = {1, 2, 3};", 4, "more than 2 initial values"),
        (".global .u32 x[3] = {1, 2,};", 4, "expected an initial value, found `}`"),
        (".global .u32 x[2][2] = {1, 2};", 4, "expected `{` before initial values, found `1`"),
        (".global .u32 x = {1};", 4, "expected an initial value, found `{`"),
        (".global .f32 x = 1;", 4, "an integer where .f32 is expected"),
        (".global .u32 x = x;", 4, "the address of x does not fit .u32"),
        (".global .u8 x = 0xFFF(x);", 4, "expected a mask of one byte, such as 0xFF00, before `(`"),
        (".global .u32 x = 0xFF(x);", 4, "a byte of an address where .u32 is expected"),
        (".shared .u32 x = 1;", 4, "x: only .global and .const variables have initial values"),
        (".reg .u32 x;", 4, "`.reg` outside a function"),
        (".section .debug_str {\n{}\n", 4, "a section is opened here and never closed"),
        (".section {", 4, "expected the name of a section, found `{`"),
        (".alias f;", 4, "expected `,` after the name of an alias, found `;`"),
    ] {
        assert_eq!(refusal(&with_header(declarations)), invalid(line, message), "{declarations}");
    }
}

#[test]
fn a_body_is_refused_with_the_line_what_was_expected_and_what_was_found() {
    for (statements, line, message) in [
        ("add.s32 a, b\nret;", 6, "expected `;` after an instruction, found `ret`"),
        ("\n\nadd.s32 a,;", 7, "expected an operand, found `;`"),
        ("%r1 a;", 5, "expected an instruction, found `%r1`"),
        (";", 5, "expected a statement or `}`, found `;`"),
        ("@5 ret;", 5, "expected a predicate, found `5`"),
        ("@p { ret; }", 5, "expected an instruction, found `{`"),
        ("add. s32 a, b, c;", 5, "expected an operand, found `.`"),
        ("ld.u32 a, [b-4];", 5, "expected `]` after an address, found `-`"),
        ("ld.u32 a, [];", 5, "expected an address, found `]`"),
        ("ld.u32 a, [4+b];", 5, "expected a constant, found `b`"),
        ("ld.u32 a, [b+c];", 5, "expected an offset, found `c`"),
        ("ld.u32 a, [b;", 5, "expected `]` after an address, found `;`"),
        ("mov.u32 a, {b, };", 5, "expected an operand, found `}`"),
        ("mov.u32 a, {{b}};", 5, "expected an operand, found `{`"),
        ("setp.eq.s32 p|5, a, b;", 5, "expected a name after `|`, found `5`"),
        ("call f, (a;", 5, "expected `)` after arguments, found `;`"),
        ("mov.u32 a, (b);", 5, "expected a constant, found `b`"),
        ("mov.u32 a, \"b\";", 5, "expected an operand, found a string"),
        ("mov.u32 a, b::c;", 5, "expected `;` after an instruction, found `:`"),
        ("ld.shared:: a, [b];", 5, "expected a name after `::`"),
        ("mov.u32 a, é;", 5, "the character 'é' has no meaning here"),
        (".reg .b32 r<x>;", 5, "expected a number of 32 bits, found `x`"),
        (".reg .b32 r<4;", 5, "expected `>` after a number of registers, found `;`"),
        (".reg .b32;", 5, "expected the name of a register, found `;`"),
        (".loc 1 2", 6, "expected a number of 32 bits, found `}`"),
        (".loc 1 2 3, elsewhere 4", 5, "expected `function_name` or `inlined_at`, found `elsewhere`"),
        (".extern 5", 5, "expected a state space, found `5`"),
        ("T: .branchtargets ;", 5, "expected a label, found `;`"),
        ("T: .callprototype (.param .b32 _);", 5, "expected `_`, found `;`"),
        ("T: .calltargets f g;", 5, "expected `;` after call targets, found `g`"),
        ("{ ret;", 4, "a `{` is opened here and never closed"),
    ] {
        assert_eq!(refusal(&in_kernel(statements)), invalid(line, message), "{statements}");
    }
}

#[test]
fn ptx_without_a_place_in_the_tree_is_refused_as_unsupported() {
    for (declarations, message) in [
        (".address_size 32", "addresses of 32 bits"),
        (".texref t;", "the directive `.texref` is not known"),
        (".entry k() .blocksareclusters { }", "the directive `.blocksareclusters` is not known"),
        (".func f(.reg .u32 a) { }", "parameters in registers"),
        (".global .u32 g<4>;", "a range of names for variables that are not registers"),
        (".global .e2m1x2 g;", "the type `.e2m1x2` is not known"),
        (".global .attribute(.other) .u32 g;", "the attribute `.other` is not known"),
        (".global .b16 g = 1.5;", "a floating-point number as initial value of .b16"),
        (".global .b128 g = 1;", "initial values of 128 bits"),
        (".global .u8 g[2][1048578] = {{1}, {2}};", "initial values that leave more than 1048576 others out"),
    ] {
        assert_eq!(refusal(&with_header(declarations)), unsupported(4, message), "{declarations}");
    }
    for (statements, message) in [
        (".reg .v4 .f32 a;", "registers that are vectors: .v4"),
        (".reg .b32 r<1048577>;", "more than 1048576 registers at once"),
        (".tex .u64 t;", "the directive `.tex` is not known in a function"),
        ("mov.u64 a, b[1];", "an element of b by its index"),
        ("mov.u32 a, %tid .x;", "a space between %tid and its component"),
        ("tex.2d.v4.f32.f32 {a,b,c,d}, [t, s, {x,y}];", "`s` in an address"),
    ] {
        assert_eq!(refusal(&in_kernel(statements)), unsupported(5, message), "{statements}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |open: &str, inside: &str, close: &str, depth: usize| {
        format!("{}{inside}{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, inside, close) in [
        ("{", "", "}"),
        ("(", "1", ")"),
        ("-", "1", ""),
        ("!", "1", ""),
        ("(.u64)", "1", ""),
        ("1?1:", "1", ""),
    ] {
        let text = |depth| {
            let inner = nested(open, inside, close, depth);
            if open == "{" { in_kernel(&inner) } else { in_kernel(&format!("mov.u32 a, {inner};")) }
        };
        assert!(parse(&text(100)).is_ok(), "{open} 100 deep");
        for depth in [101, 1_000_000] {
            assert_eq!(
                refusal(&text(depth)),
                unsupported(5, "nested more than 100 deep"),
                "{open} {depth} deep"
            );
        }
    }
    let text = with_header(&format!(".global .u32 g{} = {};", "[1]".repeat(16), nested("{", "1", "}", 16)));
    assert!(parse(&text).is_ok());
    let text = with_header(&format!(".global .u32 g{};", "[1]".repeat(17)));
    assert_eq!(refusal(&text), unsupported(4, "an array of more than 16 dimensions"));
}
