//! What a person wrote into a file and nobody reads: over the link unknown fields are skipped, in a
//! file they are misspelt words.
//!
//! Compares what was written with what was read of it. A reader that watches while it reads would
//! miss what is inside of an enum that says its kind in a field (a tool, a provider): serde takes
//! such a value as a whole first.

use serde_json::Value;

/// The paths of everything in `written` that has no place in `read`, which is the value that was
/// read, written out again with every field.
#[must_use]
pub fn unread(written: &Value, read: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(written, read, "", &mut found);
    found
}

/// Where a mistake is, for a message about it. The line itself is not shown: it may hold a secret.
#[must_use]
pub fn explain(text: &str, at: Option<usize>, message: &str) -> String {
    let place = at.and_then(|at| text.get(..at)).map(|before| {
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("line {line}, column {column}: ")
    });
    format!("{}{message}", place.unwrap_or_default())
}

fn compare(written: &Value, read: &Value, path: &str, found: &mut Vec<String>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (name, value) in written {
                match read.get(name) {
                    Some(known) => compare(value, known, &below(name), found),
                    None => found.push(below(name)),
                }
            }
        }
        (Value::Array(written), Value::Array(read)) => {
            for (place, (value, known)) in written.iter().zip(read).enumerate() {
                compare(value, known, &below(&place.to_string()), found);
            }
        }
        // A plain value, or one that is read as something else than it is written as.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mistake_is_placed_by_line_and_column() {
        assert_eq!(explain("a = 1\nb = x\n", Some(10), "no"), "line 2, column 5: no");
        assert_eq!(explain("", None, "no"), "no");
    }

    #[test]
    fn a_misspelt_word_is_found_wherever_it_stands() {
        let written = json!({
            "name": "x", "vioce": "marin",
            "tools": [{"kind": "hang_up"}, {"kind": "http", "naem": "y", "url": "z"}],
        });
        let read = json!({
            "name": "x", "voice": null,
            "tools": [{"kind": "hang_up"}, {"kind": "http", "name": "", "url": "z", "timeout": 5}],
        });
        assert_eq!(unread(&written, &read), ["tools.1.naem", "vioce"]);
        assert!(unread(&read, &read).is_empty());
    }
}
