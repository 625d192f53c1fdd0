//! Numbers and constant expressions.

use wikigpt_emulator::ptx::ErrorKind;
use wikigpt_emulator::ptx::ast::Operand;

use super::{error, in_kernel, operands};

fn constant(text: &str) -> Operand<'static> {
    let mut found = Operand::Sink;
    operands(&format!("mov.b64 a, {text};"), |operands| {
        found = match &operands[1] {
            Operand::Int(value) => Operand::Int(*value),
            Operand::F32(bits) => Operand::F32(*bits),
            Operand::F64(value) => Operand::F64(*value),
            other => panic!("{text} is {other:?}"),
        }
    });
    found
}

#[test]
fn integers_of_every_base_are_64_bits() {
    for (text, value) in [
        ("0", 0),
        ("7", 7),
        ("7U", 7),
        ("017", 0o17),
        ("00", 0),
        ("0b101", 5),
        ("0B101U", 5),
        ("0x1f", 0x1f),
        ("0X1FU", 0x1f),
        ("-1", u64::MAX),
        ("9223372036854775807", i64::MAX as u64),
        ("-9223372036854775808", i64::MIN as u64),
        ("18446744073709551615", u64::MAX),
        ("0xffffffffffffffff", u64::MAX),
        ("WARP_SZ", 32),
    ] {
        assert_eq!(constant(text), Operand::Int(value), "{text}");
    }
}

#[test]
fn floats_are_bits_or_decimals() {
    assert_eq!(constant("0f3F800000"), Operand::F32(0x3f80_0000));
    assert_eq!(constant("0Fff800001"), Operand::F32(0xff80_0001));
    assert_eq!(constant("0d3FF0000000000000"), Operand::F64(1.0));
    assert_eq!(constant("0D8000000000000001"), Operand::F64(-5e-324));
    for (text, value) in [
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        (".5e3", 500.0),
        ("1e5", 1e5),
        ("1.25E-3", 1.25e-3),
        ("2e+2", 200.0),
        ("-1.5", -1.5),
        ("0.1", 0.1),
        ("08.5", 8.5),
    ] {
        assert_eq!(constant(text), Operand::F64(value), "{text}");
    }
}

#[test]
fn expressions_follow_the_precedence_of_c() {
    for (text, value) in [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("10-4-3", 3),
        ("100/7%5", 100 / 7 % 5),
        ("-7/2", -7 / 2),
        ("-7%3", -7 % 3),
        ("1<<3|4&5^6", 1 << 3 | 4 & 5 ^ 6),
        ("1<<2+1", 8),
        ("~5", !5),
        ("!5", 0),
        ("!0", 1),
        ("- - 5", 5),
        ("2 > 1 == 1", 1),
        ("1 != 1 || 2 && 3", 1),
        ("3 <= 2 && 1", 0),
        ("1 ? 2 : 3", 2),
        ("0 ? 2 : 0 ? 4 : 5", 5),
        ("-1 < 1", 1),
        ("-1 < 1U", 0),
        ("-1 >> 1", -1),
        ("(.u64)-1 >> 63", 1),
        ("(.s64)0xffffffffffffffff >> 63", -1),
        ("0xffffffffffffffff / 2", i64::MAX),
        ("WARP_SZ*2", 64),
        ("7%5", 2),
        ("9223372036854775807 + 1", i64::MIN),
    ] {
        assert_eq!(constant(text), Operand::Int(value as u64), "{text}");
    }
    assert_eq!(constant("1.5*2.0+0.25"), Operand::F64(3.25));
    assert_eq!(constant("1.5 < 2.0"), Operand::Int(1));
}

#[test]
fn what_is_no_number_is_refused() {
    for (text, message) in [
        ("089", "`089` is no number"),
        ("12u", "`12u` is no number"),
        ("0x", "`0x` is no number"),
        ("0b102", "`0b102` is no number"),
        ("0x1FFFFFFFFFFFFFFFF", "`0x1FFFFFFFFFFFFFFFF` does not fit 64 bits"),
        ("18446744073709551616", "`18446744073709551616` does not fit 64 bits"),
        ("0f3F80000", "`0f3F80000` is no number: expected 8 hexadecimal digits after `0f`"),
        ("0f3F8000000", "`0f3F8000000` is no number: expected 8 hexadecimal digits after `0f`"),
        ("0d3F800000", "`0d3F800000` is no number: expected 16 hexadecimal digits after `0d`"),
        ("0f+3F80000", "`0f` is no number: expected 8 hexadecimal digits after `0f`"),
        ("1e", "`1e` is no number"),
        ("1.5f", "`1.5f` is no number"),
        ("5/0", "a division by zero"),
        ("5%0U", "a division by zero"),
        ("-0f3F800000", "`-` does not take constants of these types"),
        ("1.5*2", "`*` does not take constants of these types"),
        ("1.5%2.0", "`%` does not take constants of these types"),
        ("~1.5", "`~` does not take constants of these types"),
        ("1.5 ? 1 : 2", "`?` does not take constants of these types"),
        ("(.u64)1.5", "`(.u64)` does not take constants of these types"),
        ("(1+2", "expected `)` after the expression, found `;`"),
        ("1+", "expected a constant, found `;`"),
        ("1 ? 2", "expected `:` of the conditional, found `;`"),
    ] {
        let error = error(&in_kernel(&format!("mov.b64 a, {text};")));
        assert_eq!(
            (error.kind, error.line, error.message.as_str()),
            (ErrorKind::Invalid, 5, message),
            "{text}"
        );
    }
    let error = error(&in_kernel("mov.b64 a, 1<<64;"));
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unsupported, "a constant shifted by 64"));
}
