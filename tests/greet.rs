//! What stands before a client's first command, over real sockets: headers of the PROXY protocol,
//! handshakes of TLS; and what a client's stream does after them.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

#[path = "support/authority.rs"]
mod authority;

use authority::{Authority, VERSIONS};
use nearside::net::client::{ClientStream, PeerAddress, Socket, Transport};
use nearside::net::greet::{Greeting, Refusal};
use nearside::net::inherited::Inherited;
use nearside::net::listen::{Acceptor, ListenOptions, bind};
use nearside::net::proxy_protocol::{self, BINARY_MAX, Header, HeaderError};
use nearside::net::tls::{SERVER_TLS, TlsServer, TlsServerOptions};
use ppp::v2::{self, Command as V2, Protocol, Version};
use proptest::prelude::*;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::ServerName;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Far more than any step needs: a limit of the tests, not a measure.
const LONG: Duration = Duration::from_secs(30);

fn listen(address: &str) -> (Acceptor, Option<SocketAddr>) {
    let options = ListenOptions { key: "server.listen", backlog: 16, unix_permissions: 0o770 };
    let listener =
        bind(&address.parse().unwrap(), &options, &mut Inherited::default()).unwrap().remove(0);
    let local = listener.local_address();
    (listener.into_acceptor().unwrap(), local)
}

/// A client that has sent these bytes, and nearside's end.
async fn sent(bytes: &[u8]) -> (TcpStream, Socket) {
    let (acceptor, address) = listen("127.0.0.1:0");
    let mut far = TcpStream::connect(address.unwrap()).await.unwrap();
    far.write_all(bytes).await.unwrap();
    (far, acceptor.accept(LONG).await.unwrap())
}

fn header_only() -> Greeting {
    Greeting { proxy_protocol: true, tls: None, timeout: LONG }
}

/// What nearside reads first once the client was greeted, so many bytes.
async fn next(socket: Socket, count: usize) -> Vec<u8> {
    let (mut reader, _writer) = ClientStream::from_std(socket).unwrap().into_split();
    let mut bytes = vec![0; count];
    reader.read_exact(&mut bytes).await.unwrap();
    bytes
}

fn binary(command: V2, protocol: Protocol, from: &str, to: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    v2::Builder::with_addresses(Version::Two | command, protocol, (from, to))
        .write_tlv(v2::Type::Authority, b"cache.example")
        .unwrap()
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_header_says_who_the_client_is() {
    let four = "PROXY TCP4 198.51.100.7 203.0.113.1 51234 6380\r\n".as_bytes().to_vec();
    let six = "PROXY TCP6 2001:db8::7 2001:db8::1 51234 6380\r\n".as_bytes().to_vec();
    let binary_four = binary(V2::Proxy, Protocol::Stream, "198.51.100.7:51234", "203.0.113.1:6380");
    let binary_six =
        binary(V2::Proxy, Protocol::Stream, "[2001:db8::7]:51234", "[2001:db8::1]:6380");
    for (header, peer, local) in [
        (four, "198.51.100.7:51234", "203.0.113.1:6380"),
        (six, "[2001:db8::7]:51234", "[2001:db8::1]:6380"),
        (binary_four, "198.51.100.7:51234", "203.0.113.1:6380"),
        (binary_six, "[2001:db8::7]:51234", "[2001:db8::1]:6380"),
    ] {
        let (_far, socket) = sent(&[&header[..], b"PING\r\n"].concat()).await;
        let socket = header_only().greet(socket).await.unwrap();
        assert_eq!(socket.peer().to_string(), peer);
        let stream = ClientStream::from_std(socket).unwrap();
        assert_eq!(stream.local().unwrap().to_string(), local);
        let (mut reader, _writer) = stream.into_split();
        let mut request = [0; 6];
        reader.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"PING\r\n", "what follows the header is the client's");
    }
}

