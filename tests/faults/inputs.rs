//! What is no good request, and what is one though it does not look so: inputs that are sent to a
//! real server and to the proxy before one, each on a connection of its own.

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Like {
    /// Every byte, and whether the connection is closed.
    Same,
    /// As that, to Redis: Valkey has it otherwise, for this reason.
    Redis(&'static str),
    /// As [`Self::Same`], but for what differs from connection to connection, and modules.
    Numbers,
    /// The proxy says just this, for this reason.
    Own(&'static [u8], &'static str),
    /// The proxy answers with an error of its own and goes on, for this reason.
    Refused(&'static str),
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) like: Like,
    /// True if nothing more comes behind it but the end.
    pub(crate) is_cut: bool,
    /// True if the server wants a password.
    pub(crate) is_locked: bool,
}

const fn bytes(text: &'static str) -> &'static [u8] {
    text.as_bytes()
}

/// Framing: lines, counts, lengths, ends.
const FRAMES: &[(&str, &[u8])] = &[
    ("blank lines", b"\r\n\r\n\n"),
    ("a blank line before a request", b"\r\n*1\r\n$4\r\nPING\r\n"),
    ("spaces alone", b"   \r\n"),
    ("a tab alone", b"\t\r\n"),
    ("no arguments", b"*0\r\n"),
    ("no arguments, many times", b"*0\r\n*0\r\n*0\r\n*0\r\n"),
    ("-1 arguments", b"*-1\r\n"),
    ("-10 arguments", b"*-10\r\n"),
    ("-2^63 arguments", b"*-9223372036854775808\r\n"),
    ("-0 arguments", b"*-0\r\n"),
    ("an empty count", b"*\r\n"),
    ("a count of letters", b"*x\r\n"),
    ("a count with letters behind it", b"*1x\r\n$4\r\nPING\r\n"),
    ("+ before the count", b"*+1\r\n$4\r\nPING\r\n"),
    ("0 before the count", b"*01\r\n$4\r\nPING\r\n"),
    ("a space before the count", b"* 1\r\n$4\r\nPING\r\n"),
    ("a space behind the count", b"*1 \r\n$4\r\nPING\r\n"),
    ("a count of 2^31", b"*2147483648\r\n"),
    ("a count of 3e9", b"*3000000000\r\n"),
    ("a count beyond 64 bits", b"*99999999999999999999\r\n"),
    ("a count of 1e30", b"*1000000000000000000000000000000\r\n"),
    ("a count with a point", b"*1.0\r\n$4\r\nPING\r\n"),
    ("a count in hex", b"*0x1\r\n$4\r\nPING\r\n"),
    ("a count with NUL", b"*1\0\r\n$4\r\nPING\r\n"),
    ("an empty length", b"*1\r\n$\r\n"),
    ("a length of letters", b"*1\r\n$abc\r\n"),
    ("a length with letters behind it", b"*1\r\n$4x\r\nPING\r\n"),
    ("+ before the length", b"*1\r\n$+4\r\nPING\r\n"),
    ("0 before the length", b"*1\r\n$04\r\nPING\r\n"),
    ("a space before the length", b"*1\r\n$ 4\r\nPING\r\n"),
    ("a space behind the length", b"*1\r\n$4 \r\nPING\r\n"),
    ("a length of -1", b"*1\r\n$-1\r\n"),
    ("a length of -5", b"*1\r\n$-5\r\n"),
    ("a length of 512 MB + 1", b"*1\r\n$536870913\r\n"),
    ("a length of 2e9", b"*1\r\n$2000000000\r\n"),
    ("a length beyond 64 bits", b"*1\r\n$99999999999999999999\r\n"),
    ("a length of -0", b"*1\r\n$-0\r\n\r\n"),
    ("a second length of letters", b"*2\r\n$3\r\nGET\r\n$x\r\n"),
    ("a second length that is negative", b"*2\r\n$3\r\nGET\r\n$-1\r\n"),
    ("no length", b"*1\r\nPING\r\n"),
    ("a number for a bulk", b"*2\r\n$3\r\nGET\r\n:1\r\n"),
    ("a status for a bulk", b"*1\r\n+PING\r\n"),
    ("an error for a bulk", b"*1\r\n-PING\r\n"),
    ("an array for a bulk", b"*1\r\n*1\r\n$4\r\nPING\r\n"),
    ("a map for a bulk", b"*1\r\n%1\r\n$4\r\nPING\r\n"),
    ("a null for a bulk", b"*1\r\n_\r\n"),
    ("no CRLF behind a bulk", b"*1\r\n$4\r\nPINGxx*1\r\n"),
    ("LF alone behind a bulk", b"*1\r\n$4\r\nPING\nx*1\r\n"),
    ("a bulk longer than its length", b"*2\r\n$3\r\nGET\r\n$1\r\nabcdef\r\n"),
    ("a bulk shorter than its length", b"*2\r\n$3\r\nGET\r\n$9\r\na\r\n"),
    ("LF alone behind the count", b"*1\n$4\r\nPING\r\n"),
    ("CR alone behind the count", b"*1\r$4\r\nPING\r\n"),
    ("good, then bad", b"PING\r\nPING\r\n*1\r\n!\r\nPING\r\n"),
    ("good, then a bad count", b"*1\r\n$4\r\nPING\r\n*z\r\n"),
    ("an empty name", b"*1\r\n$0\r\n\r\n"),
    ("an empty name with an argument", b"*2\r\n$0\r\n\r\n$1\r\na\r\n"),
    ("an empty key", b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"),
    ("a status", b"+PING\r\n"),
    ("an error", b"-ERR no\r\n"),
    ("a number", b":1\r\n"),
    ("a bulk without an array", b"$4\r\nPING\r\n"),
    ("a map", b"%1\r\n$4\r\nPING\r\n$1\r\na\r\n"),
    ("a set", b"~1\r\n$4\r\nPING\r\n"),
    ("a push", b">1\r\n$4\r\nPING\r\n"),
    ("a null", b"_\r\n"),
    ("a truth", b"#t\r\n"),
];

/// Lines.
const INLINE: &[(&str, &[u8])] = &[
    ("inline", b"PING\r\n"),
    ("inline, LF alone", b"PING\n"),
    ("inline, spaces", b"   PING    hello   \r\n"),
    ("inline, tabs", b"\tPING\thello\t\r\n"),
    ("inline, CR in the middle", b"PING a\rb\r\n"),
    ("inline, quoted", b"PING \"a b\"\r\n"),
    ("inline, escapes", b"PING \"a\\x41\\n\\r\\t\\b\\a\\\"\\\\\"\r\n"),
    ("inline, half an escape in hex", b"PING \"\\x4\"\r\n"),
    ("inline, no escape in hex", b"PING \"\\xzz\"\r\n"),
    ("inline, an unknown escape", b"PING \"\\q\"\r\n"),
    ("inline, single quotes", b"PING 'a b'\r\n"),
    ("inline, a quote in single quotes", b"PING 'a\\'b'\r\n"),
    ("inline, a backslash in single quotes", b"PING 'a\\nb'\r\n"),
    ("inline, double in single quotes", b"PING 'a\"b'\r\n"),
    ("inline, empty quotes", b"PING \"\"\r\n"),
    ("inline, empty single quotes", b"PING ''\r\n"),
    ("inline, an empty name", b"\"\"\r\n"),
    ("inline, unbalanced", b"PING \"a\r\n"),
    ("inline, unbalanced single", b"PING 'a\r\n"),
    ("inline, a backslash at the end", b"PING \"a\\\r\n"),
    ("inline, a quote in a word", b"PING a\"b\r\n"),
    ("inline, NUL", b"PI\0NG\r\n"),
    ("inline, NUL in an argument", b"PING a\0b\r\n"),
    ("inline, unknown", b"NOSUCH a b\r\n"),
    ("inline, many", b"PING\r\nPING\nPING a\r\nECHO b\r\n"),
    ("inline, then an array", b"PING\r\n*1\r\n$4\r\nPING\r\n"),
    ("HTTP POST", b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("HTTP Host", b"Host: localhost\r\n"),
    ("HTTP Host, small", b"host: localhost\r\n"),
    ("HTTP post, small", b"post / HTTP/1.1\r\n"),
    ("POST as an array", b"*1\r\n$4\r\nPOST\r\n"),
    ("Host: as an array", b"*2\r\n$5\r\nhost:\r\n$1\r\na\r\n"),
    ("HTTP PUT", b"PUT / HTTP/1.1\r\n\r\n"),
    ("HTTP HEAD", b"HEAD / HTTP/1.0\r\n\r\n"),
    ("HTTP OPTIONS", b"OPTIONS * HTTP/1.1\r\n\r\n"),
    ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    ("memcached", b"set a 0 0 1\r\n1\r\n"),
];

/// Commands by words, in an array.
const WORDS: &[&str] = &[
    "GET",
    "GET a b",
    "SET",
    "SET a",
    "SET a b NOSUCH",
    "SET a b EX",
    "SET a b EX 0",
    "SET a b EX x",
    "SET a b NX XX",
    "SET a b EX 1 PX 1",
    "MSET a",
    "MSET a 1 b",
    "MGET",
    "DEL",
    "INCR",
    "INCRBY a x",
    "APPEND a",
    "HGET a",
    "HSET a b",
    "HSET a b c d",
    "HMGET a",
    "LPUSH a",
    "LRANGE a 0",
    "LRANGE a x y",
    "ZADD a 1",
    "ZADD a x y",
    "ZADD a NX XX 1 b",
    "EXPIRE a x",
    "EXPIRE a",
    "SETRANGE a -1 b",
    "GETRANGE a x y",
    "BITCOUNT a 1",
    "SCAN x",
    "SCAN 0 COUNT 0",
    "SCAN 0 NOSUCH",
    "OBJECT",
    "OBJECT NOSUCH",
    "OBJECT ENCODING",
    "EVAL",
    "EVAL x",
    "EVALSHA a 0",
    "BLPOP a",
    "BLPOP a x",
    "BLPOP a -1",
    "SUBSCRIBE",
    "PUBLISH a",
    "UNSUBSCRIBE",
    "EXEC",
    "DISCARD",
    "WATCH",
    "UNWATCH x",
    "MULTI x",
    "SELECT",
    "SELECT x",
    "SELECT -1",
    "SELECT 99999",
    "PING a b",
    "ECHO",
    "ECHO a b",
    "QUIT x",
    "NOSUCH",
    "NOSUCH a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "CONFIG",
    "CONFIG NOSUCH",
    "CONFIG GET",
    "CLIENT",
    "CLIENT NOSUCH",
    "CLIENT SETNAME",
    "CLIENT REPLY",
    "CLIENT REPLY NOSUCH",
    "CLIENT KILL NOSUCH",
    "CLIENT NO-EVICT x",
    "CLIENT TRACKING",
    "CLIENT TRACKING x",
    "CLIENT UNBLOCK x",
    "CLIENT SETINFO a b",
    "CLIENT GETNAME x",
    "COMMAND NOSUCH",
    "COMMAND COUNT x",
    "AUTH",
    "AUTH a",
    "AUTH a b c",
    "AUTH nobody wrong",
    "HELLO 0",
    "HELLO 1",
    "HELLO 4",
    "HELLO 9",
    "HELLO x",
    "HELLO 99999999999999999999",
    "HELLO 3 AUTH",
    "HELLO 3 AUTH nobody",
    "HELLO 3 AUTH nobody wrong",
    "HELLO 3 SETNAME",
    "HELLO 3 NOSUCH",
    "RESET x",
    "WAIT",
    "WAIT x y",
    "XADD a",
    "XADD a * b",
    "XREAD a",
    "GEOADD a 200 200 b",
    "SORT",
    "LCS a",
    "COPY a",
    "RENAME a",
    "RENAME nosuch b",
    "OBJECT FREQ nosuch",
];

/// Those of one kind, as inputs.
fn plain(list: &[(&str, &[u8])]) -> impl Iterator<Item = Input> {
    list.iter().map(|(name, bytes)| Input::new(name, bytes))
}

impl Input {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        Self { name, bytes, like: Like::Same, is_cut: false, is_locked: false }
    }

    fn words(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        Self::new(line, &crate::harness::request(&words))
    }

    fn like(self, like: Like) -> Self {
        Self { like, ..self }
    }

    fn cut(self) -> Self {
        Self { is_cut: true, ..self }
    }

    fn locked(self) -> Self {
        Self { name: format!("{}, no password said", self.name), is_locked: true, ..self }
    }
}

/// All of them.
pub(crate) fn inputs() -> Vec<Input> {
    let mut all: Vec<Input> = plain(FRAMES).chain(plain(INLINE)).collect();
    all.extend(WORDS.iter().map(|line| Input::words(line)));
    all.extend(odd_words());
    all.extend(long());
    all.extend(cut());
    all.extend(unlike());
    all.extend(own());
    all.extend(strangers());
    all
}

/// Names and arguments of odd bytes.
fn odd_words() -> Vec<Input> {
    let of = |name: &str, words: &[&[u8]]| Input::new(name, &crate::harness::request(words));
    vec![
        of("a name with CRLF", &[b"foo\r\nbar", b"1"]),
        of("a name with LF", &[b"foo\nbar"]),
        of("a name with NUL", &[b"a\0b"]),
        of("a name of high bytes", &[b"\xff\xfe", b"\x80"]),
        of("a name with quotes", &[b"a'b\"c", b"d'e"]),
        of("a name with a backslash", &[b"a\\b"]),
        of("a name with a space", &[b"GET ", b"a"]),
        of("a name with a tab", &[b"\tGET", b"a"]),
        of("a name with an escape of terminals", &[b"\x1b[31m", b"a"]),
        of("a subcommand with CRLF", &[b"CLIENT", b"a\r\nb"]),
        of("a subcommand of high bytes", &[b"CONFIG", b"\xff"]),
        of("a subcommand with a bar", &[b"CLIENT|ID"]),
        of("an argument with CRLF", &[b"PING", b"a\r\n+OK\r\n"]),
        of("a key with CRLF", &[b"GET", b"a\r\nb"]),
        of("a key of NULs", &[b"GET", b"\0\0\0"]),
        of("a name in small letters", &[b"ping"]),
        of("a name in both", &[b"pInG"]),
        of("a client's name with a space", &[b"CLIENT", b"SETNAME", b"a b"]),
        of("a client's name with LF", &[b"CLIENT", b"SETNAME", b"a\nb"]),
        of("a protocol with a space", &[b"HELLO", b" 3"]),
        of("a protocol with a sign", &[b"HELLO", b"+3"]),
        of("a database with a zero before it", &[b"SELECT", b"00"]),
        of("a database with a space", &[b"SELECT", b" 0"]),
        of("an unknown command with CRLF in its arguments", &[b"NOSUCH", b"a\r\nb", b"\0"]),
    ]
}

fn long() -> Vec<Input> {
    let line = |length: usize| vec![b'a'; length];
    let name = |length: usize| crate::harness::request(&[line(length)]);
    let argument = |length: usize| crate::harness::request(&[b"NOSUCH".to_vec(), line(length)]);
    let many = |count: usize| crate::harness::request(&vec![b"a".to_vec(); count]);
    vec![
        Input::new("a line of 64 KiB + 1", &line(64 * 1024 + 1)).cut(),
        Input::new("a count of 64 KiB of digits", &[b"*".to_vec(), vec![b'1'; 65_537]].concat()),
        Input::new(
            "a length of 64 KiB of digits",
            &[b"*1\r\n$".to_vec(), vec![b'1'; 65_537]].concat(),
        ),
        Input::new("a name of 20 bytes", &name(20)),
        Input::new("a name of 128 bytes", &name(128)),
        Input::new("a name of 129 bytes", &name(129)),
        Input::new("a name of 1000 bytes", &name(1000)),
        Input::new("a name of 100,000 bytes", &name(100_000)),
        Input::new("an unknown command's argument of 127 bytes", &argument(127)),
        Input::new("an unknown command's argument of 129 bytes", &argument(129)),
        Input::new("an unknown command's argument of 10,000 bytes", &argument(10_000)),
        Input::new("an unknown command of 100 arguments", &many(100)),
        Input::new("an unknown command of 10,000 arguments", &many(10_000)),
        Input::new("10,000 arrays in each other", &b"*1\r\n".repeat(10_000)),
        Input::new("100,000 blank lines", &b"\r\n".repeat(100_000)),
        Input::new("1000 good ones", &crate::harness::request(&["PING"]).repeat(1000)),
    ]
}

/// Half of something, and the end.
fn cut() -> Vec<Input> {
    let of = |name: &str, bytes: &[u8]| Input::new(name, bytes).cut();
    vec![
        of("nothing, and the end", b""),
        of("half a line, and the end", b"PIN"),
        of("a count, and the end", b"*1\r\n"),
        of("half a count, and the end", b"*1"),
        of("a length, and the end", b"*1\r\n$4\r\n"),
        of("half a bulk, and the end", b"*2\r\n$3\r\nGET\r\n$4\r\nab"),
        of("all but the last byte, and the end", b"*1\r\n$4\r\nPING\r"),
        of("a bad count, and the end", b"*x\r\n"),
    ]
}

/// What differs, and why.
fn unlike() -> Vec<Input> {
    let of = |line: &str, like| Input::words(line).like(like);
    let harm = Like::Refused("it would put the server out of service for all");
    let script = Like::Refused("under a key version a script is read before all else");
    let standalone = Like::Refused("answered as by a standalone server that is nobody's replica");
    vec![
        Input::new("inline, junk behind quotes", b"PING \"a\"b\r\n")
            .like(Like::Redis("Valkey takes `\"a\"b` as one word, every Redis refuses it")),
        of("CLIENT ID", Like::Numbers),
        of("HELLO", Like::Numbers),
        of("HELLO 2", Like::Numbers),
        of("HELLO 3", Like::Numbers),
        of("HELLO 3 SETNAME a", Like::Numbers),
        of("EVAL x y", script),
        of("EVAL x -1", script),
        of("SHUTDOWN NOSUCH", harm),
        of("DEBUG NOSUCH", harm),
        of("REPLICAOF x y", harm),
        of("MODULE LOAD nosuch", harm),
        of("FAILOVER x", harm),
        of("SYNC", standalone),
        of("PSYNC x y", standalone),
    ]
}

/// What the proxy says in its own way, and why.
fn own() -> Vec<Input> {
    let of = |name: &str, bytes: &[u8], answer: &'static [u8], why| {
        Input::new(name, bytes).like(Like::Own(answer, why))
    };
    let many = b"-ERR Protocol error: invalid multibulk length\r\n(closed)";
    let space = "the server asks isspace() of a negative number, and loses the byte 0xff";
    vec![
        of("a count of 2^20 + 1", b"*1048577\r\n", many, "server.max_args"),
        of("a count of 2^31 - 1", b"*2147483647\r\n", many, "server.max_args"),
        of(
            "zeros for a bulk",
            b"*1\r\n\0\0\0\0\r\n",
            b"-ERR Protocol error: expected '$', got '?'\r\n(closed)",
            "errors of nearside's own have no bytes that a terminal obeys",
        ),
        of(
            "inline, high bytes",
            b"PING \xff\xfe\r\n",
            b"$2\r\n\xff\xfe\r\n$8\r\nsentinel\r\n",
            space,
        ),
        of(
            "inline, high bytes for a name",
            b"\xff\xfe\xfd\r\n",
            b"-ERR unknown command '\xff\xfe\xfd', with args beginning with: \r\n\
              $8\r\nsentinel\r\n",
            space,
        ),
        of(
            "HTTP GET",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"-ERR wrong number of arguments for 'get' command\r\n(closed)",
            "the server drops what it has answered, if it came in the same packet",
        ),
        of(
            "a TLS hello",
            b"\x16\x03\x01\x00\x10\x01\x00\x00\x0c\x03\x03\n",
            b"-ERR Protocol error: TLS on a port for plain connections\r\n(closed)",
            "the server waits for the end of a line",
        ),
    ]
}

/// From somebody who has said no password.
fn strangers() -> Vec<Input> {
    let redis = Like::Redis("Valkey asks for AUTH before it looks at a command");
    let of = |name: &str, bytes: &[u8]| Input::new(name, bytes).locked();
    vec![
        of("11 arguments", b"*11\r\n"),
        of("10 arguments", &crate::harness::request(&["GET"; 10])).like(redis),
        of("a length of 16,385", b"*2\r\n$4\r\nAUTH\r\n$16385\r\n"),
        of("-1 arguments", b"*-1\r\n"),
        of("a bad count", b"*x\r\n"),
        of("GET", bytes("GET a\r\n")),
        of("GET of nothing", bytes("GET\r\n")).like(redis),
        of("SET", bytes("SET a b\r\n")),
        of("PING", bytes("PING\r\n")),
        of("MULTI", bytes("MULTI\r\n")),
        of("SUBSCRIBE", bytes("SUBSCRIBE a\r\n")),
        of("HELLO 3", bytes("HELLO 3\r\n")),
        of("HELLO 3 AUTH, wrong", bytes("HELLO 3 AUTH default wrong\r\n")),
        of("AUTH, wrong", bytes("AUTH wrong\r\n")),
        of("AUTH, nobody", bytes("AUTH nobody secret\r\n")),
        of("AUTH, empty", bytes("AUTH \"\"\r\n")),
        of("AUTH, right, in a pipeline", bytes("PING\r\nAUTH wrong\r\nAUTH secret\r\nPING\r\n")),
        of("AUTH, too many words", bytes("AUTH a b c\r\n")),
        of("CLIENT ID", bytes("CLIENT ID\r\n")),
        of("COMMAND", bytes("COMMAND COUNT\r\n")),
        of("RESET", bytes("RESET\r\n")),
        of("QUIT", bytes("QUIT\r\nPING\r\n")),
        of("HTTP POST", bytes("POST / HTTP/1.1\r\n")),
        of("NOSUCH", bytes("NOSUCH\r\n")).like(redis),
    ]
}
