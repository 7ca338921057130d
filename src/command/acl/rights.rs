//! What one user may: rules as `ACL SETUSER` takes them, and the requests that they permit.
//!
//! ```text
//!   "+@read" "-@dangerous" "+config|get" --in this order--> a bit for each row
//!   "orders:*" "%R~users:*" ------------------------------> globs, for reading, writing, or both
//!   request --> permitted | its command is denied | a key is | an option is
//! ```
//!
//! Keys are matched as clients write them. Invariant: whatever is not understood is denied; what
//! the table does not know may be used by who may use everything of it.

use crate::command::acl::{self, Access, CATEGORIES, Category};
use crate::command::{Flags, KeySpec, Need, Route, Spec, all, by_name, keys, own};
use crate::keys::glob::Glob;

/// What a user may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// By row index.
    commands: Box<[bool]>,
    /// True if it may use commands that the table does not have.
    has_strangers: bool,
    /// True for `*`: every key, and what cannot be told to be one.
    has_all_keys: bool,
    keys: Vec<KeyPattern>,
}

/// Keys that a user may use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    access: Access,
    glob: Glob,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Its command.
    Command,
    /// One of its keys.
    Key,
    /// This option of SORT: it reads keys that nobody names. The server says so when it executes.
    Option(&'static str),
}

/// Why a rule is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleFault {
    /// It begins neither with `+` nor with `-`.
    NoSign,
    /// No category has this name.
    Category,
    /// No command has this name.
    Command,
    /// The PROXY family goes by the user's role.
    OfProxy,
    /// Of a command without subcommands, a first argument.
    FirstArgument,
    /// `%` and no `R` or `W`, or no `~` behind them.
    Access,
}

impl Rights {
    /// None at all.
    pub fn none() -> Self {
        Self {
            commands: vec![false; all().len()].into(),
            has_strangers: false,
            has_all_keys: false,
            keys: Vec::new(),
        }
    }

    /// True if nothing is ever denied.
    pub fn are_all(&self) -> bool {
        self.has_strangers
            && self.has_all_keys
            && self.commands.iter().all(|is_allowed| *is_allowed)
    }

    /// True if every key may be read.
    fn reads_all_keys(&self) -> bool {
        let is_all = |pattern: &KeyPattern| pattern.glob.text() == b"*" && pattern.access.reads;
        self.has_all_keys || self.keys.iter().any(is_all)
    }

    /// Adds one rule of `commands`.
    pub fn add_rule(&mut self, rule: &str) -> Result<(), RuleFault> {
        let rule = rule.to_ascii_lowercase();
        let (is_allowed, name) = match (rule.as_str(), rule.split_at_checked(1)) {
            ("allcommands", _) => (true, "@all"),
            ("nocommands", _) => (false, "@all"),
            (_, Some(("+", name))) => (true, name),
            (_, Some(("-", name))) => (false, name),
            _ => return Err(RuleFault::NoSign),
        };
        match name.strip_prefix('@') {
            Some("all") => {
                self.commands.fill(is_allowed);
                self.has_strangers = is_allowed;
            }
            Some(category) => {
                let found = CATEGORIES.iter().find(|(word, _)| *word == category);
                self.set_category(found.ok_or(RuleFault::Category)?.1, is_allowed);
            }
            None => self.set(command(name)?, is_allowed),
        }
        Ok(())
    }

    /// A container stands for its subcommands, whatever their categories, as in the server. Of what
    /// the table does not have, the category is not known: it is taken away with any.
    fn set_category(&mut self, category: Category, is_allowed: bool) {
        for spec in all().iter().filter(|spec| acl::of(spec).is(category)) {
            self.set(spec, is_allowed);
        }
        self.has_strangers &= is_allowed;
    }

    /// A row and its subcommands.
    fn set(&mut self, spec: &Spec, is_allowed: bool) {
        for row in std::iter::once(spec).chain(spec.subs()) {
            if let Some(place) = self.commands.get_mut(usize::from(row.index)) {
                *place = is_allowed;
            }
        }
    }