/// `UNKNOWN` and `LOCAL`, what a balancer's own checks say, and datagrams, which nobody serves.
#[tokio::test]
async fn a_header_without_an_address_leaves_that_of_the_socket() {
    let addresses = ("198.51.100.7:51234", "203.0.113.1:6380");
    let of = |command, protocol| binary(command, protocol, addresses.0, addresses.1);
    let bare = [v2::PROTOCOL_PREFIX, &[0x20, 0x00, 0, 0]].concat();
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
        of(V2::Local, Protocol::Stream),
        of(V2::Proxy, Protocol::Datagram),
        bare,
    ] {
        let (far, socket) = sent(&[&header[..], b"PING\r\n"].concat()).await;
        let socket = header_only().greet(socket).await.unwrap();
        assert_eq!(*socket.peer(), PeerAddress::Tcp(far.local_addr().unwrap()));
        assert_eq!(next(socket, 6).await, b"PING\r\n");
    }
}

#[tokio::test]
async fn a_header_on_a_unix_socket() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("door");
    let (acceptor, _) = listen(&format!("unix:{}", path.display()));
    let mut far = UnixStream::connect(&path).await.unwrap();
    far.write_all(b"PROXY TCP4 198.51.100.7 203.0.113.1 51234 6380\r\nPING\r\n").await.unwrap();
    let socket = acceptor.accept(LONG).await.unwrap();
    let socket = header_only().greet(socket).await.unwrap();
    assert_eq!(socket.peer().to_string(), "198.51.100.7:51234");
    assert_eq!(socket.transport(), Transport::Unix);
    assert_eq!(next(socket, 6).await, b"PING\r\n");
}

#[tokio::test]
async fn what_is_no_header_is_refused() {
    let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    let huge = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat();
    for (bytes, problem) in [
        (&b"PING\r\n"[..], "does not begin with a PROXY header"),
        (b"*1\r\n$4\r\nPING\r\n", "does not begin with a PROXY header"),
        (b"PROXY TCP4 nonsense\r\n", "malformed"),
        (b"PROXY TCP4 198.51.100.7 203.0.113.1 99999 6380\r\n", "malformed"),
        (b"PROXY TCP4 198.51.100.7 203.0.113.1 56324 6380\nPING\r\n", "does not end with CRLF"),
        (b"PROXY UNKNOWN so it goes on\n", "does not end with CRLF"),
        (&endless, "longer than 107 bytes"),
        (&huge, "longer than 4096 bytes"),
    ] {
        let (_far, socket) = sent(bytes).await;
        let refusal = header_only().greet(socket).await.unwrap_err();
        assert!(refusal.to_string().contains(problem), "{refusal}");
        assert_eq!(refusal.reason(), "proxy_protocol");
    }
    let (mut far, socket) = sent(b"PROXY TCP4 198.").await;
    far.shutdown().await.unwrap();
    let refusal = header_only().greet(socket).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Header(HeaderError::Truncated)), "{refusal}");
    let (mut far, socket) = sent(b"").await;
    far.shutdown().await.unwrap();
    assert!(matches!(header_only().greet(socket).await, Err(Refusal::Left)));
}

