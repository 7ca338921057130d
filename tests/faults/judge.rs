//! After a row: what was told is held against what the server has.

use crate::client::Client;
use crate::crew::{Book, Crew};
use crate::report::{self, Tally};
use crate::target::Target;

/// Ends the crew's work, and looks at all that it was told. `upstream` is the server's port.
pub(crate) fn judge(tally: &mut Tally, crew: Crew, target: &Target, upstream: u16) {
    crew.until_well();
    let (seen, books) = crew.stop();
    tally.see(&seen);
    tally.rule(!target.is_dead(), || "the proxy has ended".to_owned());
    for book in &books {
        if let Err(error) = compare(tally, book, target, upstream) {
            tally.broken.push(format!("{}: not to be compared: {error}", report::who(book)));
        }
    }
    // What is amiss is told with what the proxy has said of it.
    if let (false, Some(proxy)) = (tally.faults().is_empty(), &target.nearside) {
        let log = proxy.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("slow_command")).collect();
        println!("{}", lines[lines.len().saturating_sub(20)..].join("\n"));
    }
}

/// Writes of one client against the server's list; and what the proxy says of its keys, twice, so
/// that the second may be a hit, against what the server says.
fn compare(tally: &mut Tally, book: &Book, target: &Target, upstream: u16) -> std::io::Result<()> {
    let mut direct = Client::dial(upstream)?;
    let mut proxied = Client::dial(target.port)?;
    let prefix = target.prefix();
    let list = direct.ask(&["LRANGE", &format!("{prefix}{}", book.list()), "0", "-1"])?;
    tally.compare(&book.appended, &report::executed(&list));
    for key in book.keys() {
        let real = direct.ask(&["GET", &format!("{prefix}{key}")])?;
        for _ in 0..2 {
            let told = proxied.ask(&["GET", &key])?;
            if told != real {
                let [told, real] =
                    [told, real.clone()].map(|reply| reply.escape_ascii().to_string());
                tally.kept.push(format!("{key} is {real}, and the proxy says {told}"));
            }
        }
    }
    Ok(())
}
