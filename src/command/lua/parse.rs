//! Lua's grammar: tokens in, a tree out. Nested no deeper than [`DEPTH_MAX`], so that no script
//! can exhaust the stack of whoever reads it.

use crate::command::lua::lex::{Lexer, Token};
use crate::command::lua::syntax::{Block, Call, Chunk, Expr, Function, Stat, UNKNOWN};
use crate::command::lua::{Fault, Why};

/// Blocks, calls and operators within each other; Lua's own limit is 200.
const DEPTH_MAX: u32 = 150;

/// The words of the language: no names.
const RESERVED: &[&[u8]] = &[
    b"and",
    b"break",
    b"do",
    b"else",
    b"elseif",
    b"end",
    b"false",
    b"for",
    b"function",
    b"if",
    b"in",
    b"local",
    b"nil",
    b"not",
    b"or",
    b"repeat",
    b"return",
    b"then",
    b"true",
    b"until",
    b"while",
];

/// How tightly unary operators bind.
const UNARY: u8 = 8;

type Result<T> = std::result::Result<T, Why>;

/// Reads a whole script.
pub(super) fn parse(text: &[u8]) -> std::result::Result<Chunk, Fault> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        token: Token::End,
        line: 1,
        depth: 0,
        scope: Vec::new(),
        locals: Vec::new(),
        frame: 0,
        frames: 0,
        functions: Vec::new(),
    };
    match parser.script() {
        Ok(body) => Ok(Chunk { body, functions: parser.functions, locals: parser.locals }),
        Err(why) => Err(Fault { line: parser.line, why }),
    }
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    token: Token<'s>,
    /// The line of `token`.
    line: u32,
    depth: u32,
    /// The visible local variables, innermost last.
    scope: Vec<(Box<[u8]>, usize)>,
    locals: Vec<usize>,
    functions: Vec<Function>,
    /// The function that is being read, and how many were begun.
    frame: usize,
    frames: usize,
}

impl<'s> Parser<'s> {
    fn script(&mut self) -> Result<Block> {
        self.advance()?;
        let body = self.block()?;
        if self.token == Token::End { Ok(body) } else { Err(Why::NotLua) }
    }

    fn advance(&mut self) -> Result<Token<'s>> {
        let next = self.lexer.next()?;
        self.line = self.lexer.line;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn is(&self, word: &[u8]) -> bool {
        match &self.token {
            Token::Name(name) => *name == word,
            Token::Sign(sign) => *sign == word,
            Token::Number(_) | Token::Text(_) | Token::End => false,
        }
    }

    /// Takes `word` if it comes next.
    fn accept(&mut self, word: &[u8]) -> Result<bool> {
        let is_next = self.is(word);
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, word: &[u8]) -> Result<()> {
        if self.accept(word)? { Ok(()) } else { Err(Why::NotLua) }
    }

    /// True if a name comes next, and `sign` behind it.
    fn is_before(&self, sign: &'static [u8]) -> Result<bool> {
        let is_name = matches!(self.token, Token::Name(_));
        Ok(is_name && self.lexer.clone().next()? == Token::Sign(sign))
    }