    /// Adds one of `key_patterns`: `glob` or `~glob`, `%R~glob`, `%W~glob`, `%RW~glob`.
    pub fn add_keys(&mut self, pattern: &str) -> Result<(), RuleFault> {
        let (access, glob) = match pattern.strip_prefix('%') {
            None => (Access::RW, pattern.strip_prefix('~').unwrap_or(pattern)),
            Some(rest) => {
                let (letters, glob) = rest.split_once('~').ok_or(RuleFault::Access)?;
                let mut access = Access::NONE;
                for letter in letters.chars() {
                    match letter.to_ascii_lowercase() {
                        'r' => access.reads = true,
                        'w' => access.writes = true,
                        _ => return Err(RuleFault::Access),
                    }
                }
                if access == Access::NONE {
                    return Err(RuleFault::Access);
                }
                (access, glob)
            }
        };
        self.has_all_keys |= matches!(pattern, "*" | "~*");
        // The same one again adds to what it permits.
        let known = self.keys.iter_mut().find(|known| known.glob.text() == glob.as_bytes());
        match known {
            Some(known) => {
                known.access.reads |= access.reads;
                known.access.writes |= access.writes;
            }
            None => self.keys.push(KeyPattern { access, glob: Glob::new(glob.as_bytes()) }),
        }
        Ok(())
    }

    /// True if this command may be used. Who has not logged in may log in, as may everybody.
    pub fn has_command(&self, spec: &Spec) -> bool {
        let known = self.commands.get(usize::from(spec.index)).copied();
        // (nearside's own go by the user's role.)
        known.unwrap_or_else(|| own::has(spec) || self.has_strangers)
            || spec.flags.has(Flags::NO_AUTH)
    }

    /// True if this may be done with a key.
    pub fn has_key(&self, key: &[u8], access: Access) -> bool {
        // (No other pattern matches an empty key, in the server.)
        let matches = |glob: &Glob| match key {
            [] => glob.text().is_empty(),
            key => glob.matches(key),
        };
        let permits =
            |pattern: &KeyPattern| pattern.access.covers(access) && matches(&pattern.glob);
        self.has_all_keys || self.keys.iter().any(permits)
    }

    /// Whether a request is permitted.
    pub fn check<'a>(
        &self,
        spec: &Spec,
        argc: usize,
        arg: &dyn Fn(usize) -> &'a [u8],
    ) -> Result<(), Denied> {
        if !self.has_command(spec) {
            return Err(Denied::Command);
        }
        if self.has_all_keys {
            return Ok(());
        }
        if spec.route == Route::Own(Need::Unknown) {
            // Nobody knows where its keys are.
            return Err(Denied::Key);
        }
        let row = acl::of(spec);
        let (mut nth, mut verdict) = (0, Ok(()));
        keys::for_each(spec, argc, arg, |at| {
            let denied = match option(spec, at, arg) {
                Some(option) => (!self.reads_all_keys()).then_some(Denied::Option(option)),
                None => acl::access((spec, &row), nth, argc, arg)
                    .is_some_and(|access| !self.has_key(arg(at), access))
                    .then_some(Denied::Key),
            };
            nth += 1;
            // A key that is denied outweighs an option.
            match denied {
                Some(Denied::Key) => verdict = Err(Denied::Key),
                Some(denied) if verdict.is_ok() => verdict = Err(denied),
                _ => {}
            }
        });
        match verdict {
            Ok(()) if gets_elements(spec, argc, arg) && !self.reads_all_keys() => {
                Err(Denied::Option("GET"))
            }
            verdict => verdict,
        }
    }
}

/// BY or GET, if this argument of SORT is the pattern behind it.
fn option<'a>(spec: &Spec, at: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> Option<&'static str> {
    if spec.keys != KeySpec::Sort || at < 2 {
        return None;
    }
    ["BY", "GET"].into_iter().find(|word| arg(at - 1).eq_ignore_ascii_case(word.as_bytes()))
}

/// True for SORT with `GET #`, which names no key: the server does not tell it from others.
fn gets_elements<'a>(spec: &Spec, argc: usize, arg: &dyn Fn(usize) -> &'a [u8]) -> bool {
    let is = |at: usize| arg(at).eq_ignore_ascii_case(b"GET") && arg(at + 1) == b"#";
    spec.keys == KeySpec::Sort && (2..argc.saturating_sub(1)).any(is)
}

/// The row of a rule's `name` or `name|subcommand`.
fn command(name: &str) -> Result<&'static Spec, RuleFault> {
    if let Some(spec) = by_name(name) {
        return Ok(spec);
    }
    if own::by_name(name).is_some() {
        return Err(RuleFault::OfProxy);
    }
    let container = name.split_once('|').and_then(|(container, _)| by_name(container));
    match container {
        Some(spec) if spec.subcommands == 0 => Err(RuleFault::FirstArgument),
        _ => Err(RuleFault::Command),
    }
}
