//! Finds the line of a field.
//!
//! The YAML reader tells positions only with its errors, so this asks it to read up to the
//! field and to fail there.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One part of the path to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A key of a mapping.
    Key(String),
    /// A place in a list.
    Index(usize),
}

/// Writes a path as people do: `spec.nodes[0].address`.
pub(super) fn path_text(path: &[Part]) -> String {
    let mut text = String::new();
    for part in path {
        match part {
            Part::Key(key) if text.is_empty() => text.push_str(key),
            Part::Key(key) => text.extend([".", key]),
            // Writing to a String cannot fail.
            Part::Index(index) => write!(text, "[{index}]").unwrap_or_default(),
        }
    }
    text
}

/// Reads what [`path_text`] wrote.
pub(super) fn path_parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for piece in text.split(['.', '[']).filter(|piece| !piece.is_empty()) {
        let index = piece.strip_suffix(']').and_then(|index| index.parse().ok());
        parts.push(index.map_or_else(|| Part::Key(piece.to_owned()), Part::Index));
    }
    parts
}

/// The line of the field at `path`, or of the innermost part of it that is there. A key that
/// stands more than once is found after passing over `skip` of them.
pub(super) fn line_of(text: &str, path: &[Part], skip: usize) -> Option<usize> {
    // Behind what is not YAML the reader finds one more document again and again, without end.
    let most = text.lines().count() + 1;
    (1..=path.len()).rev().find_map(|depth| {
        // A document that cannot be read to the end still has its beginning.
        serde_yaml::Deserializer::from_str(text).take(most).find_map(|document| {
            found_at(&Seek { path: &path[..depth], skip }.deserialize(document).err()?)
        })
    })
}

/// The line on which the document of this number, from 0, has its first field.
pub(super) fn line_of_document(text: &str, number: usize) -> Option<usize> {
    let document = serde_yaml::Deserializer::from_str(text).nth(number)?;
    found_at(&Here.deserialize(document).err()?)
}

fn found_at(error: &serde_yaml::Error) -> Option<usize> {
    error.to_string().contains(FOUND).then(|| error.location())?.map(|at| at.line())
}

const FOUND: &str = "\u{1}found\u{1}";

/// Walks along the path and fails, with [`FOUND`], at its end.
struct Seek<'a> {
    path: &'a [Part],
    skip: usize,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Part::Key(wanted), path)) = self.path.split_first() else {
            return Err(A::Error::custom("no such key"));
        };
        let mut skip = self.skip;
        while let Some(met) =
            map.next_key_seed(Key { wanted, stop: path.is_empty() && skip == 0 })?
        {
            if met && !path.is_empty() {
                map.next_value_seed(Seek { path, skip: self.skip })?;
            } else {
                skip -= usize::from(met);
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Part::Index(wanted), path)) = self.path.split_first() else {
            return Err(A::Error::custom("no such place"));
        };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        if path.is_empty() {
            list.next_element_seed(Here)?;
        } else {
            list.next_element_seed(Seek { path, skip: self.skip })?;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Tells whether a key is the wanted one, and fails on it if the path stops there.
struct Key<'a> {
    wanted: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.stop { Err(E::custom(FOUND)) } else { Ok(key == self.wanted) }
    }
}

/// Fails on whatever is there.
struct Here;

impl<'de> DeserializeSeed<'de> for Here {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }

    fn visit_map<A: MapAccess<'de>>(self, _map: A) -> Result<(), A::Error> {
        Err(A::Error::custom(FOUND))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _list: A) -> Result<(), A::Error> {
        Err(A::Error::custom(FOUND))
    }
}
