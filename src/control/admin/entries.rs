//! What is cached, key by key, and of one key. Bytes of replies only where `admin.show_values`
//! allows it: they are the clients'.

use super::Admin;
use super::ask::{Params, Viewer, bytes, hundred, limited};
use super::door::Json;
use super::problem::{Kind, Problem, Refused, Unasked};
use super::shown::Bytes;
use crate::cache::{Cursor, Entry, Listed, Reply, Variant};
use crate::command;
use crate::wire::reply;
use axum::extract::State;
use axum::http::header::{AGE, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of a value that are told at most.
const VALUE_MAX: usize = 4096;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

pub(super) fn routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(entries)).routes(routes!(lookup))
}

/// Places of the cache that one part of the list may take.
const PLACES_MAX: usize = 1 << 16;

/// Which part of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// What the client's keys begin with.
    #[serde(default)]
    prefix: String,
    /// Where the last part ended: its `cursor`.
    cursor: Option<String>,
    /// How many at most.
    #[serde(default = "hundred")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
}

/// A part of the list, in no order that says anything.
#[derive(Debug, Serialize, ToSchema)]
struct EntryList {
    entries: Vec<ListedKey>,
    /// Where the next part begins; null: this is the last.
    cursor: Option<String>,
}

/// A key of which something is cached.
#[derive(Debug, Serialize, ToSchema)]
struct ListedKey {
    /// The client's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The same in base64, where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// `rules[0]`, or `[cache]` where none matches.
    rule: String,
    /// How many replies.
    replies: usize,
    /// Accounted bytes of all of them.
    size_bytes: u64,
    /// Since upstream was asked for the newest.
    age_ms: u64,
    /// Until the last of them expires.
    ttl_ms: u64,
    /// True: all of them are past their time.
    stale: bool,
}

/// What is cached, key by key.
///
/// A part at a time, each of which walks a bounded part of the cache: it may be empty and not the
/// last. A key that is cached from the first part to the last is listed once. Values are never
/// told; what else there is to say of a key, `/entries/lookup` knows.
#[utoipa::path(
    get,
    path = "/api/v1/entries",
    tag = "cache",
    security(("token" = ["viewer"])),
    params(Wanted),
    responses((status = 200, body = EntryList), Refused, Unasked)
)]
async fn entries(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(Wanted { prefix, cursor, limit }): Params<Wanted>,
) -> Result<Json<EntryList>, Problem> {
    let limit = limited(limit)?;
    let unknown = || Problem::new(Kind::InvalidRequest, "cursor: none that was given out here");
    let mut cursor = match cursor {
        Some(text) => Cursor::read(&text).ok_or_else(unknown)?,
        None => Cursor::default(),
    };
    let (orders, mut list, mut walked) = (&admin.api.orders, Vec::new(), 0);
    let is_more = loop {
        let now = orders.clock.now();
        let cache = &orders.cache;
        match cache.list(&mut cursor, prefix.as_bytes(), now, limit, &mut list) {
            None => break false,
            // An empty shard is a place, too.
            Some(places) => walked += places + 1,
        }
        if list.len() >= limit || walked >= PLACES_MAX {
            break true;
        }
        tokio::task::yield_now().await;
    };
    let entries = list.iter().map(|listed| listed_key(&admin, listed)).collect();
    Ok(Json(EntryList { entries, cursor: is_more.then(|| cursor.to_string()) }))
}

