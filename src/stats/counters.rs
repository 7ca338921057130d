//! The table of counters and gauges: one row per series, in families of one name and one help.
//!
//! Adding a series is adding a row: the variant to count with, the cells of a [`super::Block`],
//! the exporter and the checked-in list of metrics all come from here. Names are those of the
//! operator's manual without the prefix `nearside_`, which the macro adds.
//!
//! Invariant: every label value is known here, so every series exists, with 0, from the start.
//! The one exception is the label `upstream`, whose value [`PER_UPSTREAM`] stands for the node's
//! address and is filled in by the exporter.

/// The value that a row writes where the exporter puts the address of the upstream node.
pub const PER_UPSTREAM: &str = "*";

/// A metric name and what it means: what `# HELP` says.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The whole name, prefix included.
    pub name: &'static str,
    /// One sentence for the operator.
    pub help: &'static str,
}

/// One series: a family and its labels.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name and help.
    pub family: Family,
    /// Label names and values.
    pub labels: &'static [(&'static str, &'static str)],
}

macro_rules! rows {
    (
        $(#[$outer:meta])*
        $table:ident
        $($name:literal $help:literal {
            $($variant:ident [$($label:ident = $value:literal),*])+
        })+
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $table {
            $($(
                #[doc = concat!(
                    "`nearside_", $name, "`",
                    $(" `", stringify!($label), "=", $value, "`",)*
                    ": ", $help
                )]
                $variant,
            )+)+
        }

        impl $table {
            /// Every variant, in the order of the table.
            pub const ALL: &[Self] = &[$($(Self::$variant,)+)+];

            /// How many there are.
            pub(super) const COUNT: usize = Self::ALL.len();

            const ROWS: &[Row] = &[$($(Row {
                family: Family { name: concat!("nearside_", $name), help: $help },
                labels: &[$((stringify!($label), $value)),*],
            },)+)+];

            /// The row of this series.
            #[expect(clippy::indexing_slicing, reason = "one row per variant, by construction")]
            pub const fn row(self) -> Row {
                Self::ROWS[self as usize]
            }
        }
    };
}

