//! What this binary is, and whether what it says is coloured.

use std::io::IsTerminal;
use std::sync::OnceLock;

/// `--color`, once it is known.
static COLOR: OnceLock<clap::ColorChoice> = OnceLock::new();

/// `--version`: one line; with `--verbose` how it was built, too. Who builds it says so in the
/// environment.
pub(super) fn version(is_verbose: bool, allocator: &str) -> String {
    let line = concat!("nearside ", env!("CARGO_PKG_VERSION"));
    if !is_verbose {
        return line.to_owned();
    }
    let commit = option_env!("BUILD_COMMIT").unwrap_or("not told at the build (BUILD_COMMIT)");
    let rustc = option_env!("BUILD_RUSTC").unwrap_or("not told at the build (BUILD_RUSTC)");
    let least = env!("CARGO_PKG_RUST_VERSION");
    let features = if cfg!(feature = "mutants") { "mutants" } else { "none" };
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    format!(
        "{line}\ncommit     {commit}\nrustc      {rustc}, at least {least}\nprofile    {profile}\n\
         target     {target}\nallocator  {allocator}\nfeatures   {features}"
    )
}

/// What `--color` says, read before clap reads: its own errors have colours, too. What is wrong
/// with it clap says.
pub(super) fn color(mut arguments: impl Iterator<Item = String>) -> clap::ColorChoice {
    while let Some(argument) = arguments.next() {
        let written = match argument.strip_prefix("--color") {
            Some("") => arguments.next(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        let choice = written.and_then(|word| word.parse().ok());
        if let Some(choice) = choice {
            return *COLOR.get_or_init(|| choice);
        }
    }
    clap::ColorChoice::Auto
}

/// What was asked for: `None` leaves it to what is written to.
pub(super) fn forced_color() -> Option<bool> {
    match COLOR.get() {
        Some(clap::ColorChoice::Always) => Some(true),
        Some(clap::ColorChoice::Never) => Some(false),
        _ => None,
    }
}

/// True if what goes there is coloured.
pub(super) fn is_colored(out: &impl IsTerminal) -> bool {
    forced_color().unwrap_or_else(|| out.is_terminal() && std::env::var_os("NO_COLOR").is_none())
}

#[cfg(test)]
mod tests {
    use super::{color, version};
    use clap::ColorChoice;

    #[test]
    fn colors_are_found_wherever_they_stand() {
        let of = |line: &str| color(line.split(' ').map(str::to_owned));
        assert_eq!(of("run --colour always"), ColorChoice::Auto);
        assert_eq!(of("--color blue"), ColorChoice::Auto, "clap says what is wrong");
    }

    #[test]
    fn one_line_or_all() {
        assert_eq!(version(false, "a").lines().count(), 1);
        let all = version(true, "jemalloc");
        assert!(all.contains("\ncommit     ") && all.contains("\nallocator  jemalloc\n"), "{all}");
    }
}
