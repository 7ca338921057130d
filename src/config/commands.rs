//! `[commands]`: who may do what. Names as they are written become rows of the table; a name that
//! no row has is a fault, with the nearest one.

use crate::command::learned::Strangers;
use crate::command::{self, CHANGING, Choices, HARDENED, KeySpec, Refusal, Route, Spec};
use crate::command::{own, tenant};
use crate::config::check::Notes;
use crate::config::written::{CommandPolicy, Unknown};
use crate::config::{Commands, Profile};

/// The table, checked. `prefixed` = keys are rewritten; `is_tenant`: and clients kept to that.
pub(super) fn commands(
    written: &CommandPolicy,
    prefixed: bool,
    is_tenant: bool,
    notes: &mut Notes,
) -> Commands {
    let profile = written.profile.unwrap_or(Profile::Trusted);
    let unknown = match written.unknown {
        None | Some(Unknown::Reject) => Strangers::Reject,
        Some(Unknown::Learn) => Strangers::Learn,
        Some(Unknown::Pass) => Strangers::Pass,
    };
    let hardened = profile == Profile::Hardened;
    let names = written.allow.as_deref().unwrap_or_default();
    let allow = allowed(names, (hardened, is_tenant), notes);
    let deny = denied(written.deny.as_deref().unwrap_or_default(), notes);
    if unknown == Strangers::Pass && prefixed {
        notes.fault(
            "commands.unknown: \"pass\" forwards keys as clients write them, \
             past keys.version: use \"learn\", or keys.version = \"\", keys.prefix = \"\" and no \
             rules.version",
        );
    }
    let specs = specs(written, unknown, notes);
    Commands { profile, choices: Choices { hardened, allow, deny }, unknown, specs }
}

/// Rows that `allow` lifts a refusal from.
fn allowed(
    names: &[String],
    (hardened, is_tenant): (bool, bool),
    notes: &mut Notes,
) -> Vec<&'static Spec> {
    let lifts = |row: &Spec| match row.route {
        Route::Refuse(refusal) => refusal.may_be_allowed(),
        _ => {
            hardened && HARDENED.contains(&row.name)
                || (hardened || is_tenant) && CHANGING.contains(&row.name)
                || is_tenant && tenant::refuses(row)
        }
    };
    let mut allowed = Vec::new();
    for name in names {
        let Some(rows) = named("commands.allow", name, notes) else { continue };
        if rows.iter().any(|row| lifts(row)) {
            allowed.extend(rows.into_iter().filter(|row| lifts(row)));
            continue;
        }
        let refusal = rows.iter().find_map(|row| match row.route {
            Route::Refuse(refusal) => Some(refusal),
            _ => None,
        });
        match refusal {
            Some(refusal) => {
                let reason = if refusal == Refusal::Cluster {
                    "nearside is a standalone server to its clients"
                } else {
                    refusal.reason()
                };
                notes.fault(format!("commands.allow: `{name}` stays refused: {reason}"));
            }
            None => notes.warn(format!("commands.allow: nothing refuses `{name}`")),
        }
    }
    allowed
}

fn denied(names: &[String], notes: &mut Notes) -> Vec<&'static Spec> {
    names.iter().filter_map(|name| named("commands.deny", name, notes)).flatten().collect()
}

/// The row of `CONFIG|SET` or `config set`, or of `PROXY|MODE`, whatever word clients have for it;
/// of a container all its subcommands too.
fn named(key: &str, name: &str, notes: &mut Notes) -> Option<Vec<&'static Spec>> {
    let row = normal(name);
    if let Some(spec) = command::by_name(&row).or_else(|| own::by_name(&row)) {
        return Some(std::iter::once(spec).chain(spec.subs()).collect());
    }
    let nearest = command::all()
        .iter()
        .chain(own::all())
        .map(|spec| (strsim::damerau_levenshtein(&row, spec.name), spec.name))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(3) / 2);
    let hint = nearest.map_or_else(String::new, |(_, known)| {
        format!("\ndid you mean `{}`?", known.to_ascii_uppercase())
    });
    notes.fault(format!("{key}: no command is called `{name}`{hint}"));
    None
}

fn normal(name: &str) -> String {
    let words: Vec<&str> = name.split(['|', ' ']).filter(|word| !word.is_empty()).collect();
    words.join("|").to_ascii_lowercase()
}

/// `[commands.specs]`: where the keys of commands stand that the table does not have.
fn specs(written: &CommandPolicy, unknown: Strangers, notes: &mut Notes) -> Vec<(String, KeySpec)> {
    let mut specs = Vec::new();
    let listed = written.specs.iter().flatten();
    for (name, text) in listed {
        let row = normal(name);
        if command::by_name(&row).is_some() {
            notes.fault(format!("commands.specs: the keys of `{name}` are known already"));
        }
        match KeySpec::parse(text) {
            Some(keys) => specs.push((row, keys)),
            None => notes.fault(format!(
                "commands.specs: `{text}` of `{name}` is neither \"none\", \"i1\" (one key, at \
                 argument 1), \"i1..-2\" (up to the last but one), \"i1..-1/2\" (every second), \
                 \"i2#n+1\" (their number at 2, and they follow), nor several of these with `;` \
                 between"
            )),
        }
    }
    if !specs.is_empty() && unknown != Strangers::Learn {
        notes.fault("commands.specs: only commands.unknown = \"learn\" asks for it");
    }
    specs
}
