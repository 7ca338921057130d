//! Every key of the configuration for those who write one: a table for people, and a JSON Schema
//! for editors.
//!
//! In: [`written`]. Out: Markdown, JSON.

use crate::config::key::{BuiltIn, Key, Values};
use crate::config::written::{self, Written};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use toml::Table;

const HEAD: &str = "# Configuration

Every key of `proxy.toml`, as `nearside config reference` prints it. Over the file stand the
environment (`NEARSIDE_<TABLE>__<KEY>`), then flags and `--set KEY=VALUE`; `nearside config show`
tells what holds and who said so.

Durations are `\"250ms\"`, `\"5s\"`, `\"1h 30m\"`, or `\"off\"` for 0; sizes are bytes, or
`\"64kb\"`, `\"256mb\"`, `\"2gb\"`, in powers of 1024; rates `\"10/s\"`, `\"600/m\"`. The fourth
column says when a change is felt.
";

/// The reference, as Markdown.
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    let mut table = None;
    for key in written::keys() {
        let (of, name) = key.parts();
        if table != Some(of) {
            table = Some(of);
            let title = match of {
                "" => "Before the first table".to_owned(),
                _ if key.list().is_some() => format!("`[[{of}]]`"),
                _ => format!("`[{of}]`"),
            };
            let head = "| key | default | values | takes effect | |\n|---|---|---|---|---|";
            write!(out, "\n## {title}\n\n{head}\n").ok();
        }
        let (values, applies) = (key.values.as_str(), key.applies.as_str());
        let (default, meaning) = (default(key), meaning(key));
        writeln!(out, "| `{name}` | {default} | {values} | {applies} | {meaning} |").ok();
    }
    out
}

fn default(key: &Key) -> String {
    match key.built_in {
        BuiltIn::Toml(text) => format!("`{text}`"),
        BuiltIn::Found(words) => words.to_owned(),
        BuiltIn::Nothing => String::new(),
    }
}

/// The doc comment's lines begin with a space each.
fn meaning(key: &Key) -> &'static str {
    key.meaning.trim()
}

/// The JSON Schema of proxy.toml, draft 2020-12. Defaults are the key table's.
pub fn schema() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<Written>();
    let mut schema = schema.to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "nearside: proxy.toml".into());
    }
    for key in written::keys() {
        if let Some(property) = property(&mut schema, key.path) {
            describe(property, key);
        }
    }
    schema
}

/// The schema of one key.
fn property<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut at = schema;
    for step in path.split('.') {
        // `[[rules]]` is a list, and `[[warming.jobs]]`.
        if at.get("items").is_some() {
            at = at.get_mut("items")?;
        }
        at = at.get_mut("properties")?.get_mut(step)?;
    }
    at.as_object_mut()
}

/// Adds what the type does not say, and takes out `null`, which TOML does not have.
fn describe(property: &mut Map<String, Value>, key: &Key) {
    without_null(property);
    property.insert("description".to_owned(), meaning(key).into());
    property.remove("default");
    if let BuiltIn::Toml(text) = key.built_in
        && let Ok(mut table) = format!("value = {text}").parse::<Table>()
        && let Some(value) = table.remove("value")
    {
        property.insert("default".to_owned(), json!(value));
    }
    if key.values == Values::Secret {
        property.insert("writeOnly".to_owned(), true.into());
    }
}

fn without_null(property: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            property.insert("type".to_owned(), only);
        }
    }
    let null = json!({ "type": "null" });
    if let Some(Value::Array(choices)) = property.get_mut("anyOf") {
        choices.retain(|one| *one != null);
        if let [Value::Object(only)] = choices.as_mut_slice() {
            let mut only = std::mem::take(only);
            property.remove("anyOf");
            property.append(&mut only);
        }
    }
}
