//! GPT-2's printable character for each byte, in which byte-level vocabularies are written down.
//!
//! Bytes that are printable in Latin-1 stand for themselves; the others take the characters from U+0100 on, in order
//! (Radford et al. 2019, `encoder.py`).

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The character of a byte.
pub(super) fn to_char(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !is_printable(*other)).count() as u32;
    char::from_u32(0x100 + before).expect("a character just above Latin-1")
}

/// The bytes of a token that is written in the alphabet; `None` if some character is not of it.
pub(super) fn to_bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(to_byte).collect()
}

fn to_byte(c: char) -> Option<u8> {
    match u8::try_from(c) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => {
            let nth = (c as usize).checked_sub(0x100)?;
            (0..=u8::MAX).filter(|byte| !is_printable(*byte)).nth(nth)
        }
    }
}

/// A token's spelling in the alphabet.
pub(super) fn spell(token: &[u8]) -> String {
    token.iter().map(|byte| to_char(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(to_bytes(&spell(&bytes)), Some(bytes));
        assert_eq!((to_char(b' '), to_char(b'\n'), to_char(b'a'), to_char(0xad)), ('Ġ', 'Ċ', 'a', 'Ń'));
        assert_eq!(to_bytes("a b"), None);
        assert_eq!(to_bytes("河"), None);
    }
}
