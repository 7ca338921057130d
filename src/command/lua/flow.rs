//! Where the names of keys flow in a script. Every local variable, parameter and result gets one
//! [`Value`] that says what it may hold at any time; values only grow, so going through the script
//! until none does gives the answer. What may be a key *or* something else is of no use to
//! anybody, and what is refused once stays refused.
//!
//! A key's name may come from `KEYS[n]`, pass through variables, parameters, results, `ipairs` and
//! `unpack`, and end where a command takes a key. Anywhere else it is refused: joined to a string
//! it makes a name that nobody has declared, and as data it would show the prefix.

use crate::command::Spec;
use crate::command::lua::calls::{self, Arguments};
use crate::command::lua::names::{is_harmless, is_library, is_meant, is_power};
use crate::command::lua::syntax::{Block, Call, Chunk, Expr, Function, Stat};
use crate::command::lua::value::Value;
use crate::command::lua::{Fault, Why};

/// Times a script is gone through at most; real ones need three or four.
const ROUNDS_MAX: usize = 24;

/// What the calls of a function bring together.
#[derive(Clone, Debug)]
struct Known<'s> {
    /// What is passed beyond its parameters: `...`.
    rest: Value<'s>,
    /// All that it returns.
    result: Value<'s>,
    /// True if it returns several values, or none.
    is_many: bool,
    /// True if somebody unknown may call it, who has only data.
    is_loose: bool,
    /// True if its result is sent to a client.
    is_public: bool,
}

type Result<T> = std::result::Result<T, Fault>;

/// Says if a script, or each function of a library, uses no key but those it is given; and which
/// commands it calls.
pub(super) fn check(chunk: &Chunk, is_library: bool) -> Result<Vec<&'static Spec>> {
    let known = |code: &Function| Known {
        rest: Value::Never,
        result: Value::Never,
        is_many: !code.returns(),
        is_loose: false,
        is_public: false,
    };
    let mut flow = Flow {
        chunk,
        locals: vec![Value::Never; chunk.locals.len()],
        functions: chunk.functions.iter().map(known).collect(),
        is_library,
        inside: None,
        loose: 0,
        line: 1,
        has_changed: false,
        called: Vec::new(),
    };
    for _ in 0..ROUNDS_MAX {
        flow.has_changed = false;
        flow.block(&chunk.body)?;
        if !flow.has_changed {
            return Ok(flow.called);
        }
    }
    Err(Fault { line: 1, why: Why::TooDeep })
}

struct Flow<'s> {
    chunk: &'s Chunk,
    locals: Vec<Value<'s>>,
    functions: Vec<Known<'s>>,
    /// True if it registers functions instead of being run.
    is_library: bool,
    /// The function whose body is being read.
    inside: Option<usize>,
    /// The frame of the innermost function around here that may be called by anybody, at any time;
    /// 0 = none is.
    loose: usize,
    line: u32,
    has_changed: bool,
    /// The commands of all calls so far.
    called: Vec<&'static Spec>,
}

impl<'s> Flow<'s> {
    fn fault<T>(&self, why: Why) -> Result<T> {
        Err(Fault { line: self.line, why })
    }

    /// Adds what `place` may hold.
    fn grow(has_changed: &mut bool, place: Option<&mut Value<'s>>, value: Value<'s>) {
        if let Some(place) = place {
            let grown = place.or(value);
            *has_changed |= grown != *place;
            *place = grown;
        }
    }

    fn set(&mut self, local: usize, value: Value<'s>) {
        Self::grow(&mut self.has_changed, self.locals.get_mut(local), value);
    }

    fn block(&mut self, block: &'s Block) -> Result<()> {
        block.iter().try_for_each(|(line, stat)| {
            self.line = *line;
            self.stat(stat)
        })
    }