rows! {
    /// What only goes up.
    Counter
    "connections_received_total" "Client connections accepted." {
        ConnectionsTcp [listener = "tcp"]
        ConnectionsTls [listener = "tls"]
        ConnectionsUnix [listener = "unix"]
    }
    "rejected_connections_total" "Client connections refused." {
        RejectedMaxClients [reason = "max_clients"]
        RejectedTls [reason = "tls"]
        RejectedProxyProtocol [reason = "proxy_protocol"]
        RejectedHandshakeTimeout [reason = "handshake_timeout"]
    }
    "tls_reloads_total" "Certificate reloads." {
        TlsReloadsOk [listener = "resp", result = "ok"]
        TlsReloadsError [listener = "resp", result = "error"]
        AdminTlsReloadsOk [listener = "admin", result = "ok"]
        AdminTlsReloadsError [listener = "admin", result = "error"]
    }
    "client_disconnections_total" "Client connections closed, by cause." {
        ClosedByClient [reason = "client"]
        ClosedIdle [reason = "idle"]
        ClosedOutputLimit [reason = "output_limit"]
        ClosedClientsMemory [reason = "clients_memory"]
        ClosedProtocol [reason = "protocol"]
        ClosedDrain [reason = "drain"]
        ClosedKilled [reason = "killed"]
        ClosedUpstream [reason = "upstream"]
        ClosedError [reason = "error"]
    }
    "auth_failures_total" "Failed authentications." {
        AuthFailures [surface = "resp"]
        AuthFailuresAdmin [surface = "admin"]
    }
    "acl_polls_total" "Questions to upstream whether its users' rights have changed." {
        AclSame [result = "same"]
        AclChanged [result = "changed"]
        AclDenied [result = "denied"]
        AclFailed [result = "failed"]
    }
    "net_input_bytes_total" "Bytes read from clients." {
        NetInputBytes []
    }
    "net_output_bytes_total" "Bytes written to clients." {
        NetOutputBytes []
    }
    "protocol_errors_total" "Malformed RESP frames." {
        ProtocolErrorsClient [side = "client"]
        ProtocolErrorsUpstream [side = "upstream"]
    }
    "commands_rejected_total" "Commands refused by the proxy itself." {
        RejectedNoAuth [reason = "noauth"]
        RejectedNoPerm [reason = "noperm"]
        RejectedUnsupported [reason = "unsupported"]
        RejectedKey [reason = "key"]
        RejectedDedicatedMax [reason = "dedicated_max"]
    }
    "fill_leases_total" "What became of wishes for and uses of fill leases (PROXY LEASE)." {
        LeaseGranted [result = "granted"]
        LeaseWaited [result = "waited"]
        LeaseStale [result = "stale"]
        LeaseHeld [result = "held"]
        LeaseStored [result = "stored"]
        LeaseDropped [result = "dropped"]
        LeaseLost [result = "lost"]
    }
    "cache_lookups_total" "Cache lookups for cacheable reads." {
        LookupHit [result = "hit"]
        LookupStale [result = "stale"]
        LookupMiss [result = "miss"]
        LookupCoalesced [result = "coalesced"]
        LookupBypass [result = "bypass"]
        LookupWouldHit [result = "would_hit"]
    }
    "cache_bypass_total" "Cacheable reads sent upstream for another reason than a miss." {
        BypassMode [reason = "mode"]
        BypassRule [reason = "rule"]
        BypassCommand [reason = "command"]
        BypassTrackingDown [reason = "tracking_down"]
        BypassLease [reason = "lease"]
        BypassPipeline [reason = "pipeline"]
        BypassWatch [reason = "watch"]
        BypassClient [reason = "client"]
        BypassOwnLink [reason = "own_link"]
        BypassWriteHot [reason = "write_hot"]
        BypassWriteBehind [reason = "write_behind"]
    }
    "cache_stale_served_total" "Replies served past their time." {
        StaleUpstreamDown [reason = "upstream_down"]
        StaleRefreshing [reason = "refreshing"]
        StaleFallback [reason = "fallback"]
    }
    "fallback_commands_total" "Commands handled while upstream was down, by the fallback." {
        FallbackReadOk [op = "read", result = "ok"]
        FallbackReadRefused [op = "read", result = "refused"]
        FallbackWriteOk [op = "write", result = "ok"]
        FallbackWriteRefused [op = "write", result = "refused"]
    }
    "fallback_recovered_keys_total" "Keys written without upstream, by what became of them." {
        FallbackReplayed [result = "replayed"]
        FallbackDropped [result = "dropped"]
        FallbackLost [result = "lost"]
    }
    "write_behind_flushes_total" "Batches of acknowledged writes sent upstream." {
        WriteBehindFlushed [result = "ok"]
        WriteBehindFlushFailed [result = "error"]
    }
    "write_behind_writes_total" "Writes acknowledged before upstream had them." {
        WriteBehindMade [result = "made"]
        WriteBehindReplaced [result = "replaced"]
        WriteBehindRefused [result = "refused"]
    }
    "cache_refreshes_total" "Background refreshes." {
        RefreshAheadOk [kind = "ahead", result = "ok"]
        RefreshAheadError [kind = "ahead", result = "error"]
        RefreshAheadDropped [kind = "ahead", result = "dropped"]
        RefreshStaleOk [kind = "stale", result = "ok"]
        RefreshStaleError [kind = "stale", result = "error"]
        RefreshStaleDropped [kind = "stale", result = "dropped"]
    }
    "barrier_waits_total" "Replies to scripts that waited for a barrier of the tracking link." {
        BarrierPassed [result = "passed"]
        BarrierLost [result = "lost"]
        BarrierLate [result = "late"]
    }
    "written_canaries_total" "Keys written to hear of them, by what the tracking link heard." {
        CanaryHeard [result = "heard"]
        CanaryMissed [result = "missed"]
    }
    "shadow_checks_total" "Hits that were held against what upstream has." {
        ShadowChecks []
    }
    "shadow_mismatch_total" "Of them, those that differed, and were served still so much later." {
        ShadowMismatch [after = "0s"]
        ShadowMismatchSecond [after = "1s"]
        ShadowMismatchTenSeconds [after = "10s"]
    }
    "cache_stores_total" "Attempts to store an upstream reply." {
        StoreStored [result = "stored"]
        StoreTooLarge [result = "too_large"]
        StoreNotAdmitted [result = "not_admitted"]
        StoreRaced [result = "raced"]
        StoreShortTtl [result = "short_ttl"]
        StoreErrorReply [result = "error_reply"]
        StoreNil [result = "nil"]
    }
    "cache_invalidations_total" "Invalidation events applied." {
        InvalidationsTracking [source = "tracking"]
        InvalidationsWrite [source = "write"]
        InvalidationsReconnect [source = "reconnect"]
        InvalidationsAdmin [source = "admin"]
        InvalidationsPubsub [source = "pubsub"]
    }
    "cache_invalidated_keys_total" "Entries removed by invalidations." {
        InvalidatedKeysTracking [source = "tracking"]
        InvalidatedKeysWrite [source = "write"]
    }
    "cache_flushes_total" "Times the whole cache was dropped." {
        FlushesReconnect [reason = "reconnect"]
        FlushesFlushall [reason = "flushall"]
        FlushesAdmin [reason = "admin"]
        FlushesVersion [reason = "version"]
        FlushesConfig [reason = "config"]
        FlushesPubsub [reason = "pubsub"]
        FlushesFallback [reason = "fallback"]
    }
    "config_reloads_total" "Reloads of the configuration." {
        ReloadsOk [result = "ok"]
        ReloadsError [result = "error"]
    }
    "key_version_switches_total" "Key version changes applied." {
        SwitchesConfig [source = "config"]
        SwitchesAdmin [source = "admin"]
        SwitchesFleet [source = "upstream"]
        SwitchesClient [source = "resp"]
        SwitchesPubsub [source = "pubsub"]
    }
    "invalidation_messages_total" "Messages heard on an invalidation channel, by what they say." {
        MessagesKey [channel = "pubsub", kind = "key"]
        MessagesNamespace [channel = "pubsub", kind = "namespace"]
        MessagesPattern [channel = "pubsub", kind = "pattern"]
        MessagesGroup [channel = "pubsub", kind = "group"]
        MessagesEvent [channel = "pubsub", kind = "event"]
        MessagesAll [channel = "pubsub", kind = "all"]
        MessagesVersion [channel = "pubsub", kind = "version"]
        MessagesMalformed [channel = "pubsub", kind = "malformed"]
    }
    "invalidation_messages_refused_total" "Messages that are not obeyed for want of a signature." {
        RefusedUnsigned [channel = "pubsub", reason = "unsigned"]
        RefusedSignature [channel = "pubsub", reason = "signature"]
        RefusedStale [channel = "pubsub", reason = "stale"]
        RefusedReplayed [channel = "pubsub", reason = "replayed"]
        RefusedFull [channel = "pubsub", reason = "full"]
        RefusedVersion [channel = "pubsub", reason = "version"]
    }
    "invalidation_published_total" "Invalidation messages this instance published for its peers." {
        PublishedOk [result = "ok"]
        PublishedError [result = "error"]
    }
    "upstream_requests_total" "Requests sent upstream." {
        UpstreamOk [upstream = "*", result = "ok"]
        UpstreamError [upstream = "*", result = "error"]
        UpstreamTimeout [upstream = "*", result = "timeout"]
        UpstreamDisconnected [upstream = "*", result = "disconnected"]
    }
    "upstream_retries_total" "Reads asked again because their link was closed before the answer." {
        UpstreamRetries [upstream = "*"]
    }
    "upstream_connects_total" "Upstream connection attempts." {
        ConnectOk [upstream = "*", result = "ok"]
        ConnectTimeout [upstream = "*", result = "timeout"]
        ConnectRefused [upstream = "*", result = "refused"]
        ConnectTls [upstream = "*", result = "tls"]
        ConnectAuth [upstream = "*", result = "auth"]
        ConnectError [upstream = "*", result = "error"]
    }
    "upstream_disconnects_total" "Open upstream connections that ended." {
        UpstreamDisconnects [upstream = "*"]
    }
    "upstream_sent_bytes_total" "Bytes written upstream." {
        UpstreamSentBytes [upstream = "*"]
    }
    "upstream_received_bytes_total" "Bytes read from upstream." {
        UpstreamReceivedBytes [upstream = "*"]
    }
    "upstream_errors_total" "Error replies from upstream, by prefix." {
        ErrErr [err = "ERR"]
        ErrWrongtype [err = "WRONGTYPE"]
        ErrNoauth [err = "NOAUTH"]
        ErrNoperm [err = "NOPERM"]
        ErrWrongpass [err = "WRONGPASS"]
        ErrOom [err = "OOM"]
        ErrLoading [err = "LOADING"]
        ErrReadonly [err = "READONLY"]
        ErrMasterdown [err = "MASTERDOWN"]
        ErrMisconf [err = "MISCONF"]
        ErrNoreplicas [err = "NOREPLICAS"]
        ErrBusy [err = "BUSY"]
        ErrBusykey [err = "BUSYKEY"]
        ErrBusygroup [err = "BUSYGROUP"]
        ErrNogroup [err = "NOGROUP"]
        ErrNoscript [err = "NOSCRIPT"]
        ErrExecabort [err = "EXECABORT"]
        ErrUnblocked [err = "UNBLOCKED"]
        ErrMoved [err = "MOVED"]
        ErrAsk [err = "ASK"]
        ErrTryagain [err = "TRYAGAIN"]
        ErrClusterdown [err = "CLUSTERDOWN"]
        ErrCrossslot [err = "CROSSSLOT"]
        ErrOther [err = "OTHER"]
    }
}

