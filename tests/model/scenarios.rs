//! What is played: the sets of `coherence_model.py`, then time, pipelines, links and lives.

use crate::fixture::Action::{self, Deliver, Execute, Feed, Listen, Ping, Round};
use crate::fixture::Op::{self, Many, Read, Reveal, Write};
use crate::fixture::Scenario;

/// One request a packet, the next when the answer has come.
type Program = &'static [&'static [Op]];

const R: Program = &[&[Read]];
const RR: Program = &[&[Read], &[Read]];
const WR: Program = &[&[Write], &[Read]];
const WWR: Program = &[&[Write], &[Write], &[Read]];
const XR: Program = &[&[Reveal], &[Read]];
const XRR: Program = &[&[Reveal], &[Read], &[Read]];

/// Two barrier rounds: the lease begins.
const SYNCED: &[Action] = &[Round, Ping, Listen, Round, Ping, Listen];

/// The same, and client 0 has read: the key is cached (a GET and its PTTL).
const CACHED: &[Action] =
    &[Round, Ping, Listen, Round, Ping, Listen, Feed(0), Execute(0), Deliver(0)];

const BASE: Scenario = Scenario {
    name: "",
    programs: &[],
    workers: &[0, 1, 2],
    direct: 0,
    ticks: 0,
    rounds: 0,
    cuts: 0,
    drops: 0,
    deaths: 0,
    bans: 0,
    switches: 0,
    life: None,
    splits_seal: false,
    splits_probe: false,
    is_linear: false,
    is_level_linear: false,
    prelude: SYNCED,
};