    fn stat(&mut self, stat: &'s Stat) -> Result<()> {
        match stat {
            Stat::Local(locals, list) => {
                let values = self.list(list)?;
                for (at, local) in locals.iter().enumerate() {
                    self.set(*local, values.at(at));
                }
                Ok(())
            }
            Stat::Assign(targets, list) => {
                let values = self.list(list)?;
                let mut each = targets.iter().enumerate();
                each.try_for_each(|(at, target)| self.assign(target, values.at(at)))
            }
            Stat::Call(call) => self.list(std::slice::from_ref(call)).map(|_| ()),
            Stat::Run(conditions, blocks) => {
                // What is tested has no effect but its calls'.
                conditions.iter().try_for_each(|condition| self.value(condition).map(|_| ()))?;
                blocks.iter().try_for_each(|block| self.block(block))
            }
            Stat::Count(local, list, block) => {
                let values = self.list(list)?;
                self.all_data(&values)?;
                self.set(*local, Value::Data);
                self.block(block)
            }
            Stat::Each(locals, list, block) => {
                let element = self.elements(list)?;
                for (at, local) in locals.iter().enumerate() {
                    self.set(*local, if at == 1 { element } else { Value::Data });
                }
                self.block(block)
            }
            Stat::Return(list) => self.give(list),
        }
    }