/// Feeds a header by as many bytes as are asked for, and in no larger pieces than `piece`.
fn fed(stream: &[u8], piece: usize) -> Result<(usize, Header), HeaderError> {
    let mut taken = 0;
    loop {
        let wanted = proxy_protocol::wanted(&stream[..taken])?;
        if wanted == 0 {
            return Ok((taken, proxy_protocol::parse(&stream[..taken])?));
        }
        assert!(taken + wanted <= BINARY_MAX, "{taken} + {wanted}");
        let count = wanted.min(piece).min(stream.len() - taken);
        if count == 0 {
            return Err(HeaderError::Truncated);
        }
        taken += count;
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_or_none(
        start in 0_usize..3,
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        piece in 1_usize..20,
    ) {
        let start = [&b""[..], b"PROXY ", v2::PROTOCOL_PREFIX][start];
        let stream = [start, &bytes].concat();
        let (whole, pieces) = (fed(&stream, usize::MAX), fed(&stream, piece));
        prop_assert_eq!(&whole, &pieces);
        proxy_protocol::parse(&stream).ok();
    }

    #[test]
    fn no_byte_behind_a_header_is_asked_for(
        is_text in any::<bool>(),
        from in any::<([u8; 4], u16)>(),
        to in any::<([u8; 4], u16)>(),
        tail in proptest::collection::vec(any::<u8>(), 0..50),
        piece in 1_usize..20,
    ) {
        let (from, to) = (SocketAddr::from(from), SocketAddr::from(to));
        let header = if is_text {
            let (a, b) = (from.ip(), to.ip());
            format!("PROXY TCP4 {a} {b} {} {}\r\n", from.port(), to.port()).into_bytes()
        } else {
            binary(V2::Proxy, Protocol::Stream, &from.to_string(), &to.to_string())
        };
        let stream = [&header[..], &tail].concat();
        prop_assert_eq!(fed(&stream, piece), Ok((header.len(), Header::Proxied { from, to })));
    }
}

/// Who says nothing, or too little, is not waited for: time is the runtime's, and jumps.
#[tokio::test(start_paused = true)]
async fn a_greeting_has_its_limit() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    authority.sign("localhost");
    let tls = || Some(TlsServer::new(&files(&authority, "localhost")).unwrap());
    for (proxy_protocol, tls, said) in [
        (true, None, &b"PROXY TCP4 "[..]),
        (true, None, b""),
        (false, tls(), b""),
        (false, tls(), b"\x16\x03\x01\x02\x00\x01"),
        (true, tls(), b"PROXY UNKNOWN\r\n"),
    ] {
        let (_far, socket) = sent(said).await;
        let greeting = Greeting { proxy_protocol, tls, timeout: Duration::from_secs(7) };
        let refusal = greeting.greet(socket).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Timeout(_)), "{refusal}");
        assert_eq!(refusal.to_string(), "it was not done within 7s");
    }
}

fn files(authority: &Authority, name: &str) -> TlsServerOptions {
    TlsServerOptions {
        keys: &SERVER_TLS,
        cert_file: authority.path(&format!("{name}.pem")),
        key_file: authority.path(&format!("{name}.key")),
        client_ca_file: None,
        needs_client_certificate: false,
        is_tls13_only: false,
    }
}

/// A client that trusts `authority` and shows this certificate.
fn trusting(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    shown: Option<(&Authority, &str)>,
) -> TlsConnector {
    TlsConnector::from(authority.client(versions, shown))
}

type Far = std::io::Result<TlsStream<TcpStream>>;

/// Both ends of a connection by TLS, or why there is none.
async fn shake(server: &TlsServerOptions, client: &TlsConnector) -> (Far, Result<Socket, Refusal>) {
    shake_with(&TlsServer::new(server).unwrap(), client).await
}

async fn shake_with(server: &TlsServer, client: &TlsConnector) -> (Far, Result<Socket, Refusal>) {
    let (acceptor, address) = listen("127.0.0.1:0");
    let far = TcpStream::connect(address.unwrap()).await.unwrap();
    let socket = acceptor.accept(LONG).await.unwrap();
    let tls = Some(server.clone());
    let greeting = Greeting { proxy_protocol: false, tls, timeout: LONG };
    let name = ServerName::try_from("localhost").unwrap();
    tokio::join!(client.connect(name, far), greeting.greet(socket))
}

