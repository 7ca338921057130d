//! Sockets against real servers: `redis-server` over TCP, Unix sockets and TLS; and our own
//! listeners. Every way in which a connection can fail is asked for its words.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[expect(dead_code, reason = "clients of other tests")]
#[path = "support/authority.rs"]
mod authority;
#[path = "support/ports.rs"]
mod ports;

use authority::Authority;
use bytes::BytesMut;
use nearside::net::address::Address;
use nearside::net::client::{ClientStream, ReadHalf, WriteHalf};
use nearside::net::inherited::Inherited;
use nearside::net::listen::{ListenOptions, Listener, bind};
use nearside::net::lookup::Lookup;
use nearside::net::stream::{ConnectError, ConnectErrorKind, Stream, connect};
use nearside::net::target::Target;
use nearside::net::tls::{TlsClient, TlsOptions};
use nearside::wire::handshake::{Handshake, HandshakeError, Options, Progress, ServerInfo};
use nearside::wire::reply::Scan;
use nearside::wire::write::Proto;
use parking_lot::Mutex;
use ports::free_port;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far more than any step needs: a limit of the tests, not a measure.
const LONG: Duration = Duration::from_secs(30);

/// Held while a process is started: between fork and exec it has a copy of every socket here, so
/// that a socket closed meanwhile is not closed yet.
static STARTING: Mutex<()> = Mutex::new(());

/// The file of a Unix socket whose process is gone.
fn dead_socket(path: &Path) {
    let _nothing_starts = STARTING.lock();
    drop(UnixListener::bind(path).unwrap());
}

/// A `redis-server` on a port of its own, ended with the test.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts one; `{port}` in an argument stands for the port.
    fn start(folder: &Path, args: &[&str]) -> Self {
        for _ in 0..5 {
            let port = free_port();
            let started = STARTING.lock();
            let mut process = Command::new("redis-server")
                .args(["--save", "", "--bind", "127.0.0.1", "--dir"])
                .arg(folder)
                .args(args.iter().map(|arg| arg.replace("{port}", &port.to_string())))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            drop(started);
            let lines = BufReader::new(process.stdout.take().unwrap()).lines();
            let mut lines = lines.map_while(Result::ok);
            if lines.any(|line| line.contains("Ready to accept connections")) {
                return Self { process, port };
            }
            process.wait().unwrap();
        }
        panic!("redis-server does not start with {args:?}");
    }

    fn url(&self, scheme: &str) -> Target {
        format!("{scheme}://127.0.0.1:{}", self.port).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Logs in over `stream` as `target` says, and reads what the server is.
async fn log_in(mut stream: Stream, target: &Target) -> Result<ServerInfo, HandshakeError> {
    let mut handshake = Handshake::new(&Options {
        proto: Proto::Resp3,
        username: target.username.as_deref().map(str::as_bytes),
        password: target.password.as_ref().map(|password| password.reveal().as_bytes()),
        database: target.database,
        name: Some("nearside-test"),
        tracking: Some(&[b"v1:".to_vec()]),
        asks_id: false,
    });
    let (mut out, mut input, mut scan) = (BytesMut::new(), BytesMut::new(), Scan::default());
    handshake.request(&mut out);
    loop {
        stream.write_all_buf(&mut out).await.unwrap();
        stream.flush().await.unwrap();
        let progress = loop {
            if let Some(length) = scan.next(&input).unwrap() {
                match handshake.reply(&input.split_to(length))? {
                    Progress::Wait => {}
                    other => break other,
                }
            } else {
                assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0, "closed");
            }
        };
        match progress {
            Progress::Ready => return Ok(handshake.server().unwrap().clone()),
            _ => handshake.request(&mut out),
        }
    }
}

async fn refusal(target: &Target, tls: Option<&TlsClient>) -> ConnectError {
    connect(target, &Lookup::default(), LONG, tls, None).await.unwrap_err()
}