    /// What `for _, x in list do` gives as `x`.
    fn elements(&mut self, list: &'s [Expr]) -> Result<Value<'s>> {
        if let [Expr::Call(call)] = list
            && matches!(&call.callee, Expr::Global(name) if matches!(&**name, b"ipairs" | b"pairs"))
            && let [table] = &*call.args
        {
            if let (Expr::Global(name), Expr::Table(entries)) = (&call.callee, table)
                && &**name == b"ipairs"
            {
                return self.written_out(entries);
            }
            match self.value(table)? {
                Value::Keys => return Ok(Value::Key),
                value => self.data(value)?,
            }
            return Ok(Value::Data);
        }
        let values = self.list(list)?;
        self.all_data(&values)?;
        Ok(Value::Data)
    }

    /// The elements of a list that stands where it is gone through, so that nobody else has it:
    /// keys, or data. What its entries are named `ipairs` does not tell.
    fn written_out(&mut self, entries: &'s [(Box<[u8]>, Expr)]) -> Result<Value<'s>> {
        let (mut element, mut all) = (Value::Never, Vec::new());
        for (_, entry) in entries {
            let values = self.list(std::slice::from_ref(entry))?;
            element = values.all().fold(element, Value::or);
            all.push(values);
        }
        if matches!(element, Value::Key | Value::Never) {
            return Ok(element);
        }
        for values in &all {
            self.all_data(values)?;
        }
        Ok(Value::Data)
    }

    fn give(&mut self, list: &'s [Expr]) -> Result<()> {
        let values = self.list(list)?;
        let Some(function) = self.inside else {
            return self.all_data(&values);
        };
        if self.functions.get(function).is_some_and(|known| known.is_loose || known.is_public) {
            self.all_data(&values)?;
        }
        let result = values.all().fold(Value::Nil, Value::or);
        if let Some(known) = self.functions.get_mut(function) {
            Self::grow(&mut self.has_changed, Some(&mut known.result), result);
            let is_many = known.is_many || values.fixed.len() != 1 || values.rest.is_some();
            self.has_changed |= is_many != known.is_many;
            known.is_many = is_many;
        }
        Ok(())
    }

    fn assign(&mut self, target: &'s Expr, value: Value<'s>) -> Result<()> {
        match target {
            Expr::Local(local) => {
                self.keep(*local, value)?;
                self.set(*local, value);
                Ok(())
            }
            // Servers let no script make a global; these exist, and would mean something else.
            Expr::Global(name) => {
                if is_meant(name) {
                    return self.fault(Why::Assigned(name.clone()));
                }
                self.data(value)
            }
            Expr::Index(index) => {
                let (table, key) = &**index;
                match self.value(table)? {
                    Value::Keys => return self.fault(Why::Assigned(b"KEYS".as_slice().into())),
                    table => self.data(table)?,
                }
                let key = self.value(key)?;
                self.data(key)?;
                self.data(value)
            }
            _ => self.fault(Why::NotLua),
        }
    }

    /// The values of a list, of which the last may be many.
    fn list(&mut self, list: &'s [Expr]) -> Result<Arguments<'s>> {
        let Some((last, before)) = list.split_last() else {
            return Ok(Arguments::default());
        };
        let mut values = Arguments::default();
        for expr in before {
            values.fixed.push(self.value(expr)?);
        }
        match last {
            Expr::Rest => {
                values.rest = Some(match self.inside {
                    // A script is given nothing beside KEYS and ARGV.
                    None => Value::Nil,
                    Some(function) => {
                        self.functions.get(function).map_or(Value::Nil, |known| known.rest)
                    }
                });
            }
            Expr::Call(call) => {
                let (value, is_many) = self.call(call)?;
                if is_many {
                    values.rest = Some(value);
                } else {
                    values.fixed.push(value);
                }
            }
            Expr::Method(call) => {
                self.method(call)?;
                values.rest = Some(Value::Data);
            }
            expr => values.fixed.push(self.value(expr)?),
        }
        Ok(values)
    }

    /// The one value of an expression.
    fn value(&mut self, expr: &'s Expr) -> Result<Value<'s>> {
        Ok(match expr {
            Expr::Falsy => Value::Nil,
            Expr::True => Value::Data,
            Expr::Text(text) => Value::Text(text),
            Expr::Rest | Expr::Call(_) | Expr::Method(_) => {
                self.list(std::slice::from_ref(expr))?.at(0)
            }
            Expr::Function(function) => {
                self.body(*function)?;
                Value::Function(*function)
            }
            Expr::Local(local) => self.local(*local)?,
            Expr::Global(name) => self.global(name)?,
            Expr::Index(index) => self.index(&index.0, &index.1)?,
            Expr::Table(entries) => {
                for (_, entry) in entries {
                    let values = self.list(std::slice::from_ref(entry))?;
                    self.all_data(&values)?;
                }
                Value::Data
            }
            // The left side only where it is nil or false.
            Expr::And(sides) => {
                self.value(&sides.0)?;
                self.value(&sides.1)?.or(Value::Nil)
            }
            Expr::Or(sides) => self.value(&sides.0)?.or(self.value(&sides.1)?),
            Expr::Equal(sides) => self.equal(&sides.0, &sides.1)?,
            Expr::Concat(sides) => self.concat(&sides.0, &sides.1)?,
            Expr::Binary(sides) => {
                for side in [&sides.0, &sides.1] {
                    let value = self.value(side)?;
                    self.data(value)?;
                }
                Value::Data
            }
            Expr::Not(inner) => {
                self.value(inner)?;
                Value::Data
            }
            Expr::Length(inner) => match self.value(inner)? {
                Value::Keys => Value::Data,
                value => self.data(value).map(|()| Value::Data)?,
            },
            Expr::Minus(inner) => {
                let value = self.value(inner)?;
                self.data(value)?;
                Value::Data
            }
            Expr::One(inner) => self.value(inner)?,
        })
    }

    fn concat(&mut self, left: &'s Expr, right: &'s Expr) -> Result<Value<'s>> {
        let sides = [self.value(left)?, self.value(right)?];
        for side in sides {
            match side {
                Value::Key | Value::Mixed => return self.fault(Why::Builds),
                side => self.data(side)?,
            }
        }
        Ok(if sides.contains(&Value::Never) { Value::Never } else { Value::Data })
    }

    /// Whether a key is there, and whether two are the same, tells no name.
    fn equal(&mut self, left: &'s Expr, right: &'s Expr) -> Result<Value<'s>> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let is_open = |value| matches!(value, Value::Nil | Value::Never);
        if !(is_open(left) || is_open(right) || (left == Value::Key && right == Value::Key)) {
            self.data(left)?;
            self.data(right)?;
        }
        Ok(Value::Data)
    }

    fn body(&mut self, function: usize) -> Result<()> {
        let chunk = self.chunk;
        let Some(code) = chunk.functions.get(function) else {
            return Ok(());
        };
        let (inside, line, loose) = (self.inside.replace(function), self.line, self.loose);
        if self.functions.get(function).is_some_and(|known| known.is_loose) {
            self.loose = code.frame;
        }
        self.block(&code.body)?;
        (self.inside, self.line, self.loose) = (inside, line, loose);
        Ok(())
    }

    /// The frame of the function whose body is being read.
    fn frame(&self) -> usize {
        let code = self.inside.and_then(|function| self.chunk.functions.get(function));
        code.map_or(0, |code| code.frame)
    }

    /// What a variable may hold.
    fn local(&self, local: usize) -> Result<Value<'s>> {
        let Some((&value, &owner)) = self.locals.get(local).zip(self.chunk.locals.get(local))
        else {
            return Ok(Value::Mixed);
        };
        let is_kept = match value {
            Value::Key | Value::Keys | Value::Mixed => true,
            // Those that were made as the library was loaded have seen no key.
            Value::Function(_) => owner > 0,
            _ => false,
        };
        // A function that got away may be called when other keys are given, with those it has seen.
        if self.is_library && is_kept && owner < self.loose {
            return self.fault(Why::Kept);
        }
        Ok(value)
    }

    /// A library's variables live on between its calls: those of another function than the one that
    /// sets them must never hold a key, nor a function, which may have seen one.
    fn keep(&self, local: usize, value: Value<'s>) -> Result<()> {
        let is_kept = matches!(value, Value::Key | Value::Keys | Value::Function(_) | Value::Mixed);
        let is_own = self.chunk.locals.get(local) == Some(&self.frame());
        if self.is_library && is_kept && !is_own { self.fault(Why::Kept) } else { Ok(()) }
    }

    fn global(&self, name: &[u8]) -> Result<Value<'s>> {
        match name {
            b"KEYS" | b"ARGV" if self.is_library => self.fault(Why::Global(name.into())),
            b"KEYS" => Ok(Value::Keys),
            b"redis" | b"server" => Ok(Value::Api),
            b"ARGV" => Ok(Value::Data),
            _ if is_library(name) => Ok(Value::Data),
            _ if is_power(name) => self.fault(Why::Global(name.into())),
            // There is no such variable: the server ends the script here.
            _ => Ok(Value::Never),
        }
    }

