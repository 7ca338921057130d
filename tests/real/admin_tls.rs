//! `[admin.tls]`: the admin port by HTTPS, asked by `curl` and by nearside's own command line.
//! Probes and metrics of these proxies are on `metrics.listen`, which stays plain.

use crate::authority::Authority;
use crate::clients::program;
use crate::harness::{Proxy, eventually, free_port};
use crate::tls::Door;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use tempfile::TempDir;

/// What operators are shown is what clients are elsewhere.
impl Door {
    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn ours(&self, name: &str) -> String {
        self.authority.path(name).display().to_string()
    }

    /// A proxy whose admin port this is.
    fn office(&self, host: &str, more: &[&str], arguments: &[&str]) -> Proxy {
        let mut lines = vec![
            format!("admin.listen = \"{host}:{}\"", self.port),
            format!("admin.tls.cert_file = {:?}", self.file("shown.pem")),
            format!("admin.tls.key_file = {:?}", self.file("shown.key")),
        ];
        lines.extend(more.iter().map(|line| line.replace("{ca}", &self.ours("ca.pem"))));
        let settings: Vec<&str> = lines.iter().map(String::as_str).collect();
        Proxy::start_by(&[], "embedded:", &settings, arguments)
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// What `curl` says, or its exit code.
    fn curl(&self, arguments: &[&str], path: &str) -> Result<String, i32> {
        let ca = self.ours("ca.pem");
        let all = [&["-sS", "--cacert", &ca][..], arguments].concat();
        let output = program("curl").args(all).arg(self.url(path)).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        if output.status.success() { Ok(said) } else { Err(output.status.code().unwrap()) }
    }

    /// An answer that has no end.
    fn stream(&self, path: &str) -> Stream {
        let mut command = Command::new("curl");
        command.args(["-sSN", "--cacert", &self.ours("ca.pem"), &self.url(path)]);
        let mut curl = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(curl.stdout.take().unwrap());
        Stream { curl, lines }
    }

    fn certificate(&self) -> Vec<u8> {
        self.dial().certificate()
    }
}

/// What `curl` reads of it.
struct Stream {
    curl: Child,
    lines: BufReader<ChildStdout>,
}

impl Stream {
    /// Reads so many lines more: it has not ended.
    fn goes_on(&mut self, lines: usize) {
        for _ in 0..lines {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.curl.kill().ok();
        self.curl.wait().ok();
    }
}

/// `curl`'s code: the server's certificate is not believed.
const NOT_BELIEVED: i32 = 60;

fn until_logged(proxy: &Proxy, words: &str) {
    eventually(words, || proxy.log().contains(words).then_some(()));
}

fn reloads(proxy: &Proxy, result: &str) -> u64 {
    proxy.count(&format!("nearside_tls_reloads_total{{listener=\"admin\",result=\"{result}\"}}"))
}

/// nearside's own command line, where the proxy's configuration is at hand.
fn here(proxy: &Proxy, arguments: &[&str]) -> (i32, String) {
    said(
        Command::new(env!("CARGO_BIN_EXE_nearside"))
            .args(arguments)
            .current_dir(proxy.folder.path()),
    )
}

/// And where it is not.
fn elsewhere(folder: &TempDir, arguments: &[&str]) -> (i32, String) {
    said(Command::new(env!("CARGO_BIN_EXE_nearside")).args(arguments).current_dir(folder.path()))
}

fn said(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn operators_by_https() {
    let door = Door::new();
    let limits = ["server.handshake_timeout = \"300ms\"", "server.max_handshakes = 2"];
    let proxy = door.office("127.0.0.1", &limits, &[]);
    assert_eq!(door.curl(&[], "/livez").as_deref(), Ok("ok\n"));
    let set = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", "{\"mode\":\"bypass\"}"];
    assert!(door.curl(&set, "/api/v1/mode").unwrap().contains("bypass"));
    // By another name, and of a foreign page, it is not to be asked by HTTPS either.
    let foreign = |header: &str| door.curl(&["-H", header], "/api/v1/status").unwrap();
    assert!(
        foreign("Host: elsewhere").contains("host-not-allowed"),
        "{}",
        foreign("Host: elsewhere")
    );
    let origin = foreign("Origin: https://elsewhere");
    assert!(origin.contains("another site's page"), "{origin}");
    let same = format!("Origin: https://127.0.0.1:{}", door.port);
    assert!(foreign(&same).contains("\"mode\""), "{}", foreign(&same));

    // Who does not believe the certificate does not ask.
    let stranger = Authority::new(door.folder.path(), "theirs");
    let theirs = stranger.path("ca.pem").display().to_string();
    assert_eq!(door.curl(&["--cacert", &theirs], "/livez"), Err(NOT_BELIEVED));
    until_logged(&proxy, "the client refuses the TLS handshake, or this certificate");

    // HTTP without TLS is told so, and anything else is closed; neither holds up others.
    let plain = format!("http://127.0.0.1:{}/livez", door.port);
    let output = program("curl").args(["-sSi", &plain]).output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    until_logged(&proxy, "it speaks HTTP on a port for HTTPS (admin.tls)");
    let mut other = TcpStream::connect(("127.0.0.1", door.port)).unwrap();
    other.write_all(b"\0\0\0\0\0\0\0\0").unwrap();
    until_logged(&proxy, "the client does not speak TLS, which this port needs (admin.tls)");

    // Nor do those who never begin, though there are more than may be at a time.
    let mut idle: Vec<TcpStream> =
        (0..5).map(|_| TcpStream::connect(("127.0.0.1", door.port)).unwrap()).collect();
    assert_eq!(door.curl(&[], "/livez").as_deref(), Ok("ok\n"));
    for stream in &mut idle {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it was closed");
    }
    until_logged(&proxy, "not done within 300ms");
    assert!(proxy.log().contains("\"admin by HTTPS\""), "{}", proxy.log());
}

/// `admin.tls.client_auth`, `client_ca_file` and `min_version`: with a certificate needed, the port
/// may be open to other machines without a token.
#[test]
fn operators_show_certificates() {
    let door = Door::new();
    let stranger = Authority::new(door.folder.path(), "theirs");
    stranger.sign("other");
    let asks = |how: &str| format!("admin.tls.client_auth = \"{how}\"");
    let ca = "admin.tls.client_ca_file = \"{ca}\"";
    let proxy =
        door.office("0.0.0.0", &[ca, &asks("required"), "admin.tls.min_version = \"1.3\""], &[]);
    let (cert, key) = (door.ours("client.pem"), door.ours("client.key"));
    let shows = ["--cert", &cert, "--key", &key];
    assert!(door.curl(&shows, "/api/v1/mode").unwrap().contains("cache"));
    assert!(door.curl(&[], "/livez").is_err());
    until_logged(&proxy, "the client shows no certificate (admin.tls.client_auth)");
    let theirs = ["other.pem", "other.key"].map(|name| stranger.path(name).display().to_string());
    assert!(door.curl(&["--cert", &theirs[0], "--key", &theirs[1]], "/livez").is_err());
    until_logged(&proxy, "from a CA that is not trusted here (admin.tls.client_ca_file)");
    assert!(door.curl(&[&shows[..], &["--tls-max", "1.2"]].concat(), "/livez").is_err());

    let flags = ["--client-cert", &cert, "--client-key", &key];
    assert_eq!(here(&proxy, &[&["healthcheck"][..], &flags].concat()), (0, String::new()));
    let (code, text) = here(&proxy, &["healthcheck"]);
    assert!(code == 1 && text.contains("--client-cert"), "{code} {text}");
    let reload = here(&proxy, &[&["reload"][..], &flags].concat());
    assert!(reload.0 == 0 && reload.1.contains("changed: nothing"), "{reload:?}");
    drop(proxy);

    let optional = door.office("127.0.0.1", &[ca, &asks("optional")], &[]);
    assert_eq!(door.curl(&[], "/livez").as_deref(), Ok("ok\n"));
    assert_eq!(door.curl(&shows, "/livez").as_deref(), Ok("ok\n"));
    assert!(door.curl(&["--cert", &theirs[0], "--key", &theirs[1]], "/livez").is_err());
    drop(optional);
}

/// `admin.tls.cert_file` and `key_file` are read again; who is connected stays so, and files that
/// are wrong change nothing.
#[test]
fn operators_certificates_are_exchanged_while_a_stream_is_open() {
    let door = Door::new();
    let proxy = door.office("127.0.0.1", &[], &[]);
    let expiry = "nearside_tls_certificate_expiry_timestamp_seconds{listener=\"admin\"}";
    assert!(proxy.metric(expiry) > 1_700_000_000.0);
    let mut stream = door.stream("/api/v1/stats/stream");
    stream.goes_on(3);
    let before = door.certificate();
    // What `cert_file` and `key_file` name is another pair now.
    door.authority.sign("127.0.0.1");
    door.show("127.0.0.1");
    proxy.hangup();
    eventually("they are read", || (reloads(&proxy, "ok") == 1).then_some(()));
    assert_ne!(door.certificate(), before);
    stream.goes_on(9);
    fs::copy(door.ours("client.key"), door.file("shown.key")).unwrap();
    let reload = ["-X", "POST", "-H", "Content-Type: application/json"];
    let answer = door.curl(&reload, "/api/v1/config/reload").unwrap();
    assert!(answer.contains("admin.tls.key_file: the key is not the certificate's"), "{answer}");
    assert_eq!((reloads(&proxy, "ok"), reloads(&proxy, "error")), (1, 1));
    assert_eq!(door.curl(&[], "/livez").as_deref(), Ok("ok\n"), "the old one is in force");
    stream.goes_on(9);
}

#[test]
fn operators_certificates_are_watched() {
    let door = Door::new();
    let proxy = door.office("127.0.0.1", &[], &["--watch-config"]);
    let before = door.certificate();
    eventually("another certificate is shown", || {
        // The watcher may not have looked at the last one.
        door.authority.sign("127.0.0.1");
        door.show("127.0.0.1");
        (door.certificate() != before).then_some(())
    });
    // It is in force before it is counted.
    eventually("it is counted", || (reloads(&proxy, "ok") >= 1).then_some(()));
}

/// The command line finds the port, the token and the certificate in the configuration that is at
/// hand; elsewhere it is told.
#[test]
fn the_command_line_by_https() {
    let door = Door::new();
    let token = door.file("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    let proxy = door.office("127.0.0.1", &[&format!("admin.token_file = {token:?}")], &[]);
    assert_eq!(here(&proxy, &["healthcheck", "--live"]), (0, String::new()));
    assert_eq!(here(&proxy, &["mode"]), (0, "cache\n".to_owned()));
    assert_eq!(here(&proxy, &["mode", "bypass"]), (0, "bypass\n".to_owned()));
    // The certificate is the proxy's, by whatever name it is reached.
    let by_name = format!("localhost:{}", door.port);
    assert_eq!(here(&proxy, &["mode", "--admin", &by_name]), (0, "bypass\n".to_owned()));

    let empty = TempDir::new().unwrap();
    let asks = |url: &str, flags: &[&str]| {
        let ask = ["mode", "--admin", url, "--token-file", &token];
        elsewhere(&empty, &[&ask, flags].concat())
    };
    let believes = ["--cacert", &door.ours("ca.pem")];
    let (code, text) = asks(&door.url(""), &[]);
    assert!(code == 69 && text.contains("CA that is not trusted here (--cacert)"), "{code} {text}");
    assert_eq!(asks(&door.url(""), &believes), (0, "bypass\n".to_owned()));
    assert_eq!(asks(&door.url(""), &["--insecure"]), (0, "bypass\n".to_owned()));
    let shown = door.file("shown.pem");
    assert_eq!(asks(&door.url(""), &["--cacert", &shown]), (0, "bypass\n".to_owned()));
    for believes in [&believes[..], &["--cacert", &shown]] {
        let (code, text) = asks(&format!("https://{by_name}"), believes);
        assert!(code == 69 && text.contains("is not for localhost but for"), "{code} {text}");
    }
    let (code, text) = asks(&format!("http://{by_name}"), &believes);
    assert!(code == 1 && text.contains("this port is for https:// requests"), "{code} {text}");
    let (code, text) = asks(&door.url(""), &["--cacert", "/no/such"]);
    assert!(code == 1 && text.contains("--cacert: /no/such: No such file"), "{code} {text}");
    let (code, text) = asks(&door.url(""), &["--client-cert", &shown]);
    assert!(code == 2 && text.contains("--client-key"), "{code} {text}");
    // The file was exchanged, and the proxy shows the old one yet: the same authority has signed it,
    // which the file has, too.
    door.authority.sign("127.0.0.1");
    door.show("127.0.0.1");
    let chain = [&shown, &door.ours("ca.pem")].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&shown, chain.concat()).unwrap();
    let before = door.certificate();
    let reload = here(&proxy, &["reload"]);
    assert!(reload.0 == 0 && reload.1.contains("admin.tls.cert_file"), "{reload:?}");
    assert_ne!(door.certificate(), before);
    // HTTPS where none is spoken.
    let plain = Proxy::unready("embedded:", &[]);
    let (code, text) = asks(&format!("https://127.0.0.1:{}", plain.admin_port()), &["--insecure"]);
    assert!(code == 69 && text.contains("does not speak HTTPS"), "{code} {text}");
}

/// As `openssl req -x509` makes it: an authority's, and nobody else has signed it.
#[test]
fn a_certificate_that_signs_itself() {
    let door = Door::new();
    let (pem, key) = (door.file("shown.pem"), door.file("shown.key"));
    let mut openssl = program("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=admin", "-addext", "subjectAltName=IP:127.0.0.1"]);
    assert!(openssl.args(["-keyout", &key, "-out", &pem]).output().unwrap().status.success());
    let proxy = door.office("127.0.0.1", &[], &[]);
    assert_eq!(here(&proxy, &["healthcheck"]), (0, String::new()));
    assert_eq!(door.curl(&["--cacert", &pem], "/livez").as_deref(), Ok("ok\n"));
    let empty = TempDir::new().unwrap();
    let ask = ["healthcheck", "--admin", &door.url(""), "--cacert", &pem];
    assert_eq!(elsewhere(&empty, &ask), (0, String::new()));
}

/// Another process takes the port, too.
#[test]
fn the_port_is_handed_over() {
    let door = Door::new();
    let more = [
        format!("server.listen = [\"127.0.0.1:{}\"]", free_port()),
        format!("server.handover = {:?}", door.file("handover.sock")),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let mut first = door.office("127.0.0.1", &more, &[]);
    let before = door.certificate();
    door.authority.sign("127.0.0.1");
    door.show("127.0.0.1");
    let second = door.office("127.0.0.1", &more, &[]);
    assert!(first.wait().success());
    assert_ne!(door.certificate(), before);
    assert_eq!(here(&second, &["healthcheck"]), (0, String::new()));
}
