//! Errors that the proxy answers itself, in Redis' own words, and its refusals in ours.
//!
//! Each function appends one complete error reply.

use crate::command::acl::Denied;
use crate::command::{Refusal, Spec, Unknown};
use crate::wire::write;
use bytes::BytesMut;

/// How much of a name, and of all arguments together, Redis quotes.
const QUOTED_MAX: usize = 128;

/// `unknown command 'x', with args beginning with: ...` or `unknown subcommand 'x'. Try X HELP.`
pub fn unknown<'a>(
    out: &mut BytesMut,
    unknown: Unknown,
    argc: usize,
    arg: impl Fn(usize) -> &'a [u8],
) {
    let mut text = Vec::with_capacity(3 * QUOTED_MAX);
    match unknown {
        Unknown::Command => {
            text.extend_from_slice(b"ERR unknown command '");
            text.extend_from_slice(cut(if argc > 0 { arg(0) } else { &[] }, QUOTED_MAX));
            text.extend_from_slice(b"', with args beginning with: ");
            let quoted_from = text.len();
            for at in 1..argc {
                let quoted = text.len() - quoted_from;
                if quoted >= QUOTED_MAX {
                    break;
                }
                text.push(b'\'');
                text.extend_from_slice(cut(arg(at), QUOTED_MAX - quoted));
                text.extend_from_slice(b"' ");
            }
        }
        Unknown::Subcommand(_) => {
            text.extend_from_slice(b"ERR unknown subcommand '");
            text.extend_from_slice(cut(if argc > 1 { arg(1) } else { &[] }, QUOTED_MAX));
            text.extend_from_slice(b"'. Try ");
            text.extend_from_slice(&arg(0).to_ascii_uppercase());
            text.extend_from_slice(b" HELP.");
        }
    }
    write::error(out, &text);
}

/// As C prints a string with a precision: up to a NUL, at most `most` bytes.
fn cut(text: &[u8], most: usize) -> &[u8] {
    let end = memchr::memchr(0, text).unwrap_or(text.len()).min(most);
    text.get(..end).unwrap_or(text)
}

/// `wrong number of arguments for 'client|setname' command`. An EXEC that cannot be run says so.
pub fn arity(out: &mut BytesMut, spec: &Spec) {
    let text = format!("wrong number of arguments for '{}' command", spec.name);
    let text = match spec.name {
        "exec" => format!("EXECABORT Transaction discarded because of: {text}"),
        _ => format!("ERR {text}"),
    };
    write::error(out, text.as_bytes());
}

/// The error of a command that nearside knows and refuses.
pub fn refused(out: &mut BytesMut, spec: &Spec, refusal: Refusal) {
    write::error(out, refusal_text(spec, refusal).as_bytes());
}

/// What the server says of a request that its user may not make.
pub fn denied(spec: &Spec, denied: Denied, user: &str) -> String {
    match denied {
        Denied::Command => {
            let is_exec = spec.name == "exec";
            let head = if is_exec { "EXECABORT Transaction discarded because of: " } else { "" };
            let name = spec.name;
            format!("{head}NOPERM User {user} has no permissions to run the '{name}' command")
        }
        Denied::Key => "NOPERM No permissions to access a key".to_owned(),
        Denied::Option(option) => {
            format!("ERR {option} option of SORT denied due to insufficient ACL permissions.")
        }
    }
}

/// The text of [`refused`]: the reason and, where there is one, the remedy.
pub fn refusal_text(spec: &Spec, refusal: Refusal) -> String {
    let (name, reason) = (spec.name.replace('|', " "), refusal.reason());
    let remedy = remedy(spec, refusal).map_or_else(String::new, |remedy| format!(" ({remedy})"));
    match refusal {
        Refusal::Cluster => format!("ERR {reason}"),
        // Redis' words: some commands it does not queue either.
        Refusal::InTransaction => "ERR Command not allowed inside a transaction".to_owned(),
        _ if refusal.is_permission() => {
            format!("NOPERM nearside refuses '{name}': {reason}{remedy}")
        }
        _ => format!("ERR nearside refuses '{name}': {reason}{remedy}"),
    }
}

/// What an operator can do about a refusal.
pub fn remedy(spec: &Spec, refusal: Refusal) -> Option<String> {
    match refusal {
        Refusal::OtherVersions => Some("without keys.version it is forwarded".to_owned()),
        Refusal::Module | Refusal::KeysUntold => {
            let name = spec.name.to_ascii_uppercase();
            Some(format!("[commands.specs] \"{name}\" = \"i1\" tells that its key is argument 1"))
        }
        _ if refusal.may_be_allowed() => {
            let name = spec.name.to_ascii_uppercase();
            Some(format!("commands.allow = [\"{name}\"] permits it"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{refused, unknown};
    use crate::command::{Refusal, Unknown, by_name};
    use bytes::BytesMut;

    #[test]
    fn refusals_name_the_command_and_the_reason() {
        for (name, refusal, text) in [
            (
                "client|kill",
                Refusal::SharedLink,
                "-ERR nearside refuses 'client kill': it would change a connection that clients \
                 share\r\n",
            ),
            (
                "module|load",
                Refusal::Dangerous,
                "-NOPERM nearside refuses 'module load': it would put the server out of service \
                 for all clients (commands.allow = [\"MODULE|LOAD\"] permits it)\r\n",
            ),
            (
                "swapdb",
                Refusal::Denied,
                "-NOPERM nearside refuses 'swapdb': commands.deny names it\r\n",
            ),
            ("asking", Refusal::Cluster, "-ERR This instance has cluster support disabled\r\n"),
        ] {
            let mut out = BytesMut::new();
            refused(&mut out, by_name(name).unwrap(), refusal);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn an_empty_request_has_an_error_too() {
        let mut out = BytesMut::new();
        unknown(&mut out, Unknown::Command, 0, |_| &[]);
        assert_eq!(out, "-ERR unknown command '', with args beginning with: \r\n");
    }
}
