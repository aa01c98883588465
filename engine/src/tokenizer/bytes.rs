//! The alphabet of byte-level vocabularies: each byte as one printable character (GPT-2's
//! `bytes_to_unicode`). Bytes that are printable Latin-1 stand for themselves, the other 68 follow
//! from U+0100 on in order.

/// The character that stands for `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let index = (0..byte).filter(|&other| !is_printable(other)).count() as u32;
    char::from_u32(0x100 + index).unwrap_or('\u{FFFD}')
}

/// The byte that `character` stands for.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    match character as u32 {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(|&byte| is_printable(byte)),
        code @ 0x100..=0x143 => OTHERS.get(code as usize - 0x100).copied(),
        _ => None,
    }
}

const OTHERS: [u8; 68] = {
    let mut others = [0; 68];
    let (mut byte, mut at) = (0usize, 0);
    while byte < 256 {
        if !is_printable(byte as u8) {
            others[at] = byte as u8;
            at += 1;
        }
        byte += 1;
    }
    others
};

const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own_and_comes_back() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!((char_of(b' '), char_of(b'\n'), char_of(b'a'), char_of(0xAD)), ('Ġ', 'Ċ', 'a', 'Ń'));
        assert_eq!((byte_of(' '), byte_of('\u{144}'), byte_of('中')), (None, None, None));
    }
}
