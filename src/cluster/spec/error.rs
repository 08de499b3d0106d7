//! The one line a refused spec is told in.

use std::fmt::{self, Write as _};

use super::locate::{line_of, path_parts};

/// Why a spec was refused. Its text is one line: file, line, field, what is wrong, the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}; {}", Place(self), Line(what), Line(fix))]
pub struct SpecError {
    /// The file, as it was named to [`super::read`]; empty if the spec did not come from one.
    pub file: String,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// The field, such as `spec.nodes[0].address`; empty if it is the file as a whole.
    pub path: String,
    /// What was found.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}

impl SpecError {
    /// The same refusal, told of this file and, where the field stands in its text, of the line.
    #[must_use]
    pub fn in_file(mut self, file: &str, text: &str) -> SpecError {
        file.clone_into(&mut self.file);
        self.line = self.line.or_else(|| line_of(text, &path_parts(&self.path), 0));
        self
    }

    /// A refusal of the field at `path`, before file and line are known.
    pub(super) fn at(
        path: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> SpecError {
        let (path, what, fix) = (path.into(), what.into(), fix.into());
        SpecError { file: String::new(), line: None, path, what, fix }
    }
}

struct Place<'a>(&'a SpecError);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SpecError { file, line, path, .. } = self.0;
        f.write_str(file)?;
        if let Some(line) = line {
            write!(f, ":{line}")?;
        }
        if !file.is_empty() || line.is_some() {
            f.write_str(": ")?;
        }
        if path.is_empty() { Ok(()) } else { write!(f, "{}: ", Line(path)) }
    }
}

/// A text on one line: a key or a value of the file may hold any character.
struct Line<'a>(&'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() { write!(f, "{}", c.escape_debug())? } else { f.write_char(c)? }
        }
        Ok(())
    }
}