#[tokio::test]
async fn redis_over_tcp_and_unix() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("redis.sock");
    let socket = path.to_str().unwrap();
    let args = ["--port", "{port}", "--unixsocket", socket, "--requirepass", "secret"];
    let server = Server::start(folder.path(), &args);

    for url in [
        format!("redis://:secret@127.0.0.1:{}/3", server.port),
        format!("redis://default:secret@localhost:{}", server.port),
        format!("unix://:secret@{socket}?db=3"),
    ] {
        let target: Target = url.parse().unwrap();
        let stream = connect(&target, &Lookup::default(), LONG, None, None).await.unwrap();
        let info = log_in(stream, &target).await.unwrap();
        assert_eq!((info.server.as_str(), info.proto, info.role.as_str()), ("redis", 3, "master"));
    }
    let target: Target = format!("redis://:wrong@127.0.0.1:{}", server.port).parse().unwrap();
    let stream = connect(&target, &Lookup::default(), LONG, None, None).await.unwrap();
    assert_eq!(
        log_in(stream, &target).await.unwrap_err().to_string(),
        "the server does not accept the user or password: \
         WRONGPASS invalid username-password pair or user is disabled."
    );
    let target = server.url("redis");
    let stream = connect(&target, &Lookup::default(), LONG, None, None).await.unwrap();
    assert_eq!(log_in(stream, &target).await, Err(HandshakeError::NoAuth));
}

#[tokio::test]
async fn a_socket_is_set_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let target: Target = format!("redis://127.0.0.1:{port}").parse().unwrap();
    let Stream::Tcp(stream) = connect(&target, &Lookup::default(), LONG, None, None).await.unwrap()
    else {
        panic!("not TCP");
    };
    assert!(stream.nodelay().unwrap());
    assert!(socket2::SockRef::from(&stream).keepalive().unwrap());
}

fn options(authority: &Authority) -> TlsOptions {
    TlsOptions { ca_file: Some(authority.path("ca.pem")), ..TlsOptions::default() }
}

/// A server that shows the certificate of `name`.
fn server_of(authority: &Authority, name: &str, auth_clients: &str) -> Server {
    let path = |file: &str| authority.path(file).to_str().unwrap().to_owned();
    let (cert, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
    let ca = path("ca.pem");
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let ports = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", auth_clients];
    Server::start(&authority.folder, &[&files[..], &ports].concat())
}

#[tokio::test]
async fn redis_over_tls() {
    let folder = TempDir::new().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let other = Authority::new(folder.path(), "other");
    ours.sign("127.0.0.1");
    let server = server_of(&ours, "127.0.0.1", "no");
    let target = server.url("rediss");

    let client = TlsClient::new(&options(&ours)).unwrap();
    let stream = connect(&target, &Lookup::default(), LONG, Some(&client), None).await.unwrap();
    assert!(matches!(stream, Stream::Tls(_)));
    assert_eq!(log_in(stream, &target).await.unwrap().server, "redis");

    let stranger = TlsClient::new(&options(&other)).unwrap();
    let error = refusal(&target, Some(&stranger)).await;
    assert_eq!(error.kind, ConnectErrorKind::Tls);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to {target}: the server's certificate is from a CA that is not \
             trusted here (upstream.tls.ca_file)"
        )
    );
    let named = TlsOptions { server_name: Some("redis.example".to_owned()), ..options(&ours) };
    let error = refusal(&target, Some(&TlsClient::new(&named).unwrap())).await;
    assert_eq!(error.kind, ConnectErrorKind::Tls);
    assert!(
        error.problem.starts_with("the server's certificate is not for redis.example but for")
            && error.problem.contains("127.0.0.1")
            && error.problem.ends_with("(upstream.tls.server_name)"),
        "{error}"
    );
    let late = Authority::new(folder.path(), "late");
    late.sign_as("127.0.0.1", |params| params.not_after = rcgen::date_time_ymd(2021, 1, 1));
    let expired = server_of(&late, "127.0.0.1", "no");
    let careful = TlsClient::new(&options(&late)).unwrap();
    let error = refusal(&expired.url("rediss"), Some(&careful)).await;
    assert_eq!(error.kind, ConnectErrorKind::Tls);
    assert!(error.problem.contains("the server's certificate has expired"), "{error}");

    // Neither CA nor name matter to one who asked for it.
    let careless = TlsOptions {
        insecure_skip_verify: true,
        server_name: named.server_name,
        ca_file: None,
        ..named
    };
    let client = TlsClient::new(&careless).unwrap();
    let stream = connect(&target, &Lookup::default(), LONG, Some(&client), None).await.unwrap();
    assert_eq!(log_in(stream, &target).await.unwrap().server, "redis");

    let error = refusal(&target, None).await;
    assert_eq!((error.kind, error.problem.as_str()), (ConnectErrorKind::Tls, "TLS is not set up"));
}

