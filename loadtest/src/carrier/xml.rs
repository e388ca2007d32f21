//! XML as a small tree: what TwiML is written in.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// An element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// The name.
    pub(crate) name: String,
    /// The attributes, in order.
    pub(crate) attributes: Vec<(String, String)>,
    /// The elements inside, in order.
    pub(crate) children: Vec<Element>,
    /// The text inside, trimmed.
    pub(crate) text: String,
}

impl Element {
    /// An attribute's value.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a document: one element, with nothing but comments around it.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn read(text: &str) -> Result<Element, String> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(tag) => open.push(element(&tag)?),
            Event::Empty(tag) => close(element(&tag)?, &mut open, &mut root)?,
            Event::End(_) => {
                let Some(done) = open.pop() else { return Err("an end without a start".into()) };
                close(done, &mut open, &mut root)?;
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|error| error.to_string())?;
                add_text(&text, &mut open)?;
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|error| error.to_string())?;
                let whole = format!("&{name};");
                let text =
                    quick_xml::escape::unescape(&whole).map_err(|error| error.to_string())?;
                add_text(&text, &mut open)?;
            }
            Event::CData(data) => {
                let text = data.decode().map_err(|error| error.to_string())?;
                add_text(&text, &mut open)?;
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err("the document ends inside an element".into());
    }
    root.ok_or_else(|| "there is no element".into())
}

/// An element's name and attributes.
fn element(tag: &BytesStart<'_>) -> Result<Element, String> {
    let name = String::from_utf8_lossy(tag.name().as_ref()).into_owned();
    let mut element = Element { name, ..Element::default() };
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        let value = attribute.unescape_value().map_err(|error| error.to_string())?;
        element.attributes.push((key, value.into_owned()));
    }
    Ok(element)
}

/// An element is complete: it belongs to the one around it, or is the document.
fn close(
    mut done: Element,
    open: &mut [Element],
    root: &mut Option<Element>,
) -> Result<(), String> {
    done.text = done.text.trim().to_owned();
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None if root.is_some() => return Err("a second element at the top".into()),
        None => *root = Some(done),
    }
    Ok(())
}

/// Text belongs to the element around it.
fn add_text(text: &str, open: &mut [Element]) -> Result<(), String> {
    match open.last_mut() {
        Some(inside) => inside.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("text outside of any element".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_in_texts_and_attributes() {
        let root =
            read(r#"<?xml version="1.0"?><a b="1 &amp; 2"><c> x&amp;y </c><d/></a>"#).unwrap();
        assert_eq!(root.attribute("b"), Some("1 & 2"));
        assert_eq!(root.children[0].text, "x&y");
        assert_eq!(root.children[1].name, "d");
    }

    #[test]
    fn what_is_not_one_whole_element_is_refused() {
        for bad in ["", "x", "<a>", "<a></b>", "<a/><b/>", "<a b=1/>", "<a>&nothing;</a>", "<a/>x"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
