//! A cursor over JSON of a known shape: fields in any order, values in place, nothing copied.
//!
//! It understands less than JSON on purpose: no white space, no escapes, no nested unknowns. Each
//! method gives `None` at the first surprise, and whoever scans then reads the whole text with
//! serde. What it does understand, serde understands in the same way.

use memchr::memchr2;

/// The cursor.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    /// At the beginning of a text.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The beginning of an object that is not empty.
    pub(super) fn open(&mut self) -> Option<()> {
        self.byte(b'{')
    }

    /// Takes this piece of text if it comes next: a field's name with its quotes and colon.
    #[inline]
    pub(super) fn eat(&mut self, piece: &'static str) -> bool {
        // Of a constant, this is a comparison of words or two; names one by one would take most of
        // the time of a message.
        let is_next = self.rest().starts_with(piece.as_bytes());
        self.at += if is_next { piece.len() } else { 0 };
        is_next
    }

    /// A field's name and its colon.
    pub(super) fn key(&mut self) -> Option<&'a str> {
        let key = self.string()?;
        self.byte(b':')?;
        Some(key)
    }

    /// Whether another field follows, or the object ends.
    pub(super) fn more(&mut self) -> Option<bool> {
        let next = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        match next {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    /// The end of the text.
    pub(super) fn end(&self) -> Option<()> {
        (self.at == self.text.len()).then_some(())
    }

    /// A string without escapes; short, so that its bytes are looked at one by one.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        self.byte(b'"')?;
        let rest = self.rest();
        // JSON forbids control characters unescaped; serde will say so.
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '))?;
        let text = self.text.get(self.at..self.at + end)?;
        self.at += end;
        self.byte(b'"')?;
        Some(text)
    }

    /// A string without escapes, for whoever checks its characters: control characters, which
    /// JSON forbids, are still in it. As long as it likes.
    pub(super) fn unchecked_string(&mut self) -> Option<&'a str> {
        self.byte(b'"')?;
        let end = memchr2(b'"', b'\\', self.rest())?;
        let text = self.text.get(self.at..self.at + end)?;
        self.at += end;
        self.byte(b'"')?;
        Some(text)
    }

    /// A whole number, in digits or in a string of digits.
    pub(super) fn number(&mut self) -> Option<u64> {
        let quoted = self.byte(b'"').is_some();
        let rest = self.rest();
        let (mut number, mut digits) = (0_u64, 0);
        while let Some(digit @ b'0'..=b'9') = rest.get(digits) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            digits += 1;
        }
        // JSON knows no leading zeros, so a string with one is left to serde as well; and so is
        // what may be too large.
        if digits == 0 || digits > DIGITS_MAX || (digits > 1 && rest[0] == b'0') {
            return None;
        }
        self.at += digits;
        if quoted {
            self.byte(b'"')?;
        }
        Some(number)
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        if self.text.as_bytes().get(self.at) != Some(&byte) {
            return None;
        }
        self.at += 1;
        Some(())
    }
}

/// The digits of any number below 2^64, less one.
const DIGITS_MAX: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_place() {
        let text = r#"{"name":"one","count":"12","more":3}"#;
        let mut scan = Scan::new(text);
        assert_eq!(scan.open(), Some(()));
        assert_eq!((scan.key(), scan.string()), (Some("name"), Some("one")));
        assert_eq!(scan.more(), Some(true));
        assert_eq!((scan.key(), scan.number()), (Some("count"), Some(12)));
        assert_eq!(scan.more(), Some(true));
        assert_eq!((scan.key(), scan.number()), (Some("more"), Some(3)));
        assert_eq!((scan.more(), scan.end()), (Some(false), Some(())));
    }

    #[test]
    fn surprises_end_it() {
        for text in [r#""a\"b""#, r#""a\u0041""#, "\"a\nb\"", "\"open", "x", ""] {
            assert_eq!(Scan::new(text).string(), None, "{text:?}");
        }
        for text in ["", "\"\"", "-1", "01", "\"1", "99999999999999999999", "a"] {
            assert_eq!(Scan::new(text).number(), None, "{text:?}");
        }
        assert_eq!(Scan::new(" {").open(), None);
        assert_eq!(Scan::new(";").more(), None);
    }

    #[test]
    fn what_stands_behind_a_number_is_not_swallowed() {
        let mut scan = Scan::new("1.5}");
        assert_eq!((scan.number(), scan.more()), (Some(1), None));
    }
}
