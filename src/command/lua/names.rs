//! Names that a script may use without harm: of the language, of its libraries, of `redis`.

/// Names that mean something to this reading.
pub(super) fn is_meant(name: &[u8]) -> bool {
    matches!(
        name,
        b"KEYS"
            | b"ARGV"
            | b"redis"
            | b"server"
            | b"ipairs"
            | b"pairs"
            | b"unpack"
            | b"pcall"
            | b"xpcall"
    )
}

/// What Lua brings that can neither make code of strings, nor reach `redis` or `KEYS` by their
/// names.
pub(super) fn is_library(name: &[u8]) -> bool {
    matches!(
        name,
        b"_VERSION"
            | b"assert"
            | b"bit"
            | b"cjson"
            | b"cmsgpack"
            | b"collectgarbage"
            | b"coroutine"
            | b"error"
            | b"gcinfo"
            | b"ipairs"
            | b"math"
            | b"next"
            | b"os"
            | b"pairs"
            | b"pcall"
            | b"print"
            | b"rawequal"
            | b"select"
            | b"string"
            | b"struct"
            | b"table"
            | b"tonumber"
            | b"tostring"
            | b"type"
            | b"unpack"
            | b"xpcall"
    )
}

/// What Lua brings, on one server or another, that can make code of strings, reach `redis` and
/// `KEYS` by their names, or change what a name means. (No server has `dofile` and `loadfile`.)
/// The servers' own helpers begin with `__` and give back what they are given, and before Redis 7
/// every script is a function `f_<sha1>`, refused here or not.
pub(super) fn is_power(name: &[u8]) -> bool {
    let is_script = name.len() == 42 && name.starts_with(b"f_");
    is_script
        || name.starts_with(b"__")
        || matches!(
            name,
            b"_G"
                | b"debug"
                | b"getfenv"
                | b"getmetatable"
                | b"io"
                | b"load"
                | b"loadstring"
                | b"module"
                | b"newproxy"
                | b"package"
                | b"rawget"
                | b"rawset"
                | b"require"
                | b"setfenv"
                | b"setmetatable"
        )
}

/// Fields of `redis` that touch no key.
pub(super) fn is_harmless(field: &[u8]) -> bool {
    field.starts_with(b"LOG_")
        || field.starts_with(b"REPL_")
        || field.ends_with(b"_VERSION")
        || field.ends_with(b"_VERSION_NUM")
        || matches!(
            field,
            b"error_reply"
                | b"log"
                | b"replicate_commands"
                | b"set_repl"
                | b"setresp"
                | b"sha1hex"
                | b"status_reply"
                | b"breakpoint"
                | b"debug"
        )
}
