//! Lists of texts in one array of bytes: before each its length, 4 bytes, the lowest first.

use crate::boundary::{Failure, FromJava, Outcome, given};
use attune_ffi::{attune_message, attune_text};
use jni::Env;
use jni::objects::JByteArray;
use std::ops::Range;

/// A list of texts that Java has given.
pub(crate) struct Texts {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Texts {
    fn read(bytes: Vec<u8>) -> Option<Texts> {
        let (mut places, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let begin = at.checked_add(4)?;
            let length = u32::from_le_bytes(bytes.get(at..begin)?.try_into().ok()?);
            at = begin.checked_add(length as usize)?;
            bytes.get(begin..at)?;
            places.push(begin..at);
        }
        Some(Texts { bytes, places })
    }

    /// Each as a text of the ABI; they live as long as this.
    pub(crate) fn list(&self) -> Vec<attune_text> {
        self.places.iter().map(|place| given(self.bytes.get(place.clone()).unwrap_or_default())).collect()
    }

    /// Each two as a turn of a conversation: role, content.
    pub(crate) fn turns(&self) -> Outcome<Vec<attune_message>> {
        let texts = self.list();
        let (turns, rest) = texts.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Failure::option("turns", "a role and a content each", format_args!("{} texts", texts.len())));
        }
        Ok(turns.iter().map(|[role, content]| attune_message { role: *role, content: *content }).collect())
    }
}

impl FromJava for Texts {
    type Raw<'l> = JByteArray<'l>;
    const SIGNATURE: &'static str = "[B";
    fn take<'l>(env: &mut Env<'l>, raw: JByteArray<'l>) -> Outcome<Texts> {
        Texts::read(Vec::take(env, raw)?).ok_or_else(|| Failure::option("texts", "a length of 4 bytes before each", "another form"))
    }
}

/// Texts in the same form.
pub(crate) fn pack<'t>(texts: impl IntoIterator<Item = &'t [u8]>) -> Vec<u8> {
    let mut packed = Vec::new();
    for text in texts {
        packed.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        packed.extend_from_slice(text);
    }
    packed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn texts_come_back_as_they_were_packed() {
        let packed = pack(["user".as_bytes(), b"", "né".as_bytes()]);
        let texts = Texts::read(packed).unwrap();
        let lengths: Vec<_> = texts.list().iter().map(|t| t.length).collect();
        assert_eq!(lengths, [4, 0, 3]);
        assert!(texts.turns().is_err(), "three texts are no turns");
    }

    #[test]
    fn lengths_that_lead_beyond_the_bytes_are_refused() {
        assert!(Texts::read(vec![1, 0, 0]).is_none());
        assert!(Texts::read(vec![2, 0, 0, 0, b'a']).is_none());
        assert!(Texts::read(vec![255, 255, 255, 255]).is_none());
        assert!(Texts::read(Vec::new()).unwrap().list().is_empty());
    }
}