    fn name(&mut self) -> Result<&'s [u8]> {
        match self.advance()? {
            Token::Name(name) if !RESERVED.contains(&name) => Ok(name),
            _ => Err(Why::NotLua),
        }
    }

    fn declare(&mut self, name: &[u8]) -> usize {
        self.scope.push((name.into(), self.locals.len()));
        self.locals.push(self.frame);
        self.locals.len() - 1
    }

    /// Runs `read` one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Why::TooDeep);
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn block(&mut self) -> Result<Block> {
        let visible = self.scope.len();
        let block = self.open_block();
        self.scope.truncate(visible);
        block
    }

    /// A block whose variables stay visible.
    fn open_block(&mut self) -> Result<Block> {
        self.deeper(|parser| {
            let mut block = Vec::new();
            while !parser.is_block_end() {
                let line = parser.line;
                let is_last = parser.is(b"return") || parser.is(b"break");
                if let Some(stat) = parser.statement()? {
                    block.push((line, stat));
                }
                parser.accept(b";")?;
                if is_last {
                    break;
                }
            }
            Ok(block)
        })
    }

    fn is_block_end(&self) -> bool {
        let ends: [&[u8]; 4] = [b"end", b"else", b"elseif", b"until"];
        self.token == Token::End || ends.iter().any(|word| self.is(word))
    }

    fn statement(&mut self) -> Result<Option<Stat>> {
        let Token::Name(word) = self.token else {
            return self.expression_statement().map(Some);
        };
        let stat = match word {
            b"break" => {
                self.advance()?;
                return Ok(None);
            }
            b"return" => {
                self.advance()?;
                let ends = self.is_block_end() || self.is(b";");
                Stat::Return(if ends { Vec::new() } else { self.list()? })
            }
            b"do" => {
                self.advance()?;
                Stat::Run(Vec::new(), vec![self.block_until_end()?])
            }
            b"while" => {
                self.advance()?;
                let condition = self.expr()?;
                self.expect(b"do")?;
                Stat::Run(vec![condition], vec![self.block_until_end()?])
            }
            b"repeat" => self.repeat()?,
            b"if" => self.branches()?,
            b"for" => self.loop_over()?,
            b"function" => self.named_function()?,
            b"local" => self.local()?,
            _ => self.expression_statement()?,
        };
        Ok(Some(stat))
    }

    fn block_until_end(&mut self) -> Result<Block> {
        let block = self.block()?;
        self.expect(b"end")?;
        Ok(block)
    }

    fn repeat(&mut self) -> Result<Stat> {
        self.advance()?;
        let visible = self.scope.len();
        let block = self.open_block()?;
        self.expect(b"until")?;
        // It sees the variables of the block, and comes behind it.
        let condition = self.expr()?;
        self.scope.truncate(visible);
        Ok(Stat::Run(vec![condition], vec![block]))
    }

    fn branches(&mut self) -> Result<Stat> {
        let (mut conditions, mut blocks) = (Vec::new(), Vec::new());
        // At `if` or `elseif`.
        loop {
            self.advance()?;
            conditions.push(self.expr()?);
            self.expect(b"then")?;
            blocks.push(self.block()?);
            if self.is(b"elseif") {
                continue;
            }
            if self.accept(b"else")? {
                blocks.push(self.block()?);
            }
            self.expect(b"end")?;
            return Ok(Stat::Run(conditions, blocks));
        }
    }

    fn loop_over(&mut self) -> Result<Stat> {
        self.advance()?;
        let mut names = vec![self.name()?];
        while self.accept(b",")? {
            names.push(self.name()?);
        }
        let counts = names.len() == 1 && self.accept(b"=")?;
        if !counts {
            self.expect(b"in")?;
        }
        let list = self.list()?;
        self.expect(b"do")?;
        let visible = self.scope.len();
        let locals: Vec<usize> = names.into_iter().map(|name| self.declare(name)).collect();
        let block = self.block_until_end()?;
        self.scope.truncate(visible);
        Ok(match *locals {
            [local] if counts => Stat::Count(local, list, block),
            _ => Stat::Each(locals, list, block),
        })
    }

    fn named_function(&mut self) -> Result<Stat> {
        self.advance()?;
        let name = self.name()?;
        let mut target = self.variable(name);
        let mut is_method = false;
        while !is_method && (self.is(b".") || self.is(b":")) {
            is_method = self.is(b":");
            self.advance()?;
            let field = Expr::Text(self.name()?.into());
            target = Expr::Index(Box::new((target, field)));
        }
        let function = self.function(is_method)?;
        Ok(Stat::Assign(vec![target], vec![function]))
    }

    fn local(&mut self) -> Result<Stat> {
        self.advance()?;
        if self.accept(b"function")? {
            let name = self.name()?;
            // Visible within itself.
            let local = self.declare(name);
            let function = self.function(false)?;
            return Ok(Stat::Local(vec![local], vec![function]));
        }
        let mut names = vec![self.name()?];
        while self.accept(b",")? {
            names.push(self.name()?);
        }
        let list = if self.accept(b"=")? { self.list()? } else { Vec::new() };
        Ok(Stat::Local(names.into_iter().map(|name| self.declare(name)).collect(), list))
    }

    /// Parameters and body, behind the word `function` and a name.
    fn function(&mut self, is_method: bool) -> Result<Expr> {
        let (visible, outer) = (self.scope.len(), self.frame);
        self.frames += 1;
        self.frame = self.frames;
        let frame = self.frame;
        let mut params = Vec::new();
        if is_method {
            params.push(self.declare(b"self"));
        }
        self.expect(b"(")?;
        while !self.is(b")") {
            if self.accept(b"...")? {
                // What Lua 5.0 called `...`, 5.1 still declares.
                self.scope.push((b"arg".as_slice().into(), UNKNOWN));
                break;
            }
            let name = self.name()?;
            params.push(self.declare(name));
            if !self.accept(b",")? {
                break;
            }
        }
        self.expect(b")")?;
        let body = self.block_until_end()?;
        self.scope.truncate(visible);
        self.frame = outer;
        self.functions.push(Function { params, body, frame });
        Ok(Expr::Function(self.functions.len() - 1))
    }

    fn expression_statement(&mut self) -> Result<Stat> {
        let first = self.suffixed()?;
        if !self.is(b"=") && !self.is(b",") {
            return match first {
                Expr::Call(_) | Expr::Method(_) => Ok(Stat::Call(first)),
                _ => Err(Why::NotLua),
            };
        }
        let mut targets = vec![first];
        while self.accept(b",")? {
            targets.push(self.suffixed()?);
        }
        self.expect(b"=")?;
        let is_place =
            |target: &Expr| matches!(target, Expr::Local(_) | Expr::Global(_) | Expr::Index(_));
        if !targets.iter().all(is_place) {
            return Err(Why::NotLua);
        }
        Ok(Stat::Assign(targets, self.list()?))
    }

    fn list(&mut self) -> Result<Vec<Expr>> {
        let mut list = vec![self.expr()?];
        while self.accept(b",")? {
            list.push(self.expr()?);
        }
        Ok(list)
    }

    fn expr(&mut self) -> Result<Expr> {
        self.binary(0)
    }

    /// An expression whose operators all bind more tightly than `limit`.
    fn binary(&mut self, limit: u8) -> Result<Expr> {
        let depth = self.depth;
        let result = self.deeper(|parser| {
            let mut left = parser.unary()?;
            while let Some((tightness, right_limit, join)) = parser.operator()
                && tightness > limit
            {
                // A long chain is a deep tree.
                parser.depth += 1;
                parser.advance()?;
                let right = parser.binary(right_limit)?;
                left = join(Box::new((left, right)));
            }
            Ok(left)
        });
        self.depth = depth;
        result
    }

    #[expect(clippy::type_complexity, reason = "its only caller takes it apart at once")]
    fn operator(&self) -> Option<(u8, u8, fn(Box<(Expr, Expr)>) -> Expr)> {
        let (Token::Name(word) | Token::Sign(word)) = &self.token else {
            return None;
        };
        Some(match *word {
            b"or" => (1, 1, Expr::Or),
            b"and" => (2, 2, Expr::And),
            b"==" | b"~=" => (3, 3, Expr::Equal),
            b"<" | b">" | b"<=" | b">=" => (3, 3, Expr::Binary),
            // To the right: a .. (b .. c).
            b".." => (5, 4, Expr::Concat),
            b"+" | b"-" => (6, 6, Expr::Binary),
            b"*" | b"/" | b"%" => (7, 7, Expr::Binary),
            b"^" => (10, 9, Expr::Binary),
            _ => return None,
        })
    }

    fn unary(&mut self) -> Result<Expr> {
        let wrap = match () {
            () if self.is(b"not") => Expr::Not,
            () if self.is(b"#") => Expr::Length,
            () if self.is(b"-") => Expr::Minus,
            () => return self.simple(),
        };
        self.advance()?;
        Ok(wrap(Box::new(self.binary(UNARY)?)))
    }

    fn simple(&mut self) -> Result<Expr> {
        let expr = match &self.token {
            Token::Number(text) => Expr::Text((*text).into()),
            Token::Text(text) => Expr::Text(text.clone()),
            Token::Name(b"nil" | b"false") => Expr::Falsy,
            Token::Name(b"true") => Expr::True,
            Token::Sign(b"...") => Expr::Rest,
            Token::Sign(b"{") => return self.table(),
            Token::Name(b"function") => {
                self.advance()?;
                return self.function(false);
            }
            _ => return self.suffixed(),
        };
        self.advance()?;
        Ok(expr)
    }

    fn table(&mut self) -> Result<Expr> {
        self.expect(b"{")?;
        let mut entries = Vec::new();
        while !self.is(b"}") {
            let mut name = Box::default();
            if self.accept(b"[")? {
                entries.push((Box::default(), self.expr()?));
                self.expect(b"]")?;
                self.expect(b"=")?;
            } else if self.is_before(b"=")? {
                name = self.name()?.into();
                self.advance()?;
            }
            entries.push((name, self.expr()?));
            if !self.accept(b",")? && !self.accept(b";")? {
                break;
            }
        }
        self.expect(b"}")?;
        Ok(Expr::Table(entries))
    }

    /// A name or an expression in brackets, and what is asked of it: fields, calls.
    fn suffixed(&mut self) -> Result<Expr> {
        let depth = self.depth;
        let mut expr = if self.accept(b"(")? {
            let inner = self.expr()?;
            self.expect(b")")?;
            Expr::One(Box::new(inner))
        } else {
            let name = self.name()?;
            self.variable(name)
        };
        loop {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Why::TooDeep);
            }
            let line = self.line;
            expr = if self.accept(b".")? {
                Expr::Index(Box::new((expr, Expr::Text(self.name()?.into()))))
            } else if self.accept(b"[")? {
                let key = self.expr()?;
                self.expect(b"]")?;
                Expr::Index(Box::new((expr, key)))
            } else if self.accept(b":")? {
                self.name()?;
                let args = self.arguments()?.ok_or(Why::NotLua)?;
                Expr::Method(Box::new(Call { line, callee: expr, args }))
            } else if let Some(args) = self.arguments()? {
                Expr::Call(Box::new(Call { line, callee: expr, args }))
            } else {
                break;
            };
        }
        self.depth = depth;
        Ok(expr)
    }

    fn arguments(&mut self) -> Result<Option<Vec<Expr>>> {
        if let Token::Text(text) = &self.token {
            let text = text.clone();
            self.advance()?;
            return Ok(Some(vec![Expr::Text(text)]));
        }
        if self.is(b"{") {
            return Ok(Some(vec![self.table()?]));
        }
        if !self.accept(b"(")? {
            return Ok(None);
        }
        let args = if self.is(b")") { Vec::new() } else { self.list()? };
        self.expect(b")")?;
        Ok(Some(args))
    }

    fn variable(&self, name: &[u8]) -> Expr {
        let found = self.scope.iter().rev().find(|(known, _)| &**known == name);
        found.map_or_else(|| Expr::Global(name.into()), |(_, local)| Expr::Local(*local))
    }
}