    fn index(&mut self, table: &'s Expr, key: &'s Expr) -> Result<Value<'s>> {
        let (table, key) = (self.value(table)?, self.value(key)?);
        self.data(key)?;
        match (table, key) {
            (Value::Keys, _) => Ok(Value::Key),
            (Value::Api, Value::Text(b"call" | b"pcall")) => Ok(Value::Command),
            (Value::Api, Value::Text(b"register_function")) if self.is_library => {
                Ok(Value::Register)
            }
            (Value::Api, Value::Text(field)) if is_harmless(field) => Ok(Value::Data),
            (Value::Api, Value::Text(field)) => self.fault(Why::Api(field.into())),
            (Value::Never | Value::Nil, _) => Ok(Value::Never),
            _ => self.data(table).map(|()| Value::Data),
        }
    }

    fn method(&mut self, call: &'s Call) -> Result<()> {
        self.line = call.line;
        let object = self.value(&call.callee)?;
        self.data(object)?;
        let args = self.list(&call.args)?;
        self.all_data(&args)
    }

    /// What a call gives, and whether that may be several values.
    fn call(&mut self, call: &'s Call) -> Result<(Value<'s>, bool)> {
        let callee = self.value(&call.callee)?;
        if callee == Value::Register {
            return self.register(call).map(|()| (Value::Nil, false));
        }
        let mut args = self.list(&call.args)?;
        self.line = call.line;
        let name = match &call.callee {
            Expr::Global(name) => &**name,
            _ => &[],
        };
        // The functions of Lua through which keys may pass.
        match (name, args.fixed.first().copied()) {
            (b"unpack", Some(Value::Keys)) => {
                args.fixed.remove(0);
                self.all_data(&args)?;
                Ok((Value::Key, true))
            }
            (b"pcall", Some(callee @ (Value::Command | Value::Function(_)))) => {
                args.fixed.remove(0);
                // Behind a boolean, which is data.
                let (result, _) = self.apply(callee, &args)?;
                Ok((result.or(Value::Data), true))
            }
            (b"xpcall", Some(callee @ Value::Function(_))) => {
                args.fixed.remove(0);
                // Who handles errors is given nothing else.
                self.all_data(&args)?;
                let (result, _) = self.apply(callee, &Arguments::default())?;
                Ok((result.or(Value::Data), true))
            }
            _ => self.apply(callee, &args),
        }
    }

    fn apply(&mut self, callee: Value<'s>, args: &Arguments<'s>) -> Result<(Value<'s>, bool)> {
        match callee {
            Value::Never | Value::Nil => Ok((Value::Never, true)),
            Value::Command => match calls::check(args) {
                Ok(spec) => {
                    let is_new = |spec: &&Spec| !self.called.iter().any(|it| it.name == spec.name);
                    self.called.extend(spec.filter(is_new));
                    Ok((Value::Data, false))
                }
                Err(why) => self.fault(why),
            },
            Value::Function(function) => Ok(self.enter(function, args)),
            Value::Data | Value::Text(_) => {
                self.all_data(args)?;
                Ok((Value::Data, true))
            }
            Value::Key | Value::Keys | Value::Api | Value::Register | Value::Mixed => {
                self.fault(Why::Unclear)
            }
        }
    }

    /// Hands arguments to a function; its result so far, and whether that may be several values.
    fn enter(&mut self, function: usize, args: &Arguments<'s>) -> (Value<'s>, bool) {
        let chunk = self.chunk;
        let params = chunk.functions.get(function).map_or(&[][..], |code| &*code.params);
        for (at, param) in params.iter().enumerate() {
            self.set(*param, args.at(at));
        }
        let beyond = args.fixed.iter().skip(params.len()).copied().chain(args.rest);
        let rest = beyond.fold(Value::Nil, Value::or);
        let Some(known) = self.functions.get_mut(function) else {
            return (Value::Mixed, true);
        };
        Self::grow(&mut self.has_changed, Some(&mut known.rest), rest);
        (known.result.or(Value::Nil), known.is_many)
    }

    fn all_data(&mut self, values: &Arguments<'s>) -> Result<()> {
        values.all().try_for_each(|value| self.data(value))
    }

    /// `register_function(name, f)` or `register_function{function_name = name, callback = f}`: the
    /// server calls it with keys and arguments, and sends its result.
    fn register(&mut self, call: &'s Call) -> Result<()> {
        let callback = match &*call.args {
            [name, callback] => {
                let name = self.value(name)?;
                self.data(name)?;
                self.value(callback)?
            }
            [Expr::Table(entries)] => {
                let mut callback = Value::Nil;
                for (name, entry) in entries {
                    let value = self.value(entry)?;
                    if &**name == b"callback" {
                        callback = callback.or(value);
                    } else {
                        self.data(value)?;
                    }
                }
                callback
            }
            _ => Value::Mixed,
        };
        self.line = call.line;
        match callback {
            Value::Never | Value::Nil => Ok(()),
            Value::Function(function) => {
                let given = Arguments { fixed: vec![Value::Keys, Value::Data], rest: None };
                self.enter(function, &given);
                if let Some(known) = self.functions.get_mut(function) {
                    self.has_changed |= !std::mem::replace(&mut known.is_public, true);
                }
                Ok(())
            }
            _ => self.fault(Why::Unclear),
        }
    }

    /// A value goes where nobody follows it.
    fn data(&mut self, value: Value<'s>) -> Result<()> {
        match value {
            Value::Never | Value::Nil | Value::Text(_) | Value::Data => Ok(()),
            Value::Function(function) => {
                self.loosen(function);
                Ok(())
            }
            Value::Key | Value::Keys => self.fault(Why::KeyAsData),
            Value::Api | Value::Command | Value::Register => self.fault(Why::Passed),
            Value::Mixed => self.fault(Why::Unclear),
        }
    }

    /// From now on this function may be called by somebody who has only data.
    fn loosen(&mut self, function: usize) {
        let chunk = self.chunk;
        let params = chunk.functions.get(function).map_or(&[][..], |code| &*code.params);
        for param in params {
            self.set(*param, Value::Data);
        }
        let Some(known) = self.functions.get_mut(function) else {
            return;
        };
        self.has_changed |= !std::mem::replace(&mut known.is_loose, true);
        Self::grow(&mut self.has_changed, Some(&mut known.rest), Value::Data);
    }
}
