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

    /// A string without escapes.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let text = self.unchecked_string()?;
        // JSON forbids them unescaped; serde will say so.
        text.bytes().all(|byte| byte >= b' ').then_some(text)
    }

    /// A string without escapes, for whoever checks its characters: control characters, which
    /// JSON forbids, are still in it.
    pub(super) fn unchecked_string(&mut self) -> Option<&'a str> {
        self.byte(b'"')?;
        let rest = &self.text[self.at..];
        let end = memchr2(b'"', b'\\', rest.as_bytes())?;
        let text = &rest[..end];
        self.at += end;
        self.byte(b'"')?;
        Some(text)
    }

    /// A whole number, in digits or in a string of digits.
    pub(super) fn number(&mut self) -> Option<u64> {
        let quoted = self.byte(b'"').is_some();
        let rest = self.text.as_bytes().get(self.at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = &self.text[self.at..self.at + digits];
        // JSON knows no leading zeros, so a string with one is left to serde as well.
        if number.len() > 1 && number.starts_with('0') {
            return None;
        }
        self.at += digits;
        if quoted {
            self.byte(b'"')?;
        }
        number.parse().ok()
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        if self.text.as_bytes().get(self.at) != Some(&byte) {
            return None;
        }
        self.at += 1;
        Some(())
    }
}

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
