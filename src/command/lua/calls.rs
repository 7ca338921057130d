//! One `redis.call`: what it is given against what its command takes for keys.
//!
//! A command may be called if nearside, asked for it by a client, would only prefix its keys and
//! pass its reply as it is; inside a script neither the one nor the other can be done, so its keys
//! must be elements of KEYS, and nothing else may be.

use crate::command::lua::Why;
use crate::command::lua::value::Value;
use crate::command::{Class, Flags, KeySpec, ReplyRule, Route, Spec, Unknown, keys, resolve};
use crate::wire::number::parse_i64;

/// The values of a list of expressions.
#[derive(Debug, Default)]
pub(super) struct Arguments<'s> {
    /// The first ones.
    pub(super) fixed: Vec<Value<'s>>,
    /// What each of any number behind them may be.
    pub(super) rest: Option<Value<'s>>,
}

impl<'s> Arguments<'s> {
    /// The value at a place.
    pub(super) fn at(&self, place: usize) -> Value<'s> {
        match (self.fixed.get(place), self.rest) {
            (Some(value), _) => *value,
            // There may be so many, or not.
            (None, Some(rest)) => rest.or(Value::Nil),
            (None, None) => Value::Nil,
        }
    }

    /// Everything that is somewhere in it.
    pub(super) fn all(&self) -> impl Iterator<Item = Value<'s>> + '_ {
        self.fixed.iter().copied().chain(self.rest)
    }

    /// A text at a place, or nothing that could be mistaken for a word.
    fn text(&self, place: usize) -> &'s [u8] {
        match self.fixed.get(place) {
            Some(Value::Text(text)) => text,
            _ => b"",
        }
    }
}

/// Which arguments are keys.
struct Roles {
    /// Of those at fixed places.
    fixed: Vec<bool>,
    /// Of all the others; `None` = it cannot be said.
    rest: Option<bool>,
}

