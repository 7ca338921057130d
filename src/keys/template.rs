//! A glob with names in it: `project:{project_id}:*`. The text of the configuration goes in, and
//! for each message the values by name; the glob comes out.
//!
//! Invariant: a value stands for itself, whatever characters it has. It neither matches more than
//! itself, nor is it a name again.

use super::glob;

/// A glob in which some parts are filled in later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// A piece of the glob.
    Glob(String),
    /// The name of what stands here: `a.b` has two steps.
    Field(String),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It would match no key.
    #[error("the pattern is empty")]
    Empty,
    /// `{` without its `}`.
    #[error("the `{{` at character {0} is not closed; for a brace itself write `{{{{`")]
    Open(usize),
    /// `}` without its `{`.
    #[error("the `}}` at character {0} closes nothing; for a brace itself write `}}}}`")]
    Closed(usize),
    /// `{}`, `{a..b}`, `{a{b}`.
    #[error("`{{{0}}}` is no name of a field: write `{{project_id}}` or `{{project.id}}`")]
    Name(String),
}

impl Template {
    /// Reads a pattern with fields in braces; `{{` and `}}` are braces of the pattern.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::Empty);
        }
        let (mut parts, mut glob) = (Vec::new(), String::new());
        let mut rest = text.char_indices().peekable();
        while let Some((at, character)) = rest.next() {
            let place = || text.get(..at).unwrap_or_default().chars().count() + 1;
            let is_twice = rest.next_if(|(_, next)| *next == character && "{}".contains(*next));
            match character {
                '{' if is_twice.is_none() => {
                    let behind = text.get(at + 1..).unwrap_or_default();
                    let (name, _) = behind.split_once('}').ok_or_else(|| Invalid::Open(place()))?;
                    if name.contains('{') || name.split('.').any(str::is_empty) {
                        return Err(Invalid::Name(name.to_owned()));
                    }
                    parts.push(Part::Glob(std::mem::take(&mut glob)));
                    parts.push(Part::Field(name.to_owned()));
                    while rest.next().is_some_and(|(_, inside)| inside != '}') {}
                }
                '}' if is_twice.is_none() => return Err(Invalid::Closed(place())),
                character => glob.push(character),
            }
        }
        parts.push(Part::Glob(glob));
        Ok(Self(parts))
    }

    /// The glob, with what `value` says of each field.
    pub fn fill<E>(&self, value: impl Fn(&str) -> Result<String, E>) -> Result<Vec<u8>, E> {
        let mut filled = Vec::new();
        for part in &self.0 {
            match part {
                Part::Glob(text) => filled.extend_from_slice(text.as_bytes()),
                Part::Field(name) => glob::escape(value(name)?.as_bytes(), &mut filled),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::super::glob::matches;
    use super::{Invalid, Template};
    use proptest::prelude::*;

    fn filled(template: &str, value: &str) -> String {
        let template = Template::parse(template).unwrap();
        let name = |name: &str| Ok::<_, ()>(value.replace("NAME", name));
        String::from_utf8(template.fill(name).unwrap()).unwrap()
    }

    #[test]
    fn fields_are_filled_in() {
        for (template, value, wanted) in [
            ("project:{project_id}:*", "42", "project:42:*"),
            ("{a.b}{c}", "<NAME>", "<a.b><c>"),
            ("plain:*", "", "plain:*"),
            ("{{user:{id}}}:cart", "7", "{user:7}:cart"),
            ("ü{id}", "*?[a]", "ü\\*\\?\\[a\\]"),
        ] {
            assert_eq!(filled(template, value), wanted, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_named() {
        for (text, wanted) in [
            ("", Invalid::Empty),
            ("ü:{id", Invalid::Open(3)),
            ("a}:b", Invalid::Closed(2)),
            ("a:{}", Invalid::Name(String::new())),
            ("a:{b..c}", Invalid::Name("b..c".to_owned())),
            ("a:{b{c}", Invalid::Name("b{c".to_owned())),
        ] {
            assert_eq!(Template::parse(text), Err(wanted), "{text}");
        }
        let words = Invalid::Open(3).to_string();
        assert_eq!(words, "the `{` at character 3 is not closed; for a brace itself write `{{`");
    }

    proptest! {
        /// It means the keys that have this value there, and no others.
        #[test]
        fn a_value_matches_itself_alone(value in ".{1,12}", other in ".{1,12}") {
            let pattern = filled("a:{id}:*", &value);
            let key = format!("a:{value}:b");
            prop_assert!(matches(pattern.as_bytes(), key.as_bytes()));
            let key = format!("a:{other}:b");
            let is_other = !key.starts_with(&format!("a:{value}:"));
            prop_assert_eq!(!matches(pattern.as_bytes(), key.as_bytes()), is_other);
        }
    }
}