fn listed_key(admin: &Admin, listed: &Listed) -> ListedKey {
    let variants = &listed.variants;
    let named = Bytes::of(listed.key());
    ListedKey {
        key: named.text,
        key_base64: named.base64,
        rule: admin.api.wing.place(listed.key()).rule,
        replies: variants.len(),
        size_bytes: variants.iter().map(|variant| variant.size).sum(),
        age_ms: variants.first().map_or(0, |newest| millis(newest.age)),
        ttl_ms: variants.iter().map(|variant| millis(variant.left)).max().unwrap_or(0),
        stale: variants.iter().all(|variant| variant.is_stale),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Which key.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Sought {
    /// The client's key, without version.
    key: Option<String>,
    /// The same in base64, where it is no UTF-8.
    key_base64: Option<String>,
    /// True: tell values, if `admin.show_values` allows it.
    #[serde(default)]
    #[param(default = false)]
    value: bool,
}

/// What is cached of a key.
#[derive(Debug, Serialize, ToSchema)]
struct Found {
    /// The client's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The same in base64, where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// The same upstream.
    upstream_key: String,
    /// True if something of it may be served.
    present: bool,
    /// `rules[0]`, or `[cache]` where none matches.
    rule: String,
    /// The replies that may be served, the newest first; of some levels only while tracking is up,
    /// and of what is `stale` only as `stale_if_error` and `grace` say.
    replies: Vec<Stored>,
}

/// One cached reply.
#[derive(Debug, Serialize, ToSchema)]
struct Stored {
    /// Of which command.
    command: &'static str,
    /// In which database.
    db: u32,
    /// Accounted bytes.
    size_bytes: u64,
    /// Since upstream was asked.
    age_ms: u64,
    /// Until it expires.
    ttl_ms: u64,
    /// True: it is past its time.
    stale: bool,
    /// Its first 4096 bytes, if asked for: a string's, or a reply of another kind as RESP has it;
    /// null: nil.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    value: Option<Value>,
    /// The same in base64, where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    /// All bytes of it, where not all are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_cut_from: Option<usize>,
}

/// What is cached of a key: `key` or `key_base64`.
///
/// `X-Cache` says HIT or MISS; `Age` and `Cache-Control: max-age` are those of the newest reply.
#[utoipa::path(
    get,
    path = "/api/v1/entries/lookup",
    tag = "cache",
    security(("token" = ["viewer"])),
    params(Sought),
    responses(
        (
            status = 200,
            body = Found,
            headers(
                ("X-Cache" = String, description = "HIT or MISS"),
                ("Age" = u64, description = "seconds, of the newest reply")
            )
        ),
        Refused,
        Unasked
    )
)]
async fn lookup(
    State(admin): State<Arc<Admin>>,
    _: Viewer,
    Params(sought): Params<Sought>,
) -> Result<(HeaderMap, Json<Found>), Problem> {
    if sought.value && !admin.api.view.snapshots.newest().settings.admin.show_values {
        let detail = "value: admin.show_values is false: values are not told";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let key = sought.key()?;
    let orders = &admin.api.orders;
    let replies = orders.cache.replies(&key, orders.clock.now());
    let mut headers = HeaderMap::new();
    let is_hit = replies.iter().any(|(variant, _)| !variant.is_stale);
    headers.insert(X_CACHE, HeaderValue::from_static(if is_hit { "HIT" } else { "MISS" }));
    if let Some((newest, _)) = replies.first() {
        headers.insert(AGE, newest.age.as_secs().into());
        // As caches count it: from when the reply was made.
        let life = format!("max-age={}", (newest.age + newest.left).as_secs());
        headers.extend(HeaderValue::try_from(life).ok().map(|life| (CACHE_CONTROL, life)));
    }
    let place = admin.api.wing.place(&key);
    let named = Bytes::of(&key);
    Ok((
        headers,
        Json(Found {
            key: named.text,
            key_base64: named.base64,
            upstream_key: place.upstream_key,
            rule: place.rule,
            present: is_hit,
            replies: replies.iter().map(|reply| stored(reply, sought.value)).collect(),
        }),
    ))
}

impl Sought {
    fn key(&self) -> Result<Vec<u8>, Problem> {
        match (&self.key, &self.key_base64) {
            (Some(key), None) => Ok(key.clone().into_bytes()),
            (None, Some(key)) => bytes("/key_base64", key),
            _ => {
                let detail = "behind the `?`: give one of key, key_base64";
                Err(Problem::new(Kind::InvalidRequest, detail))
            }
        }
    }
}

fn stored((variant, entry): &(Variant, Entry), is_told: bool) -> Stored {
    let (value, value_base64, value_cut_from) = match entry.reply() {
        _ if !is_told => (None, None, None),
        Reply::Nil => (Some(Value::Null), None, None),
        Reply::Bytes(whole) => {
            let value = reply::bulk(whole).unwrap_or(whole);
            let (told, cut_from) = Bytes::cut(value, VALUE_MAX);
            (told.text.map(Value::from), told.base64, cut_from)
        }
    };
    Stored {
        command: command::all().get(usize::from(variant.command)).map_or("", |row| row.name),
        db: variant.space.db(),
        size_bytes: variant.size,
        age_ms: millis(variant.age),
        ttl_ms: millis(variant.left),
        stale: variant.is_stale,
        value,
        value_base64,
        value_cut_from,
    }
}
