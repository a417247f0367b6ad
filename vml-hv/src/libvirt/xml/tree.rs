//! Elements of an XML text, each with its place in it.

use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use std::ops::Range;
use vml_core::{Error, Result};

/// Longest text.
const TEXT_MAX: usize = 4 << 20;
/// Elements in each other.
const DEPTH_MAX: usize = 64;
/// Elements, and attributes of one.
const ELEMENTS_MAX: usize = 100_000;
const ATTRIBUTES_MAX: usize = 256;

/// An attribute.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Where its value stands, without the quotes.
    pub(crate) place: Range<usize>,
}

/// An element.
#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) parent: Option<usize>,
    pub(crate) attributes: Vec<Attribute>,
    /// What stands directly in it, without the space around it.
    pub(crate) text: String,
    /// All of it, and what is between its tags.
    pub(crate) place: Range<usize>,
    pub(crate) content: Range<usize>,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.attribute(name).map(|attribute| attribute.value.as_str())
    }
}

/// All elements, in the order of the text; the first is the root.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) elements: Vec<Element>,
}

fn bad(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::invalid("it is no description of a domain: it is not well-formed XML").because(why)
}

fn too(what: &str) -> Error {
    Error::invalid(format!("it is no description of a domain: its XML {what}"))
}

impl Tree {
    /// Reads a text.
    ///
    /// # Errors
    /// `InvalidInput` for what is no XML, has a document type, or is larger or deeper than a domain's XML is.
    pub(crate) fn read(text: &str) -> Result<Self> {
        if text.len() > TEXT_MAX {
            return Err(too("is too long"));
        }
        if text.contains('\0') {
            return Err(too("has a zero byte"));
        }
        let mut reader = Reader::from_str(text);
        let mut elements: Vec<Element> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        loop {
            let before = place(&reader)?;
            let event = reader.read_event().map_err(bad)?;
            let after = place(&reader)?;
            match event {
                Event::Start(tag) => {
                    add(&mut elements, &open, text, &tag, before..after)?;
                    open.push(elements.len() - 1);
                    if open.len() > DEPTH_MAX {
                        return Err(too("is too deep"));
                    }
                }
                Event::Empty(tag) => add(&mut elements, &open, text, &tag, before..after)?,
                Event::End(_) => {
                    let element = &mut elements[open.pop().ok_or_else(|| too("ends what has not begun"))?];
                    element.content.end = before;
                    element.place.end = after;
                    element.text = element.text.trim().to_owned();
                }
                Event::Text(_) | Event::GeneralRef(_) => {
                    if let Some(last) = open.last() {
                        elements[*last].text.push_str(&unescape(&text[before..after]).map_err(bad)?);
                    } else if !text[before..after].trim().is_empty() {
                        return Err(too("has text outside of its root"));
                    }
                }
                Event::CData(data) => {
                    let last = open.last().ok_or_else(|| too("has text outside of its root"))?;
                    elements[*last].text.push_str(&data);
                }
                Event::DocType(_) => return Err(too("has a document type, which is refused")),
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
                Event::Eof => break,
            }
        }
        let roots = elements.iter().filter(|element| element.parent.is_none()).count();
        if !open.is_empty() || roots != 1 {
            return Err(too("has not one root"));
        }
        Ok(Self { elements })
    }

    /// The elements directly in `of` with this name.
    pub(crate) fn children<'a>(&'a self, of: usize, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        let end = self.elements[of].place.end;
        let inside = self.elements.iter().enumerate().skip(of + 1).take_while(move |(_, element)| element.place.start < end);
        inside.filter(move |(_, element)| element.parent == Some(of) && element.name == name).map(|(at, _)| at)
    }

    /// The first element that the names lead to from `of`.
    pub(crate) fn find(&self, of: usize, path: &[&str]) -> Option<usize> {
        path.iter().try_fold(of, |at, name| self.children(at, name).next())
    }

    /// The text of that.
    pub(crate) fn text(&self, of: usize, path: &[&str]) -> Option<&str> {
        self.find(of, path).map(|at| self.elements[at].text.as_str())
    }

    /// An attribute of that.
    pub(crate) fn value(&self, of: usize, path: &[&str], name: &str) -> Option<&str> {
        self.find(of, path).and_then(|at| self.elements[at].value(name))
    }
}

fn place(reader: &Reader<&[u8]>) -> Result<usize> {
    usize::try_from(reader.buffer_position()).map_err(bad)
}

fn add(elements: &mut Vec<Element>, open: &[usize], text: &str, tag: &BytesStart<'_>, place: Range<usize>) -> Result<()> {
    if elements.len() == ELEMENTS_MAX {
        return Err(too("has too many elements"));
    }
    let name = tag.name().into_inner().to_owned();
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(bad)?;
        if attributes.len() == ATTRIBUTES_MAX {
            return Err(too("has an element of too many attributes"));
        }
        // The value is a part of the text: its place is where it lies.
        let start = (attribute.value.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        let value_place = start..start.saturating_add(attribute.value.len());
        let raw = text.get(value_place.clone()).filter(|_| place.start < start && value_place.end < place.end);
        let raw = raw.ok_or_else(|| too("has an attribute that cannot be found again"))?;
        let name = attribute.key.into_inner().to_owned();
        attributes.push(Attribute { name, value: unescape(raw).map_err(bad)?.into_owned(), place: value_place });
    }
    let content = place.end..place.end;
    elements.push(Element { name, parent: open.last().copied(), attributes, text: String::new(), place, content });
    Ok(())
}

/// A text as it may stand between tags or quotes.
pub(crate) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_places_and_values() {
        let text = "<?xml version='1.0'?>\n<a x = '1 &amp; 2'><!-- <b> --><b>t &lt; <c/>u</b><b y=\"z\"/></a>\n";
        let tree = Tree::read(text).unwrap();
        let names: Vec<&str> = tree.elements.iter().map(|element| element.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "b"]);
        assert_eq!(tree.elements[0].value("x"), Some("1 & 2"));
        assert_eq!(&text[tree.elements[0].attributes[0].place.clone()], "1 &amp; 2");
        assert_eq!(tree.text(0, &["b"]), Some("t < u"));
        assert_eq!(&text[tree.elements[1].content.clone()], "t &lt; <c/>u");
        assert_eq!(&text[tree.elements[3].place.clone()], "<b y=\"z\"/>");
        assert_eq!(tree.children(0, "b").count(), 2);
        assert_eq!(tree.find(0, &["b", "c"]), Some(2));
    }

    #[test]
    fn hostile_texts_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY x 'xx'><!ENTITY y '&x;&x;'>]><a>&y;</a>";
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        let long = format!("<a>{}</a>", " ".repeat(5 << 20));
        let wide = format!("<a>{}</a>", "<b/>".repeat(200_000));
        for text in
            [bomb, &deep, &long, &wide, "", "<a>", "<a></b>", "</a>", "<a/><b/>", "<a>&unknown;</a>", "<a x='1' x='2'/>", "text", "<a/>x"]
        {
            let head: String = text.chars().take(60).collect();
            assert!(Tree::read(text).is_err(), "{head}");
        }
    }
}