#[tokio::test]
async fn server_name_and_client_certificate() {
    let folder = TempDir::new().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    ours.sign("redis.example");
    ours.sign("nearside");
    let server = server_of(&ours, "redis.example", "yes");
    let target = server.url("rediss");
    let shown = TlsOptions {
        server_name: Some("redis.example".to_owned()),
        cert_file: Some(ours.path("nearside.pem")),
        key_file: Some(ours.path("nearside.key")),
        ..options(&ours)
    };
    let client = TlsClient::new(&shown).unwrap();
    let stream = connect(&target, &Lookup::default(), LONG, Some(&client), None).await.unwrap();
    assert_eq!(log_in(stream, &target).await.unwrap().server, "redis");
}

#[test]
fn tls_files_that_are_wrong() {
    let folder = TempDir::new().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    ours.sign("a");
    ours.sign("b");
    let fault = |options: TlsOptions| TlsClient::new(&options).unwrap_err().to_string();
    let path = |file: &str| Some(ours.path(file));
    let shown = |file: &str| ours.path(file).display().to_string();
    let missing = shown("none.pem");
    assert_eq!(
        fault(TlsOptions { ca_file: path("none.pem"), ..TlsOptions::default() }),
        format!("upstream.tls.ca_file: {missing}: No such file or directory")
    );
    assert_eq!(
        fault(TlsOptions { ca_file: path("a.key"), ..TlsOptions::default() }),
        format!("upstream.tls.ca_file: {}: holds no PEM certificate", shown("a.key"))
    );
    let (cert_file, key_file) = (path("a.pem"), path("a.key"));
    assert_eq!(
        fault(TlsOptions { cert_file: cert_file.clone(), ..options(&ours) }),
        "upstream.tls.cert_file and upstream.tls.key_file need each other"
    );
    assert_eq!(
        fault(TlsOptions {
            cert_file: cert_file.clone(),
            key_file: path("a.pem"),
            ..options(&ours)
        }),
        format!("upstream.tls.key_file: {}: holds no PEM private key", shown("a.pem"))
    );
    let mixed = fault(TlsOptions { cert_file, key_file: path("b.key"), ..options(&ours) });
    assert_eq!(
        mixed,
        "upstream.tls.cert_file, upstream.tls.key_file: the key is not the certificate's"
    );
    let name = Some("no host".to_owned());
    assert_eq!(
        fault(TlsOptions { key_file, server_name: name.clone(), ..options(&ours) }),
        "upstream.tls.cert_file and upstream.tls.key_file need each other"
    );
    assert_eq!(
        fault(TlsOptions { server_name: name, ..options(&ours) }),
        "upstream.tls.server_name: `no host` is neither a host name nor an IP address"
    );
}

#[tokio::test]
async fn a_server_without_tls() {
    let folder = TempDir::new().unwrap();
    let client = TlsClient::new(&options(&Authority::new(folder.path(), "ours"))).unwrap();
    for (answer, problem) in [
        (&b"-ERR unknown command\r\n"[..], "the server does not speak TLS on this port"),
        (b"", "the server closed the connection in the TLS handshake; does this port speak TLS?"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut client = listener.accept().unwrap().0;
            assert_ne!(client.read(&mut [0; 4096]).unwrap(), 0);
            client.write_all(answer).unwrap();
        });
        let target: Target = format!("rediss://127.0.0.1:{port}").parse().unwrap();
        let error = refusal(&target, Some(&client)).await;
        assert_eq!((error.kind, error.problem.as_str()), (ConnectErrorKind::Tls, problem));
        server.join().unwrap();
    }
}

