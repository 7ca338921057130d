//! Functions under a version: their library is asked for, then they are called. A fault between
//! the two leaves nothing called, and nothing that looks as if it were.

use crate::stage::Stage;

const OK: &str = "+OK\r\n";
const QUEUED: &str = "+QUEUED\r\n";
const LIST: &str = "FUNCTION LIST WITHCODE";
const NOT_CALLED: &str = "-ERR proxy: not executed: the upstream link broke\r\n";

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// The server's only library: `f` does this with its keys.
fn library(does: &str) -> String {
    let code = format!("#!lua name=lib\nredis.register_function('f', function(keys) {does} end)");
    let function = format!(
        "*6\r\n{}{}{}$-1\r\n{}*0\r\n",
        bulk("name"),
        bulk("f"),
        bulk("description"),
        bulk("flags")
    );
    let fields = [bulk("library_name"), bulk("lib"), bulk("engine"), bulk("LUA")];
    let fields = fields.concat();
    format!(
        "*1\r\n*8\r\n{fields}{}*1\r\n{function}{}{}",
        bulk("functions"),
        bulk("library_code"),
        bulk(&code)
    )
}

fn fine() -> String {
    library("return redis.call('INCR', keys[1])")
}

/// What its client has sent behind the call comes behind it.
#[test]
fn the_next_request_waits_for_the_call() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["FCALL f 1 a", "INCR a"]);
    let mut own = stage.own_link(41);
    own.answer(LIST, &fine());
    own.answer("fcall f 1 v1:a", ":1\r\n");
    // Its own link is free again.
    data.answer("INCR v1:a", ":2\r\n");
    client.reads(":1\r\n");
    client.reads(":2\r\n");
    // From now on that library alone, and all if the function is not there any more.
    client.send("FCALL f 1 a");
    own.answer("FUNCTION LIST LIBRARYNAME lib WITHCODE", "*0\r\n");
    own.answer(LIST, &library("return redis.call('INCR', keys[1] .. 'x')"));
    assert!(client.next().starts_with(b"-ERR nearside refuses function"));
}

#[test]
fn a_call_whose_library_was_asked_in_vain_is_not_made() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("FCALL f 1 a");
    let mut own = stage.own_link(41);
    own.expect(LIST);
    drop(own);
    client.reads(NOT_CALLED);
    Stage::quiet(&mut client, &mut data);
}

/// No answer to FUNCTION LIST is anything but a list, or an error.
#[test]
fn an_answer_that_is_no_list_closes_the_link() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send("FCALL f 1 a");
    let mut own = stage.own_link(41);
    own.answer(LIST, OK);
    client.reads(NOT_CALLED);
    while !own.is_over() {}
    Stage::quiet(&mut client, &mut data);
}

/// EXEC waits for another link than its own. If that breaks, the transaction is still open.
#[test]
fn an_exec_whose_libraries_were_asked_in_vain_ends_its_client() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    client.send_all(&["MULTI", "FCALL f 1 a", "EXEC"]);
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("FCALL f 1 v1:a", QUEUED);
    client.reads(OK);
    client.reads(QUEUED);
    data.expect(LIST);
    drop(data);
    client.is_closed();
    while !own.is_over() {}
}

#[test]
fn an_exec_whose_own_link_breaks_meanwhile_goes_nowhere() {
    let mut stage = Stage::new();
    let (mut client, mut data) = stage.pair();
    let mut other = stage.client();
    client.send_all(&["MULTI", "FCALL f 1 a", "EXEC"]);
    let mut own = stage.own_link(41);
    own.answer("MULTI", OK);
    own.answer("FCALL f 1 v1:a", QUEUED);
    data.expect(LIST);
    drop(own);
    client.reads(OK);
    client.reads(QUEUED);
    client.is_closed();
    data.reply(&fine());
    Stage::quiet(&mut other, &mut data);
}
