//! The words that keys of `proxy.toml` may have: each is an enum, by whose words errors, logs and
//! metrics call it, too.

use crate::config::key::{Kind, Values};
use schemars::JsonSchema;
use serde::Deserialize;

macro_rules! words {
    ($first:literal $($rest:literal)*) => {
        concat!("`\"", $first, "\"`", $(", `\"", $rest, "\"`",)*)
    };
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl Kind for $name {
            const VALUES: Values = Values::Words(words!($($text)*));
        }

        impl $name {
            /// The word of the configuration, of logs and of metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

word! {
    /// `mode`: what nearside is.
    Mode {
        /// A near-cache.
        Cache = "cache",
        /// Everything is asked of upstream, and what would have been a hit is counted.
        Observe = "observe",
        /// A pure proxy: nothing is stored.
        Bypass = "bypass",
    }
}

word! {
    /// `level`: what a cached reply promises.
    Level {
        /// As if upstream were asked: each hit waits for a proof that nothing has changed.
        Linear = "linear",
        /// Never older than `max_staleness`, and that is enforced.
        Coherent = "coherent",
        /// Invalidated by tracking; at most `ttl` old while the link is believed up.
        Relaxed = "relaxed",
        /// At most `ttl` old; needs no tracking.
        Ttl = "ttl",
        /// Not cached.
        Bypass = "bypass",
    }
}

impl Level {
    /// True if what is stored dies with the tracking link.
    #[inline]
    pub const fn is_tracked(self) -> bool {
        matches!(self, Self::Linear | Self::Coherent | Self::Relaxed)
    }
}

word! {
    /// `client_auth` of `[server.tls]` and `[admin.tls]`: whether who comes in shows a certificate.
    ClientAuth {
        /// They are not asked for one.
        None = "none",
        /// Who shows one must show one that is trusted.
        Optional = "optional",
        /// Who shows none is refused.
        Required = "required",
    }
}

word! {
    /// `admission`: which misses are stored.
    Admission {
        /// Every one.
        Always = "always",
        /// Those whose key missed not long ago.
        SecondHit = "second_hit",
    }
}

word! {
    /// `multi_key`: what becomes of an MGET of several keys.
    MultiKey {
        /// What is stored is taken from the cache, the rest is asked for.
        PerKey = "per_key",
        /// All of it is asked of upstream at once: the values are of one moment.
        Bypass = "bypass",
    }
}

word! {
    /// `cache.verify`: what waits for the proof that answers came in the order of requests.
    Verify {
        /// What cached reads bring is served to others only after it.
        Fills = "fills",
        /// And no answer is delivered before it.
        Strict = "strict",
        /// Nothing does.
        Off = "off",
    }
}

word! {
    /// `upstream.on_down`: what clients see when upstream is gone.
    OnDown {
        /// Their connection closes, as a dead Redis does it.
        Close = "close",
        /// An error reply.
        Error = "error",
    }
}

word! {
    /// `fallback.reads`: what reads get while another server stands in for upstream.
    FallbackReads {
        /// What is still kept in the near-cache, however old, within `fallback.max_stale`; else an
        /// error.
        Stale = "stale",
        /// The same; else what an empty Redis answers.
        Nil = "nil",
        /// An error, but for keys that were written meanwhile.
        Error = "error",
    }
}

word! {
    /// `fallback.writes`: what becomes of writes meanwhile.
    FallbackWrites {
        /// They are refused.
        Error = "error",
        /// They are made in this process's memory.
        Memory = "memory",
    }
}

word! {
    /// `fallback.on_recovery`: what becomes of them when upstream is back.
    OnRecovery {
        /// They are forgotten.
        Drop = "drop",
        /// They are made upstream, over what is there.
        Replay = "replay",
    }
}

word! {
    /// `write_behind.ack`: what a write that is behind has outlived when it is acknowledged.
    Ack {
        /// The end of the machine: it is on the disk.
        Fsync = "fsync",
        /// The end of the process: the system has it.
        Os = "os",
        /// Nothing.
        Memory = "memory",
    }
}

word! {
    /// `keys.version_source`.
    VersionSource {
        /// `keys.version`, and what operators say to this instance.
        Config = "config",
        /// A key upstream: all instances switch together.
        Upstream = "upstream",
    }
}

word! {
    /// `invalidation.tracking`.
    TrackingMode {
        /// `CLIENT TRACKING ON BCAST` on one link.
        Broadcast = "broadcast",
        /// None: only the level `ttl` caches.
        Off = "off",
    }
}

word! {
    /// `auth.mode`.
    AuthMode {
        /// No password is asked.
        None = "none",
        /// What upstream accepts: each client rides on its own credentials.
        Passthrough = "passthrough",
        /// `auth.password`, as Redis' requirepass.
        Static = "static",
    }
}

word! {
    /// `auth.users.role`.
    Role {
        /// Uses the data.
        Client = "client",
        /// And acts on nearside itself and on other clients.
        Operator = "operator",
    }
}

word! {
    /// `commands.profile`: what is refused although upstream might permit it.
    Profile {
        /// What would put the server out of service for all.
        Trusted = "trusted",
        /// And what acts on everybody's data, connections or settings.
        Hardened = "hardened",
    }
}

word! {
    /// `scripts.policy`: what becomes of a script, under a key prefix, that may use other keys than
    /// those it is given.
    ScriptPolicy {
        /// It is refused.
        Refuse = "refuse",
        /// It runs: only its KEYS are rewritten.
        Allow = "allow",
    }
}

word! {
    /// `hotkeys.show_keys`: how keys are shown.
    ShowKeys {
        /// As a number that tells them apart, beside their namespace.
        Hash = "hash",
        /// As they are.
        Plain = "plain",
    }
}

word! {
    /// `log.keys`: how keys are named in the log, and in the slow log.
    LogKeys {
        /// As they are, where they are known.
        Plain = "plain",
        /// As a number that tells them apart.
        Hash = "hash",
        /// Not at all.
        None = "none",
    }
}

word! {
    /// `log.format`.
    LogFormat {
        /// Text on a terminal, else JSON.
        Auto = "auto",
        /// For people.
        Text = "text",
        /// One object a line.
        Json = "json",
    }
}
