//! A real Prometheus scrapes the real binary; the rules that are shipped are sound, and each alert
//! is heard in a test of its own (`deploy/prometheus/rules_test.yaml`).

use crate::harness::{Kind, Proxy, Server, eventually, free_port};
use crate::tls::Door;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus").join(file)
}

/// promtool, which must find nothing wrong.
fn promtool(words: &str, file: Option<&str>, input: &str) {
    let mut command = Command::new("promtool");
    command.args(words.split(' ')).args(file.map(deployed));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("promtool: {error}: tests/run"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn the_rules_are_sound_and_each_alert_is_heard() {
    promtool("check rules", Some("rules.yaml"), "");
    promtool("check config", Some("prometheus.yml"), "");
    promtool("test rules", Some("rules_test.yaml"), "");
    let read = |file| fs::read_to_string(deployed(file)).unwrap();
    let (rules, tests) = (read("rules.yaml"), read("rules_test.yaml"));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}\n")), "no test hears {name}");
    }
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")) {
        assert!(tests.contains(name), "no test asks for {name}");
    }
}

/// Rules ask for series that are there.
#[test]
fn what_rules_ask_for_is_served() {
    let server = Server::start(Kind::Redis);
    // There is nothing to say of certificates where none is shown.
    // Nor of what waits for upstream where nothing can.
    let waits = "write_behind.directory = \"{folder}/behind\"";
    let proxy = Door::new().proxy(&server, &[waits], &[]);
    proxy.dial().words("GET a");
    let (_, page) = proxy.admin("GET", "/metrics", "");
    promtool("check metrics", None, &page);
    let rules = fs::read_to_string(deployed("rules.yaml")).unwrap();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let asked = rules.lines().filter(|line| !line.trim().starts_with('#'));
    for name in asked.flat_map(|line| line.split(|c| !is_word(c))) {
        if name.starts_with("nearside_") {
            let is_there = page.lines().any(|line| line.starts_with(name));
            assert!(is_there, "rules.yaml asks for {name}, which nearside does not serve");
        }
    }
}

struct Prometheus {
    process: Child,
    port: u16,
}

impl Prometheus {
    fn start(folder: &Path, target: &str) -> Self {
        let port = free_port();
        let config = format!(
            "global: {{scrape_interval: 100ms, evaluation_interval: 100ms}}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs: [{{job_name: nearside, static_configs: [{{targets: [{target:?}]}}]}}]\n",
            deployed("rules.yaml").display()
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}: run tests/run"));
        Self { process, port }
    }

    /// The value of an expression that has one.
    fn value(&self, expression: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let ask =
            format!("GET /api/v1/query?query={expression} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(ask.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let json: serde_json::Value = serde_json::from_str(body).ok()?;
        json["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn prometheus_scrapes_it() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(&server.url(), &["cache.admission = \"always\""]);
    let folder = TempDir::new().unwrap();
    let prometheus = Prometheus::start(folder.path(), &proxy.admin_address());
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    eventually(&format!("it is scraped: {}", log()), || {
        (prometheus.value("up{job=\"nearside\"}") == Some(1.0)).then_some(())
    });
    let mut client = proxy.dial();
    client.words("SET a 1");
    let ratio = eventually("a recorded series has a value", || {
        client.words("GET a");
        prometheus.value("nearside:hit_ratio:rate5m").filter(|ratio| *ratio > 0.0)
    });
    assert!(ratio <= 1.0, "{ratio}");
    assert_eq!(prometheus.value("nearside_upstream_up"), Some(1.0));
}