pub(crate) static SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "1 one writer here, a revealing read: WR XR R",
        programs: &[WR, XR, R],
        is_linear: true,
        ..BASE
    },
    Scenario {
        name: "2 one writer here, twice: WWR RR",
        programs: &[WWR, RR],
        is_linear: true,
        ..BASE
    },
    Scenario {
        name: "3 two writers here: WR WR RR",
        programs: &[WR, WR, RR],
        is_linear: true,
        ..BASE
    },
    Scenario { name: "4 a writer elsewhere: RR RR D", programs: &[RR, RR], direct: 1, ..BASE },
    Scenario {
        name: "5 a writer elsewhere, a revealing read: XR R D",
        programs: &[XR, R],
        direct: 1,
        ..BASE
    },
    Scenario {
        name: "6 writers here and elsewhere: WR R DD",
        programs: &[WR, R],
        direct: 2,
        ..BASE
    },
    Scenario {
        name: "7 a writer elsewhere, twice: XRR RR DD",
        programs: &[XRR, RR],
        direct: 2,
        ..BASE
    },
    Scenario {
        name: "8 three readers of one worker join: WR R RR",
        programs: &[WR, R, RR],
        workers: &[0, 0, 0],
        is_linear: true,
        splits_seal: true,
        ..BASE
    },
    Scenario {
        name: "9 a flight that a writer of another worker overtakes: R WR R",
        programs: &[R, WR, R],
        workers: &[0, 1, 0],
        is_linear: true,
        splits_seal: true,
        ..BASE
    },
    Scenario {
        name: "10 joins, a writer elsewhere: RR RR D",
        programs: &[RR, RR],
        workers: &[0, 0],
        direct: 1,
        splits_seal: true,
        splits_probe: true,
        ..BASE
    },
    Scenario {
        name: "11 pipelines: R,WRR,R XR",
        programs: &[&[&[Read], &[Write, Read, Read], &[Read]], &[&[Reveal, Read]]],
        direct: 1,
        prelude: CACHED,
        ..BASE
    },
    Scenario {
        name: "12 the lease: a writer elsewhere, rounds and time",
        programs: &[&[&[Read], &[Read], &[Read]]],
        direct: 1,
        ticks: 4,
        rounds: 3,
        prelude: CACHED,
        ..BASE
    },
    Scenario {
        name: "13 the link is cut and noticed late",
        programs: &[&[&[Read], &[Read], &[Read]]],
        direct: 1,
        ticks: 4,
        rounds: 1,
        cuts: 1,
        drops: 1,
        prelude: CACHED,
        ..BASE
    },
    Scenario {
        name: "14 the link is lost during a flight, and comes back",
        programs: &[RR, XR],
        direct: 1,
        drops: 2,
        ..BASE
    },
    Scenario {
        name: "15 a value with a life",
        programs: &[RR, R],
        ticks: 3,
        life: Some(2),
        splits_probe: true,
        ..BASE
    },
    Scenario {
        name: "16 a data link dies with a write on it",
        programs: &[WR, RR],
        deaths: 1,
        direct: 1,
        ..BASE
    },
    Scenario {
        name: "17 MGET beside GET: a writer here, a writer elsewhere",
        programs: &[&[&[Write], &[Many]], &[&[Many], &[Read]]],
        direct: 1,
        splits_probe: true,
        ..BASE
    },
    Scenario {
        name: "18 joins of a slow flight",
        programs: &[R, R],
        workers: &[0, 0],
        direct: 1,
        ticks: 4,
        ..BASE
    },
    Scenario {
        name: "19 a pipeline that begins with a join across workers: R R,W;R",
        programs: &[R, &[&[Read, Write, Read]], R],
        workers: &[0, 1, 0],
        is_linear: true,
        splits_seal: true,
        ..BASE
    },
    Scenario {
        name: "20 the link of a flight that another worker joined dies: R RW R",
        programs: &[R, &[&[Read, Write]], R],
        workers: &[0, 1, 1],
        deaths: 2,
        direct: 1,
        ..BASE
    },
    Scenario {
        name: "21 a change that only a ban tells of: RR RR",
        programs: &[RR, RR],
        bans: 1,
        splits_probe: true,
        ..BASE
    },
    Scenario {
        name: "22 the same beside joins: R RR R, of one worker and two",
        programs: &[R, RR, R],
        workers: &[0, 0, 1],
        bans: 1,
        splits_seal: true,
        ..BASE
    },
    Scenario {
        name: "23 two bans, of a key that is cached: RR WR",
        programs: &[RR, WR],
        bans: 2,
        prelude: CACHED,
        ..BASE
    },
    // A48.
    Scenario {
        name: "24 the key version is switched, of a key that is cached: RR WR of two workers",
        programs: &[RR, WR],
        switches: 1,
        prelude: CACHED,
        ..BASE
    },
    Scenario {
        name: "25 the same beside joins, and rounds of the new link: R R RR",
        programs: &[R, R, RR],
        workers: &[0, 0, 1],
        switches: 1,
        rounds: 2,
        splits_seal: true,
        ..BASE
    },
    Scenario {
        name: "26 the same beside a writer elsewhere, and the PTTL of its own: RR RR D",
        programs: &[RR, RR],
        direct: 1,
        switches: 1,
        rounds: 2,
        splits_probe: true,
        ..BASE
    },
    Scenario {
        name: "27 level linear: a writer elsewhere, of a key that is cached: RR R DD",
        programs: &[RR, R],
        workers: &[0, 0, 1],
        direct: 2,
        is_linear: true,
        is_level_linear: true,
        prelude: CACHED,
        ..BASE
    },
    Scenario {
        name: "28 the same in pipelines, of two workers, and a write here: R,RR WR",
        programs: &[&[&[Read], &[Read, Read]], WR],
        direct: 1,
        is_linear: true,
        is_level_linear: true,
        prelude: CACHED,
        ..BASE
    },
    Scenario {
        name: "29 the same, and the link is lost: RR R D",
        programs: &[RR, R],
        workers: &[0, 0, 1],
        direct: 1,
        drops: 1,
        ticks: 1,
        is_linear: true,
        is_level_linear: true,
        prelude: CACHED,
        ..BASE
    },
];