/// Says if a call may be made, and of which command it is, if it is executed at all.
pub(super) fn check(args: &Arguments<'_>) -> Result<Option<&'static Spec>, Why> {
    let spec = match args.fixed.first() {
        Some(Value::Text(name)) => command(name, args)?,
        // It fails, or has not been seen to run yet.
        Some(Value::Never | Value::Nil) => return Ok(None),
        None if args.rest.is_none() => return Ok(None),
        _ => return Err(Why::Unnamed),
    };
    // The server executes neither what scripts may not call nor what has too few arguments. (More
    // than the table knows of, a newer server may take.)
    let least = usize::from(spec.arity.unsigned_abs());
    let is_short = args.rest.is_none() && args.fixed.len() < least;
    if is_short || spec.flags.has(Flags::NOSCRIPT) {
        return Ok(None);
    }
    if !is_usable(spec) {
        return Err(Why::Command(spec.name));
    }
    let roles = roles(spec, args).ok_or(Why::Keys(spec.name))?;
    for (value, is_key) in args.fixed.iter().zip(&roles.fixed) {
        fits(spec, *value, Some(*is_key))?;
    }
    args.rest.map_or(Ok(()), |value| fits(spec, value, roles.rest))?;
    Ok(Some(spec))
}

fn command(name: &[u8], args: &Arguments<'_>) -> Result<&'static Spec, Why> {
    let count = args.fixed.len();
    let is_open = count < 2 && args.rest.is_some();
    let is_written = matches!(args.fixed.get(1), Some(Value::Text(_)));
    match resolve(count, |at| args.text(at)) {
        Ok(spec) if spec.subcommands == 0 || !is_open => Ok(spec),
        Ok(_) => Err(Why::Unnamed),
        Err(Unknown::Subcommand(_)) if !is_written => Err(Why::Unnamed),
        Err(_) => Err(Why::Unknown(name.into())),
    }
}

/// True if neither its keys nor its reply need more than KEYS gives.
fn is_usable(spec: &Spec) -> bool {
    let is_kind = matches!(
        spec.class,
        Class::Local
            | Class::CacheableRead
            | Class::Read
            | Class::Write
            | Class::MultiKeyWrite
            | Class::Blocking
            | Class::PubSub
    );
    is_kind
        && !matches!(spec.route, Route::ForwardUnlessPrefixed | Route::Refuse(_))
        && matches!(spec.reply, ReplyRule::AsIs | ReplyRule::Error)
}

fn fits(spec: &Spec, value: Value<'_>, is_key: Option<bool>) -> Result<(), Why> {
    match (value, is_key) {
        (Value::Never | Value::Nil, _)
        | (Value::Key, Some(true))
        | (Value::Text(_) | Value::Data, Some(false)) => Ok(()),
        (Value::Key, Some(false)) if spec.class == Class::PubSub => Err(Why::Channel(spec.name)),
        (Value::Key | Value::Keys, Some(false)) => Err(Why::KeyAsData),
        (Value::Text(_) | Value::Data, Some(true)) => Err(Why::NoKey(spec.name)),
        (Value::Api | Value::Command | Value::Register | Value::Function(_), _) => Err(Why::Passed),
        (_, None) => Err(Why::Keys(spec.name)),
        _ => Err(Why::Unclear),
    }
}

/// Which arguments the command takes for keys; `None` if that depends on what only the running
/// script knows.
fn roles(spec: &Spec, args: &Arguments<'_>) -> Option<Roles> {
    let (length, is_open) = (args.fixed.len(), args.rest.is_some());
    match spec.keys {
        KeySpec::None => Some(exact(spec, args, Some(false))),
        KeySpec::One(at) => {
            let is_there = usize::from(at) < length;
            Some(exact(spec, args, is_there.then_some(false)))
        }
        KeySpec::Range { first, last: -1, step: 1 } if is_open => {
            let is_there = usize::from(first) <= length;
            Some(from(usize::from(first), length, is_there.then_some(true)))
        }
        KeySpec::Range { last, .. } => {
            let is_there = usize::try_from(last).is_ok_and(|last| last < length);
            Some(exact(spec, args, is_there.then_some(false)))
        }
        KeySpec::Counted { count, step } => counted(spec, args, usize::from(count), step),
        KeySpec::DestinationCounted => counted(spec, args, 2, 1),
        // Their options decide: every one must be written out.
        KeySpec::Georadius { options } => {
            let words = args.fixed.get(usize::from(options)..).unwrap_or_default();
            (!is_open && words.iter().all(is_written)).then(|| exact(spec, args, None))
        }
        KeySpec::Sort => {
            let words = args.fixed.get(2..).unwrap_or_default();
            (!is_open && words.iter().all(is_written)).then(|| exact(spec, args, None))
        }
        // (The replies to XREAD name keys anyway.)
        KeySpec::Streams | KeySpec::Dryrun | KeySpec::Migrate => None,
    }
}

/// A word of the script, or a key, whose place then says what it is.
const fn is_written(value: &Value<'_>) -> bool {
    matches!(value, Value::Text(_) | Value::Key | Value::Never)
}

/// The keys among the fixed arguments, as of a client's request.
fn exact(spec: &Spec, args: &Arguments<'_>, rest: Option<bool>) -> Roles {
    let mut fixed = vec![false; args.fixed.len()];
    keys::for_each(
        spec,
        fixed.len(),
        |at| args.text(at),
        |at| {
            if let Some(role) = fixed.get_mut(at) {
                *role = true;
            }
        },
    );
    Roles { fixed, rest }
}

/// All from `first` on.
fn from(first: usize, length: usize, rest: Option<bool>) -> Roles {
    Roles { fixed: (0..length).map(|at| at >= first).collect(), rest }
}

/// As many keys as the argument at `count` says, if that is written out and they all are there;
/// else everything behind it must be one.
fn counted(spec: &Spec, args: &Arguments<'_>, count: usize, step: u8) -> Option<Roles> {
    let length = args.fixed.len();
    let wanted = match args.fixed.get(count) {
        Some(Value::Text(text)) => parse_i64(text).and_then(|keys| usize::try_from(keys).ok()),
        _ => None,
    };
    let end = wanted.and_then(|keys| keys.checked_mul(usize::from(step))?.checked_add(count + 1));
    if end.is_some_and(|end| end <= length) {
        return Some(exact(spec, args, Some(false)));
    }
    if step != 1 || count >= length {
        return None;
    }
    let mut roles = from(count + 1, length, Some(true));
    if spec.keys == KeySpec::DestinationCounted
        && let Some(destination) = roles.fixed.get_mut(1)
    {
        *destination = true;
    }
    Some(roles)
}