#[tokio::test]
async fn versions_and_resumed_sessions() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    authority.sign("localhost");
    for version in VERSIONS {
        let client = trusting(&authority, &[version], None);
        let server = TlsServer::new(&files(&authority, "localhost")).unwrap();
        for is_resumed in [false, true] {
            let (far, socket) = shake_with(&server, &client).await;
            let (mut far, socket) = (far.unwrap(), socket.unwrap());
            assert_eq!(socket.transport(), Transport::Tls);
            let stream = ClientStream::from_std(socket).unwrap();
            assert_eq!(
                stream.peer().to_string(),
                far.get_ref().0.local_addr().unwrap().to_string()
            );
            let (mut reader, writer) = stream.into_split();
            far.write_all(b"PING\r\n").await.unwrap();
            let mut request = [0; 6];
            reader.read_exact(&mut request).await.unwrap();
            assert_eq!(writer.try_write(b"+PONG\r\n").unwrap(), 7);
            let mut reply = [0; 7];
            far.read_exact(&mut reply).await.unwrap();
            assert_eq!(&reply, b"+PONG\r\n");
            let kind = far.get_ref().1.handshake_kind().unwrap();
            assert_eq!(kind == rustls::HandshakeKind::Resumed, is_resumed, "{version:?}");
            // The end is said, not cut: else this is an error of truncation.
            drop((reader, writer));
            assert_eq!(far.read(&mut reply).await.unwrap(), 0);
        }
    }
    let only13 = TlsServerOptions { is_tls13_only: true, ..files(&authority, "localhost") };
    let client = trusting(&authority, &[&rustls::version::TLS12], None);
    let (far, refused) = shake(&only13, &client).await;
    assert!(far.is_err() && refused.unwrap_err().reason() == "tls");
}

#[tokio::test]
async fn certificates_of_clients() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let stranger = Authority::new(folder.path(), "theirs");
    authority.sign("localhost");
    authority.sign("me");
    authority.sign_as("late", |params| params.not_after = rcgen::date_time_ymd(2021, 1, 1));
    stranger.sign("other");
    let client_ca_file = Some(authority.path("ca.pem"));
    let optional = TlsServerOptions { client_ca_file, ..files(&authority, "localhost") };
    let required = TlsServerOptions { needs_client_certificate: true, ..optional.clone() };
    let with = |shown| trusting(&authority, VERSIONS, shown);
    for (server, shown, problem) in [
        (&required, Some((&authority, "me")), None),
        (&required, None, Some("the client shows no certificate (server.tls.client_auth)")),
        (&required, Some((&stranger, "other")), Some("from a CA that is not trusted here")),
        (&required, Some((&authority, "late")), Some("the client's certificate has expired")),
        (&optional, Some((&authority, "me")), None),
        (&optional, None, None),
        (&optional, Some((&stranger, "other")), Some("from a CA that is not trusted here")),
    ] {
        let (_, socket) = shake(server, &with(shown)).await;
        match problem {
            None => assert_eq!(socket.unwrap().transport(), Transport::Tls),
            Some(problem) => {
                let refusal = socket.unwrap_err().to_string();
                assert!(refusal.contains(problem), "{refusal}");
            }
        }
    }
    // A client that does not trust us says so.
    let (_, refused) = shake(&optional, &trusting(&stranger, VERSIONS, None)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("refuses the TLS handshake, or this certificate"), "{refused}");
    // And one that wanted another host.
    let (far, refused) =
        shake(&files(&authority, "me"), &trusting(&authority, VERSIONS, None)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(far.is_err() && refused.contains("or this certificate"), "{refused}");
}

#[tokio::test]
async fn clients_that_do_not_speak_tls() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    authority.sign("localhost");
    let tls = Some(TlsServer::new(&files(&authority, "localhost")).unwrap());
    let greeting = Greeting { proxy_protocol: false, tls, timeout: LONG };
    let (_far, socket) = sent(b"*1\r\n$4\r\nPING\r\n").await;
    let refusal = greeting.greet(socket).await.unwrap_err().to_string();
    assert_eq!(refusal, "the client does not speak TLS, which this port needs (server.tls.listen)");
    let (mut far, socket) = sent(b"").await;
    far.shutdown().await.unwrap();
    assert!(matches!(greeting.greet(socket).await, Err(Refusal::Left)), "a check of the port");
    let (mut far, socket) = sent(b"\x16\x03\x01").await;
    far.shutdown().await.unwrap();
    let refusal = greeting.greet(socket).await.unwrap_err().to_string();
    assert!(refusal.starts_with("the client closed the connection in the TLS"), "{refusal}");
}