#[tokio::test]
async fn nobody_answers() {
    // Bound, so that nobody else gets the port; not listening, so that it refuses.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = silent.local_addr().unwrap().as_socket().unwrap().port();
    let target: Target = format!("redis://app:secret@127.0.0.1:{port}").parse().unwrap();
    let error = refusal(&target, None).await;
    assert_eq!(error.kind, ConnectErrorKind::Refused);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to redis://app:***@127.0.0.1:{port}: connection refused; \
             no server listens on this port"
        )
    );
    // An empty label: no resolver has to be asked.
    let error = refusal(&"redis://no..host".parse().unwrap(), None).await;
    assert_eq!(error.kind, ConnectErrorKind::Dns);
    let text = "cannot connect to redis://no..host:6379: cannot resolve `no..host`: ";
    assert!(error.to_string().starts_with(text), "{error}");

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.sock");
    let target = Target::new(Address::Unix(path.clone()));
    let error = refusal(&target, None).await;
    assert_eq!(error.kind, ConnectErrorKind::Refused);
    assert_eq!(error.problem, format!("there is no file {}", path.display()));
    dead_socket(&path);
    let error = refusal(&target, None).await;
    assert_eq!(error.kind, ConnectErrorKind::Refused);
    assert!(error.problem.ends_with("but no server listens on it"), "{error}");

    let error = refusal(&Target::new(Address::Embedded), None).await;
    assert_eq!(
        error.to_string(),
        "cannot connect to embedded:: the embedded upstream is not running"
    );
}

#[tokio::test]
async fn a_handshake_without_end_is_cut_off() {
    let folder = TempDir::new().unwrap();
    let client = TlsClient::new(&options(&Authority::new(folder.path(), "ours"))).unwrap();
    // The kernel connects; nobody accepts, nobody speaks.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let target: Target = format!("rediss://127.0.0.1:{port}").parse().unwrap();
    let timeout = Duration::from_millis(50);
    let error =
        connect(&target, &Lookup::default(), timeout, Some(&client), None).await.unwrap_err();
    assert_eq!(error.kind, ConnectErrorKind::Timeout);
    assert!(error.problem.starts_with("no answer within 50ms "), "{error}");
}

#[tokio::test]
async fn the_embedded_door_is_a_socket_like_any_other() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let door = move || tokio::net::UnixStream::from_std(ours.try_clone()?).map(Stream::Unix);
    let target = Target::new(Address::Embedded);
    let mut stream = connect(&target, &Lookup::default(), LONG, None, Some(&door)).await.unwrap();
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut asked = [0; 6];
    (&theirs).read_exact(&mut asked).unwrap();
    (&theirs).write_all(b"+PONG\r\n").unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!((&asked, &answer), (b"PING\r\n", b"+PONG\r\n"));
}

const LISTEN: ListenOptions =
    ListenOptions { key: "server.listen", backlog: 128, unix_permissions: 0o770 };

fn listen(text: &str) -> Listener {
    bind(&text.parse().unwrap(), &LISTEN, &mut Inherited::default()).unwrap().pop().unwrap()
}

fn refused_listen(text: &str) -> String {
    bind(&text.parse().unwrap(), &LISTEN, &mut Inherited::default()).unwrap_err().to_string()
}

#[test]
fn a_port_in_use() {
    let _nothing_starts = STARTING.lock();
    let first = listen("127.0.0.1:0");
    let address = first.local_address().unwrap();
    assert_eq!(
        refused_listen(&address.to_string()),
        format!(
            "cannot listen on {address} (server.listen): Address already in use; \
             another process has the port"
        )
    );
    drop(first);
    listen(&address.to_string());
    assert_eq!(
        refused_listen("192.0.2.1:0"),
        "cannot listen on 192.0.2.1:0 (server.listen): Cannot assign requested address; \
         no interface of this machine has the address"
    );
    assert!(bind(&Address::Embedded, &LISTEN, &mut Inherited::default()).is_err());
}

