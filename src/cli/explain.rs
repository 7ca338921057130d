//! `nearside explain CMD ARGS...`: what would happen to one request under the settings in force, on
//! a terminal.

use crate::data::explain::{Explanation, Key};
use std::io::{self, Write};

/// Prints it for people.
pub(super) fn print(explained: &Explanation, out: &mut impl Write) -> io::Result<()> {
    let Explanation { command, class, happens, error, remedy, keys, sent, drops, .. } = explained;
    let class = class.map_or_else(String::new, |class| format!(" ({class})"));
    writeln!(out, "command  {command}{class}")?;
    writeln!(out, "happens  {happens}")?;
    let lines = [("error", error.as_deref()), ("remedy", remedy.as_deref())];
    let tail = [("sent", sent.as_deref()), ("drops", *drops)];
    for (name, text) in lines {
        if let Some(text) = text {
            writeln!(out, "{name:7}  {text}")?;
        }
    }
    for Key { client, upstream, rule, cached, why } in keys {
        writeln!(out, "key      {client} -> {upstream}")?;
        let cached = if *cached { "yes" } else { "no" };
        let rule = rule.as_ref().map_or_else(String::new, |rule| format!("{rule}, "));
        writeln!(out, "cached   {cached}: {rule}{why}")?;
    }
    for (name, text) in tail {
        if let Some(text) = text {
            writeln!(out, "{name:7}  {text}")?;
        }
    }
    Ok(())
}