/// More than the system takes at once, to a client that reads late: who is told to wait offers the
/// same bytes again, and each comes once.
#[tokio::test]
async fn what_the_socket_does_not_take_is_offered_again() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    authority.sign("localhost");
    let (far, socket) =
        shake(&files(&authority, "localhost"), &trusting(&authority, VERSIONS, None)).await;
    let (mut far, stream) = (far.unwrap(), ClientStream::from_std(socket.unwrap()).unwrap());
    let (_reader, writer) = stream.into_split();
    let all: Vec<u8> = (0..16_000_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut sent, mut waits, mut got) = (0, 0, Vec::new());
    let writing = async {
        while sent < all.len() {
            let mut pieces = all[sent..].chunks(100_000).map(IoSlice::new);
            let slices = [(); 3].map(|()| pieces.next().unwrap_or_else(|| IoSlice::new(&[])));
            match writer.try_write_vectored(&slices) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    waits += 1;
                    poll_fn(|cx| writer.poll_writable(cx)).await.unwrap();
                }
            }
        }
    };
    let reading = async {
        let mut chunk = vec![0; 1 << 16];
        while got.len() < all.len() {
            let count = far.read(&mut chunk).await.unwrap();
            got.extend_from_slice(&chunk[..count]);
        }
    };
    tokio::join!(writing, reading);
    assert!(got == all && waits > 0, "{} of {} bytes, {waits} waits", got.len(), all.len());
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}; run tests/run"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The forms in which keys are kept, and those that cannot be read.
#[test]
fn keys_of_every_form() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    openssl(path, "genrsa -traditional -out pkcs1.key 2048");
    openssl(path, "ecparam -name prime256v1 -genkey -noout -out sec1.key");
    openssl(path, "pkcs8 -topk8 -nocrypt -in sec1.key -out pkcs8.key");
    for form in ["pkcs1", "sec1", "pkcs8"] {
        openssl(path, &format!("req -x509 -key {form}.key -subj /CN=x -days 2 -out {form}.pem"));
    }
    openssl(path, "pkcs8 -topk8 -in sec1.key -passout pass:word -out locked8.key");
    openssl(path, "rsa -in pkcs1.key -traditional -aes128 -passout pass:word -out locked1.key");
    let with = |cert: &str, key: &str| {
        TlsServer::new(&TlsServerOptions {
            keys: &SERVER_TLS,
            cert_file: path.join(cert),
            key_file: path.join(key),
            client_ca_file: None,
            needs_client_certificate: false,
            is_tls13_only: false,
        })
    };
    for form in ["pkcs1", "sec1", "pkcs8"] {
        let server = with(&format!("{form}.pem"), &format!("{form}.key")).unwrap();
        let in_a_day = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 86_400;
        assert!(server.expires_at() > i64::try_from(in_a_day).unwrap(), "{form}");
    }
    let shown = |file: &str| path.join(file).display().to_string();
    for (cert, key, problem) in [
        (
            "sec1.pem",
            "locked8.key",
            format!("key_file: {}: the key is encrypted", shown("locked8.key")),
        ),
        (
            "pkcs1.pem",
            "locked1.key",
            format!("key_file: {}: the key is encrypted", shown("locked1.key")),
        ),
        (
            "sec1.pem",
            "pkcs1.key",
            "cert_file, server.tls.key_file: the key is not the certificate's".to_owned(),
        ),
        ("sec1.pem", "none.key", format!("key_file: {}: No such file", shown("none.key"))),
        (
            "sec1.key",
            "sec1.key",
            format!("cert_file: {}: holds no PEM certificate", shown("sec1.key")),
        ),
        (
            "sec1.pem",
            "sec1.pem",
            format!("key_file: {}: holds no PEM private key", shown("sec1.pem")),
        ),
    ] {
        let error = with(cert, key).unwrap_err().to_string();
        assert!(error.starts_with(&format!("server.tls.{problem}")), "{error}");
    }
    let same = with("sec1.pem", "sec1.key").unwrap();
    assert_eq!(format!("{same:?}"), format!("{:?}", with("sec1.pem", "sec1.key").unwrap()));
    assert_ne!(format!("{same:?}"), format!("{:?}", with("pkcs1.pem", "pkcs1.key").unwrap()));
}