rows! {
    /// What goes up and down, counted by the one who opens and closes it.
    Gauge
    "connected_clients" "Open client connections." {
        ClientsTcp [listener = "tcp"]
        ClientsTls [listener = "tls"]
        ClientsUnix [listener = "unix"]
    }
    "blocked_clients" "Clients waiting in a blocking command." {
        ClientsBlocked []
    }
    "commands_in_flight" "Commands read from clients and not yet answered." {
        CommandsInFlight []
    }
    "upstream_connections" "Open upstream connections." {
        UpstreamConnections [upstream = "*"]
    }
    "upstream_requests_in_flight" "Requests sent upstream and not yet answered." {
        UpstreamInFlight [upstream = "*"]
    }
    "upstream_dedicated_connections" "Open upstream connections that one client has for itself." {
        UpstreamDedicated [upstream = "*"]
    }
}

impl Counter {
    /// The counter of an upstream's error reply, by its first word without the `-`.
    pub fn upstream_error(prefix: &[u8]) -> Self {
        let errors = Self::ALL.get(Self::ErrErr as usize..).unwrap_or_default();
        let is = |(_, value): &(_, &str)| value.as_bytes() == prefix;
        let named = |counter: &&Self| counter.row().labels.iter().any(is);
        errors.iter().find(named).copied().unwrap_or(Self::ErrOther)
    }
}

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// How a command was answered: the label of `nearside_command_duration_seconds`. A hit
        /// is not among them: it is over before a clock could be read twice.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Outcome {
            $($(#[$doc])* $variant,)+
        }

        impl Outcome {
            /// Every outcome.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// How many there are.
            pub(super) const COUNT: usize = Self::ALL.len();

            /// The word of metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

outcomes! {
    /// Sent upstream, and stored where allowed.
    Miss = "miss",
    /// Waited for another client's identical read.
    Coalesced = "coalesced",
    /// Sent upstream for another reason than a miss; all writes.
    Bypass = "bypass",
    /// Answered by the proxy itself: PING, HELLO, CLIENT.
    Local = "local",
}

/// Commands answered; labels `cmd`, `result`.
pub const COMMANDS: Family = Family {
    name: "nearside_commands_total",
    help: "Commands answered, by lower-case command name.",
};

/// What answers took together; label `cmd`.
pub const COMMAND_SECONDS: Family = Family {
    name: "nearside_commands_duration_seconds_total",
    help: "Time from request parsed to reply queued, summed per command; hits are not timed.",
};

/// Lookups per namespace; labels `namespace`, `result`.
pub const NAMESPACES: Family = Family {
    name: "nearside_namespace_lookups_total",
    help: "Cache lookups per namespace, estimated from 1 in hotkeys.sample; overflow is _other.",
};

/// Hits per worker thread; label `worker`.
pub const WORKER_HITS: Family = Family {
    name: "nearside_worker_hits_total",
    help: "Hits served, by worker thread: shows how evenly clients are dealt.",
};

/// Keys in the workers' sketches of reads.
pub const HOT_KEYS: Family = Family {
    name: "nearside_hotkeys_tracked",
    help: "Keys held by the hot-key sketches, of all workers.",
};

/// The histogram of answers; label `outcome`.
pub const DURATION: Family = Family {
    name: "nearside_command_duration_seconds",
    help: "Time from request parsed to reply queued; hits are not timed.",
};

/// The histogram of what upstream was asked for; label `upstream`.
pub const UPSTREAM_DURATION: Family = Family {
    name: "nearside_upstream_request_duration_seconds",
    help: "Time from a client's request to upstream's answer: outcomes miss and bypass together.",
};

/// The histogram of the ages of hits.
pub const HIT_AGE: Family = Family {
    name: "nearside_cache_hit_age_seconds",
    help: "Age of the reply at a hit, estimated from 1 in hotkeys.sample.",
};

/// The histogram of pipelining depth.
pub const PIPELINE: Family = Family {
    name: "nearside_pipeline_commands",
    help: "Commands found per client read (pipelining depth).",
};

#[cfg(test)]
mod tests {
    use super::{Counter, Gauge, Outcome};

    #[test]
    fn a_variant_is_the_index_of_its_row() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
        for (index, gauge) in Gauge::ALL.iter().enumerate() {
            assert_eq!(*gauge as usize, index);
        }
        for (index, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
        }
    }

    #[test]
    fn no_series_twice() {
        let mut seen = Vec::new();
        for counter in Counter::ALL {
            let row = counter.row();
            assert!(row.family.name.ends_with("_total"), "{}", row.family.name);
            assert!(!seen.contains(&(row.family.name, row.labels)), "{row:?}");
            seen.push((row.family.name, row.labels));
        }
    }

    #[test]
    fn the_errors_of_upstream_end_the_table() {
        for counter in &Counter::ALL[Counter::ErrErr as usize..] {
            assert_eq!(counter.row().family.name, "nearside_upstream_errors_total");
        }
    }

    #[test]
    fn an_error_is_counted_by_its_first_word() {
        assert_eq!(Counter::upstream_error(b"ERR"), Counter::ErrErr);
        assert_eq!(Counter::upstream_error(b"CROSSSLOT"), Counter::ErrCrossslot);
        assert_eq!(Counter::upstream_error(b"MYSCRIPTERR"), Counter::ErrOther);
        assert_eq!(Counter::upstream_error(b""), Counter::ErrOther);
        assert_eq!(Counter::upstream_error(b"tcp"), Counter::ErrOther);
    }
}
