//! What a script says, as a tree in which every local variable and every function has a number of
//! its own, so that nothing that reads the tree needs to know about scopes.

/// A whole script.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Its statements.
    pub(super) body: Block,
    /// Its functions, by number.
    pub(super) functions: Vec<Function>,
    /// Of each local variable, by number: the [`Function::frame`] that declares it; 0 = the script.
    pub(super) locals: Vec<usize>,
}

/// The number of a local variable of which nothing is known: it is none of [`Chunk::locals`].
pub(super) const UNKNOWN: usize = usize::MAX;

/// A function.
#[derive(Debug, Default)]
pub(super) struct Function {
    /// Its parameters: local variables.
    pub(super) params: Vec<usize>,
    /// Its statements.
    pub(super) body: Block,
    /// Functions counted by where they begin, from 1: one within another has the higher number.
    pub(super) frame: usize,
}

impl Function {
    /// True if it ends with a `return`, whatever happens; else it may give no value at all.
    pub(super) fn returns(&self) -> bool {
        returns(&self.body)
    }
}

fn returns(block: &Block) -> bool {
    match block.last() {
        Some((_, Stat::Return(_))) => true,
        // Of `if` with `else`, and of `do`: one block more than conditions.
        Some((_, Stat::Run(conditions, blocks))) => {
            blocks.len() > conditions.len() && blocks.iter().all(returns)
        }
        _ => false,
    }
}

/// Statements, each with its line.
pub(super) type Block = Vec<(u32, Stat)>;

/// A statement.
#[derive(Debug)]
pub(super) enum Stat {
    /// `local a, b = ...`
    Local(Vec<usize>, Vec<Expr>),
    /// `a, b[c] = ...`
    Assign(Vec<Expr>, Vec<Expr>),
    /// A call whose results nobody wants.
    Call(Expr),
    /// `do`, and whatever else only runs statements after looking at values: `while`, `repeat`
    /// and `if` with all their branches.
    Run(Vec<Expr>, Vec<Block>),
    /// `for i = a, b, c do`
    Count(usize, Vec<Expr>, Block),
    /// `for a, b in ... do`
    Each(Vec<usize>, Vec<Expr>, Block),
    /// `return ...`
    Return(Vec<Expr>),
}

/// An expression.
#[derive(Debug)]
pub(super) enum Expr {
    /// `nil` and `false`.
    Falsy,
    /// `true`.
    True,
    /// A string, or a number as it is written.
    Text(Box<[u8]>),
    /// `...`
    Rest,
    /// A function, by number.
    Function(usize),
    /// A local variable, by number.
    Local(usize),
    /// A global variable.
    Global(Box<[u8]>),
    /// `a[b]` and `a.b`
    Index(Box<(Self, Self)>),
    /// `f(...)`
    Call(Box<Call>),
    /// `o:m(...)`
    Method(Box<Call>),
    /// `{...}`: the names of `name = value`, else nothing, and keys and values alike.
    Table(Vec<(Box<[u8]>, Self)>),
    /// `a and b`
    And(Box<(Self, Self)>),
    /// `a or b`
    Or(Box<(Self, Self)>),
    /// `a == b` and `a ~= b`
    Equal(Box<(Self, Self)>),
    /// `a .. b`
    Concat(Box<(Self, Self)>),
    /// Any other operator of two.
    Binary(Box<(Self, Self)>),
    /// `not a`
    Not(Box<Self>),
    /// `#a`
    Length(Box<Self>),
    /// `-a`
    Minus(Box<Self>),
    /// `(a)`: one value, whatever is inside.
    One(Box<Self>),
}

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    /// Where it stands.
    pub(super) line: u32,
    /// What is called, or whose method.
    pub(super) callee: Expr,
    /// With what.
    pub(super) args: Vec<Expr>,
}
