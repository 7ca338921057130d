//! What is logged, as words: `info`, or `info,nearside::data=debug`. Pure: in, a text; out, whether
//! it is one.
//!
//! Stricter than `EnvFilter`, to which any word is a module that may log everything.

/// The words for levels.
pub const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The part of `text` that is neither a level nor `module=level`.
pub fn check(text: &str) -> Result<(), &str> {
    match text.split(',').map(str::trim).find(|part| !is_sound(part)) {
        Some(part) => Err(part),
        None => Ok(()),
    }
}

fn is_sound(part: &str) -> bool {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_module = |word: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
        !word.is_empty() && word.bytes().all(is_plain)
    };
    match part.split_once('=') {
        Some((module, level)) => is_module(module) && is_level(level),
        None => is_level(part),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_level_is_what_it_says() {
        for level in ["info", "OFF", "info,nearside::data=debug", "warn, hyper=error"] {
            assert_eq!(check(level), Ok(()), "{level}");
        }
        for (level, part) in [
            ("debgu", "debgu"),
            ("info,nearside", "nearside"),
            ("info,=debug", "=debug"),
            ("", ""),
            ("info,a=loud", "a=loud"),
            ("[span]=debug", "[span]=debug"),
        ] {
            assert_eq!(check(level), Err(part));
        }
    }
}
