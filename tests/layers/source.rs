//! Reads just enough Rust to know which paths a file names.
//!
//! Comments, strings and character literals are dropped; what is left is words and signs. Paths
//! are followed through `use` groups, renames, inline modules, `self` and `super`.

/// A path that a file names, made absolute where it points into this crate.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub path: Path,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Path {
    /// Inside this crate, from its root; empty for the root itself.
    Ours(Vec<String>),
    /// Of another crate, or a name from nearer by.
    Other(Vec<String>),
}

#[derive(Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    /// A whole word, or one sign.
    text: String,
}

/// The paths in `text`, a file that is the module `home` (empty for the crate root).
pub fn paths(text: &str, home: &[&str]) -> Vec<Named> {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        home: home.iter().map(|&s| s.to_owned()).collect(),
        inline: Vec::new(),
        depth: 0,
        found: Vec::new(),
    };
    reader.run();
    reader.found
}

/// The words and signs of `text`, with their lines.
pub fn words(text: &str) -> Vec<(usize, String)> {
    tokens(text).into_iter().map(|t| (t.line, t.text)).collect()
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    home: Vec<String>,
    /// The depths at which inline modules were opened.
    inline: Vec<usize>,
    depth: usize,
    found: Vec<Named>,
}

impl Reader {
    fn peek(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |t| t.text.as_str())
    }

    fn is_sep(&self, ahead: usize) -> bool {
        self.peek(ahead) == ":" && self.peek(ahead + 1) == ":"
    }

    fn run(&mut self) {
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "{" => self.depth += 1,
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inline.last() == Some(&self.depth) {
                        self.inline.pop();
                        self.home.pop();
                    }
                }
                "mod" if self.peek(2) == "{" => {
                    self.home.push(self.peek(1).to_owned());
                    self.inline.push(self.depth);
                    self.at += 1;
                }
                // Where a thing may be seen is no import.
                "pub" if self.peek(1) == "(" && self.peek(2) == "in" => {
                    while self.peek(0) != ")" && self.at < self.tokens.len() {
                        self.at += 1;
                    }
                }
                // `use<'a>` in a type captures lifetimes.
                "use" if self.peek(1) != "<" => {
                    self.at += 1;
                    self.tree(&[]);
                    continue;
                }
                "extern" if self.peek(1) == "crate" => {
                    let line = self.tokens[self.at].line;
                    let name = vec![self.peek(2).to_owned()];
                    self.name(line, name);
                    self.at += 2;
                }
                first if is_word(first) && (self.is_sep(1) || first == "crate") => {
                    self.plain();
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// A path outside `use`: words joined by `::`.
    fn plain(&mut self) {
        let line = self.tokens[self.at].line;
        let mut path = vec![self.peek(0).to_owned()];
        while self.is_sep(1) && is_word(self.peek(3)) {
            self.at += 3;
            path.push(self.peek(0).to_owned());
        }
        self.at += 1;
        // `pub(crate)` names nothing.
        if path != ["crate"] {
            self.name(line, path);
        }
    }

    /// One branch of a `use`, up to its comma, closing brace or semicolon.
    fn tree(&mut self, prefix: &[String]) {
        let mut path = prefix.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |t| t.line);
        loop {
            match self.peek(0).to_owned().as_str() {
                "{" => {
                    self.at += 1;
                    while !matches!(self.peek(0), "}" | "") {
                        let before = self.at;
                        self.tree(&path);
                        // A comma, or something that this reader does not know.
                        if self.peek(0) == "," || self.at == before {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "as" => self.at += 2,
                "self" if !path.is_empty() => self.at += 1,
                // A glob names its module; a macro's `$crate` is `crate`.
                ":" | "*" | "$" => self.at += 1,
                word if is_word(word) => {
                    path.push(word.to_owned());
                    self.at += 1;
                }
                _ => break,
            }
        }
        self.name(line, path);
    }

    fn name(&mut self, line: usize, path: Vec<String>) {
        let mut at = match path.first().map(String::as_str) {
            None => return,
            Some("crate" | "quorate") => Some(Vec::new()),
            Some("self" | "super") => Some(self.home.clone()),
            Some(_) => None,
        };
        let path = if let Some(at) = &mut at {
            for word in &path {
                match word.as_str() {
                    "crate" | "quorate" | "self" => {}
                    "super" => drop(at.pop()),
                    word => at.push(word.to_owned()),
                }
            }
            Path::Ours(std::mem::take(at))
        } else {
            Path::Other(path)
        };
        self.found.push(Named { line, path });
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        match chars[i] {
            '/' if get(i + 1) == '/' => {
                while i < chars.len() && chars[i] != '\n' {
                    i += 1;
                }
            }
            '/' if get(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (get(i), get(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => i = string_end(&chars, i),
            '\'' if get(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if get(i + 2) == '\'' => i += 3,
            // A lifetime: the sign goes, and the word after it is skipped here.
            '\'' => i = word_end(&chars, i + 1),
            c if c.is_alphabetic() || c == '_' => {
                i = word_end(&chars, i);
                let word: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
                match word.as_str() {
                    "r" | "br" | "cr" if get(i + hashes) == '"' => {
                        i = raw_end(&chars, i + hashes + 1, hashes);
                    }
                    "b" | "c" if get(i) == '"' => i = string_end(&chars, i),
                    // `b'x'`: the next turn reads it as a character.
                    "b" if get(i) == '\'' => {}
                    // `r#type` is the word `type`.
                    "r" if hashes == 1 => i += 1,
                    _ => tokens.push(Token { line, text: word }),
                }
            }
            c if c.is_ascii_digit() => i = word_end(&chars, i),
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.to_string() });
                }
                i += 1;
            }
        }
        let end = i.min(chars.len());
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn word_end(chars: &[char], from: usize) -> usize {
    let rest = &chars[from..];
    from + rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()
}

/// The place after a string that opens at `open`.
fn string_end(chars: &[char], open: usize) -> usize {
    let mut i = open + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The place after a raw string whose inside begins at `from`.
fn raw_end(chars: &[char], from: usize, hashes: usize) -> usize {
    let mut i = from;
    while i < chars.len() {
        let closes = chars[i] == '"'
            && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        if closes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    i
}