#[test]
fn ipv4_and_ipv6_are_two_addresses() {
    let v4 = listen("0.0.0.0:0");
    let port = v4.local_address().unwrap().port();
    match bind(&format!("[::]:{port}").parse().unwrap(), &LISTEN, &mut Inherited::default()) {
        Ok(v6) => assert_eq!(v6[0].local_address().unwrap().port(), port),
        // A machine without IPv6, or one where another process has this port there.
        Err(error) => assert!(!error.problem.is_empty()),
    }
}

#[test]
fn a_unix_socket_is_not_stolen_but_a_stale_one_is_replaced() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("n.sock");
    let text = format!("unix:{}", path.display());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

    let first = listen(&text);
    assert_eq!(mode(&path), 0o770);
    let in_use = format!("cannot listen on {text} (server.listen): another process listens on it");
    assert_eq!(refused_listen(&text), in_use);
    drop(first);
    assert!(!path.exists());

    // A process that died left its file.
    dead_socket(&path);
    let second = listen(&text);
    // Somebody else's file, in the place of ours, is not ours to remove.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(second);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(
        refused_listen(&text),
        format!("cannot listen on {text} (server.listen): the file exists and is not a socket")
    );
    let nowhere = format!("unix:{}/none/n.sock", folder.path().display());
    assert_eq!(
        refused_listen(&nowhere),
        format!("cannot listen on {nowhere} (server.listen): No such file or directory")
    );
}

/// Accepts one client that `dial` opens.
async fn accept(listener: Listener) -> ClientStream {
    let acceptor = listener.into_acceptor().unwrap();
    let socket = acceptor.accept(Duration::from_mins(5)).await.unwrap();
    ClientStream::from_std(socket).unwrap()
}

async fn serve(client: ClientStream, far: &mut (impl Read + Write)) -> (ReadHalf, WriteHalf) {
    let (mut read, write) = client.into_split();
    far.write_all(b"PING\r\n").unwrap();
    let mut asked = [0; 6];
    read.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"PING\r\n");
    std::future::poll_fn(|cx| write.poll_writable(cx)).await.unwrap();
    assert_eq!(write.try_write(b"+PO").unwrap(), 3);
    let rest = [std::io::IoSlice::new(b"NG"), std::io::IoSlice::new(b"\r\n")];
    assert_eq!(write.try_write_vectored(&rest).unwrap(), 4);
    let mut answer = [0; 7];
    far.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
    (read, write)
}

#[tokio::test]
async fn clients_over_tcp_and_unix() {
    let listener = listen("127.0.0.1:0");
    let address = listener.local_address().unwrap();
    let mut far = TcpStream::connect(address).unwrap();
    let client = accept(listener).await;
    assert_eq!(client.peer().to_string(), far.local_addr().unwrap().to_string());
    assert_eq!(client.local().unwrap().to_string(), address.to_string());
    serve(client, &mut far).await;

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("n.sock");
    let listener = listen(&format!("unix:{}", path.display()));
    let mut far = UnixStream::connect(&path).unwrap();
    let client = accept(listener).await;
    assert_eq!(client.peer().to_string(), format!("{}:0", path.display()));
    assert_eq!(client.local().unwrap().to_string(), format!("{}:0", path.display()));
    serve(client, &mut far).await;
}

#[tokio::test]
async fn the_end_of_a_client() {
    let listener = listen("127.0.0.1:0");
    let mut far = TcpStream::connect(listener.local_address().unwrap()).unwrap();
    let (mut read, write) = serve(accept(listener).await, &mut far).await;
    // Without a writer the client is still heard.
    drop(write);
    far.write_all(b"QUIT\r\n").unwrap();
    let mut heard = [0; 6];
    read.read_exact(&mut heard).await.unwrap();
    drop(read);
    assert_eq!(far.read(&mut heard).unwrap(), 0);

    // Closed from the writing side, both ends see the end; what was written arrives.
    let listener = listen("127.0.0.1:0");
    let mut far = TcpStream::connect(listener.local_address().unwrap()).unwrap();
    let (mut read, write) = serve(accept(listener).await, &mut far).await;
    assert_eq!(write.try_write(b"+OK\r\n").unwrap(), 5);
    write.close().unwrap();
    assert_eq!(read.read(&mut heard).await.unwrap(), 0);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"+OK\r\n");
}
