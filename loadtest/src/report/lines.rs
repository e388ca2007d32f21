//! JSON with a line for every element of a list: an hour of points stays readable, in a third of
//! the lines.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Writes a value.
///
/// # Errors
/// When it has no form in JSON.
pub(crate) fn to_string(value: &impl Serialize) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Lines::default()))?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes)?)
}

/// Objects are spread over lines, whatever is inside a list is not.
#[derive(Debug, Default)]
struct Lines {
    objects: usize,
    lists: usize,
}

impl Lines {
    /// A new line, as far in as its object.
    fn line(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        write!(writer, "\n{:1$}", "", (self.objects + self.lists) * 2)
    }

    /// What stands before an element or a key.
    fn separate(
        &self,
        writer: &mut (impl Write + ?Sized),
        first: bool,
        place: Place,
    ) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        match place {
            Place::Line => self.line(writer),
            Place::Beside if first => Ok(()),
            Place::Beside => writer.write_all(b" "),
        }
    }
}

/// Where an element or a key goes.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Onto a line of its own.
    Line,
    /// Beside the one before it.
    Beside,
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists += 1;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists -= 1;
        writer.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        let place = if self.lists == 1 { Place::Line } else { Place::Beside };
        self.separate(writer, first, place)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.objects += usize::from(self.lists == 0);
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.lists == 0 {
            self.objects -= 1;
            self.line(writer)?;
        }
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        let place = if self.lists == 0 { Place::Line } else { Place::Beside };
        self.separate(writer, first, place)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_a_list_have_a_line_each() {
        let value =
            serde_json::json!({"a": {"b": 1}, "c": [{"d": [1, 2], "e": {}}, {"d": 3}], "f": []});
        let text = to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(text.contains("\n    {\"d\": [1, 2], \"e\": {}},\n    {\"d\": 3}]"), "{text}");
        assert!(text.contains("\n  \"a\": {\n    \"b\": 1\n  }"), "{text}");
    }
}
