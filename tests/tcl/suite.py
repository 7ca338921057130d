"""Runs Redis' Tcl suite unit by unit, straight to redis-server and then through nearside, and
compares the two with the checked-in lists of differences. tests/tcl/run fetches what it needs.

A test differs if it passes direct and never through nearside. Each unit gets servers of its own.
In the first round nothing is left out, so that a listed difference is seen to be one. A failing
test may spoil what follows it, so if others fail too, further rounds leave out the listed ones,
and then also the first that failed. A test that hangs ends its round, and is left out of the next.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

# What an external server cannot offer, or only by DEBUG and SAVE.
TAGS = ["debug", "repl", "pfdebug", "save", "config-maxmemory", "config-resetstat", "latency",
        "local-process"]
# Nine tenths of the time are these units' random runs.
SLOW = {"unit/geo", "unit/hyperloglog", "unit/type/list-3", "unit/type/list-2", "unit/type/stream",
        "unit/type/zset"}
# So begins the reason of a difference that not every run shows.
AT_TIMES = "at times: "
LISTS = {"": ("differences.txt", 40), "v1": ("differences-v1.txt", 60)}
# A round that a hanging test has ended is run again without it, up to so many times.
HANGS = 12
# No unit takes as long; the suite's own limit, without progress, is `--hang`.
UNIT_SECONDS = 1800
START_SECONDS = 30

STATUS = re.compile(r"^\[(\w+)\]: (.*)$")
OK = re.compile(r"^(.*) \(\d+ ms\)$")
ERR = re.compile(r"^(.*) in tests/\S+\.tcl$")
RAN = re.compile(r"^\[(ok|err|skip|ignore|\d+/\d+ done)\]: |IN PROGRESS", re.M)
HANGS_AT = re.compile(r"^\S+ => \(IN PROGRESS\) (.*)$")
DONE = re.compile(r"^\[\d+/\d+ done\]: ", re.M)


# What runs now, and what is on disk, so that it ends with this program.
LIVE = set()
BENCHES = []
SPAWNING = threading.RLock()


def spawn(command, **how):
    """A process in a session of its own, with what it starts itself."""
    with SPAWNING:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                                   start_new_session=True, **how)
        LIVE.add(process)
    return process


def reap(process):
    """Ends it and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    LIVE.discard(process)


def interrupted(number, _frame):
    # Held to the end: no thread starts another.
    SPAWNING.acquire()
    for process in list(LIVE):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for bench in list(BENCHES):
        bench.drop()
    os._exit(128 + number)


def say(text):
    print(f"tests/tcl/run: {text}", file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def base_port():
    """The first of 50 free ports, with 32 before it, below those that connections take. They are
    claimed by the UDP socket that this answers, too: no other bench takes them while it is open."""
    slots = list(range(10_100, 22_600, 100))
    random.shuffle(slots)
    for base in slots:
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", base))
            for port in range(base - 32, base + 50):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
            return base, claim
        except OSError:
            claim.close()
    sys.exit("tests/tcl/run: FAILED: no 82 ports in a row are free")


class Process:
    """A server that ends with its block, and all that it said in a file."""

    def __init__(self, command, folder, name, env=None):
        self.log_path = folder / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self.process = spawn(command, cwd=folder, env=env, stdout=log)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_until(self, is_up):
        """False if it ended before it was up (its port may have been taken meanwhile)."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return False
            try:
                if is_up():
                    return True
            except OSError:
                pass
            time.sleep(0.02)
        return False

    def end(self):
        reap(self.process)


def started(make, is_up):
    for _ in range(5):
        port = free_port()
        process = make(port)
        if process.wait_until(lambda: is_up(port)):
            return process, port
        process.end()
    sys.exit(f"tests/tcl/run: FAILED: does not start:\n{process.log()}")


def pongs(port):
    with socket.create_connection(("127.0.0.1", port), 1) as stream:
        stream.sendall(b"PING\r\n")
        return stream.recv(16).startswith(b"+PONG")


def start_redis(suite, folder):
    """redis-server with the configuration that the suite gives its own servers."""
    ours = ("port ", "dir ", "pidfile ", "logfile ", "bind ")
    lines = (suite / "tests/assets/default.conf").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(ours)]

    def make(port):
        config = folder / "redis.conf"
        own = [f"port {port}", "bind 127.0.0.1", f"dir {folder}", f"pidfile {folder}/redis.pid"]
        config.write_text("\n".join(kept + own) + "\n")
        return Process(["redis-server", str(config)], folder, "redis")

    return started(make, pongs)


def start_nearside(binary, version, upstream, folder):
    """nearside with its defaults: mode cache, default rules. Answers also its admin port."""
    admin = 0

    def make(port):
        nonlocal admin
        admin = free_port()
        config = folder / "nearside.toml"
        config.write_text(
            'mode = "cache"\n'
            f'[server]\nlisten = ["127.0.0.1:{port}"]\n'
            f'[upstream]\nurl = "redis://127.0.0.1:{upstream}"\n'
            f'[keys]\nversion = "{version}"\n'
            f'[admin]\nlisten = "127.0.0.1:{admin}"\n')
        env = {key: value for key, value in os.environ.items() if not key.startswith("NEARSIDE")}
        return Process([binary, "--config", str(config)], folder, "nearside", env)

    process, port = started(make, lambda _: page(admin, "/readyz") is not None)
    return process, port, admin


def page(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def hits_of(admin):
    found = re.findall(r"^nearside_worker_hits_total\S* (\d+)", page(admin, "/metrics"), re.M)
    return sum(map(int, found))


class Round:
    """What one run of one unit's file said."""

    def __init__(self, text):
        self.passed = collections.Counter()
        self.failed = {}
        self.is_done = False
        self.hung = None
        open_failure = None
        for line in text.splitlines():
            status = STATUS.match(line)
            if DONE.match(line):
                self.is_done = True
                open_failure = None
            elif status:
                open_failure = self.note(status[1], status[2])
            elif hangs := HANGS_AT.match(line):
                self.hung = hangs[1]
                self.failed.setdefault(hangs[1], "hangs")
                open_failure = None
            elif line.strip() == "The End":
                break
            elif open_failure:
                self.failed[open_failure] += "\n" + line
            # An exception outside every test, or a crash of the suite itself.
            if status and status[1] == "exception":
                self.failed.setdefault("(outside every test)", status[2])

    def note(self, status, rest):
        """One line of the suite. Answers the failure to which the next lines belong."""
        if status == "ok" and (name := OK.match(rest)):
            self.passed[name[1]] += 1
        elif status == "err":
            name = ERR.match(rest)
            key = name[1] if name else "(outside every test)"
            self.failed[key] = self.failed.get(key, "") + ("" if name else rest)
            return key
        return None


class Bench:
    """A copy of the suite and a range of ports, for one unit at a time."""

    def __init__(self, options, number):
        BENCHES.append(self)
        self.options = options
        self.suite = options.home / f"bench-{os.getpid()}-{number}"
        self.base_port, self.claim = base_port()
        shutil.copytree(options.suite / "tests", self.suite / "tests")
        (self.suite / "src").mkdir()
        for tool in ("redis-server", "redis-cli", "redis-benchmark"):
            if found := shutil.which(tool):
                (self.suite / "src" / tool).symlink_to(found)

    def drop(self):
        shutil.rmtree(self.suite, ignore_errors=True)
        self.claim.close()
        BENCHES.remove(self)

    def round(self, unit, mode, version, skip):
        """One run of a unit on servers of its own; `version` None is direct."""
        with tempfile.TemporaryDirectory(prefix="nearside-tcl-") as name:
            folder = pathlib.Path(name)
            redis, port = start_redis(self.suite, folder)
            near, hits, trouble = None, 0, None
            try:
                if version is not None:
                    near, port, admin = start_nearside(
                        self.options.binary, version, port, folder)
                text = self.suite_run(unit, mode, port, skip, folder)
                if not RAN.search(text):
                    trouble = "the suite does not start:\n" + text
                if near:
                    if near.process.poll() is not None:
                        trouble = f"nearside ended with {near.process.returncode}"
                    else:
                        hits = hits_of(admin)
                    if "panicked at" in near.log():
                        trouble = "nearside panicked"
                    if trouble:
                        trouble += ":\n" + "\n".join(near.log().splitlines()[-20:])
            finally:
                if near:
                    near.end()
                redis.end()
            said = near.log() if near else ""
        if self.options.log:
            where = "direct" if version is None else f"version={version}"
            to = self.options.log / f"{mode}-{where}"
            to.mkdir(parents=True, exist_ok=True)
            with open(to / (unit.replace("/", "-") + ".log"), "a") as log:
                log.write(f"=== skipped: {sorted(skip)}\n{text}\n=== nearside\n{said}\n")
        return Round(text), hits, trouble

    def suite_run(self, unit, mode, port, skip, folder):
        skipfile = folder / "skip"
        skipfile.write_text("\n".join(sorted(skip)) + "\n", encoding="latin-1")
        command = [
            "tclsh", "tests/test_helper.tcl", "--host", "127.0.0.1", "--port", str(port),
            "--single", unit, "--durable", "--timeout", str(self.options.hang),
            "--baseport", str(self.base_port), "--portcount", "50", "--skipfile", str(skipfile),
            "--tags", " ".join(f"-needs:{tag}" for tag in TAGS)]
        if mode == "single":
            command.append("--singledb")
        env = dict(os.environ, TERM="dumb", LC_ALL="C")
        with open(folder / "out", "w+b") as out:
            process = spawn(command, cwd=self.suite, env=env, stdout=out)
            try:
                process.wait(UNIT_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:
                reap(process)
            out.seek(0)
            return out.read().decode("latin-1")


class Unit:
    """What became of one unit's tests over all rounds: each name's passes, at best."""

    def __init__(self, name):
        self.name = name
        self.passed = collections.Counter()
        self.failed = {}
        self.hits = 0
        self.troubles = []
        self.seconds = 0.0
        self.rounds = 0

    def take(self, result, hits, trouble):
        self.rounds += 1
        self.passed |= result.passed
        for name, why in result.failed.items():
            self.failed.setdefault(name, why.strip())
        self.hits += hits
        if trouble:
            self.troubles.append(f"{self.name}: {trouble}")


def whole_round(bench, outcome, mode, version, skip):
    """Rounds until one comes to the unit's end. Answers the last, and what hung on the way where
    nothing had failed before it: else that may have been the cause."""
    hung, alone = set(), set()
    while True:
        result, hits, trouble = bench.round(outcome.name, mode, version, skip | hung)
        outcome.take(result, hits, trouble)
        if not result.hung or len(hung) >= HANGS:
            return result, alone
        hung.add(result.hung)
        if set(result.failed) == {result.hung}:
            alone.add(result.hung)


def run_unit(bench, unit, mode, version, wanted, listed):
    """`wanted`: what passed direct (None: this is the direct run); `listed`: known to differ."""
    begun = time.monotonic()
    outcome = Unit(unit)
    result, hung = whole_round(bench, outcome, mode, version, set())
    skip = set(listed)
    # Passed first of all: what is listed counts as it does when nothing is left out.
    outcome.first = outcome.passed.copy()
    for number in range(1, bench.options.rounds if wanted is not None else 1):
        missing = differing(wanted, outcome.passed) - set(listed)
        if not missing:
            break
        result, more = whole_round(bench, outcome, mode, version, skip | hung)
        hung |= more
        # The next leaves out the first that failed: it may have spoilt the others.
        first = next((name for name in result.failed if name in wanted), None)
        if first and number > 1:
            skip.add(first)
    outcome.seconds = time.monotonic() - begun
    return outcome


def differing(wanted, passed):
    return {name for name, count in wanted.items() if passed[name] < count}


def over(options, units, work):
    """`work(bench, unit)` for all units, `--jobs` at a time; answers by unit."""
    benches = queue.Queue()
    for bench in (made := [Bench(options, number) for number in range(options.jobs)]):
        benches.put(bench)
    lock = threading.Lock()
    outcomes = {}

    def one(unit):
        bench = benches.get()
        try:
            outcome = work(bench, unit)
        finally:
            benches.put(bench)
        with lock:
            outcomes[unit] = outcome
        if options.verbose:
            say(f"  {unit}: {sum(outcome.passed.values())} passed, {outcome.rounds} rounds, "
                f"{outcome.seconds:.0f} s")

    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for done in [pool.submit(one, unit) for unit in units]:
                done.result()
    finally:
        for bench in made:
            bench.drop()
    return outcomes


def read_list(path):
    """{(unit, test): reason}, from lines of `unit TAB test TAB reason`."""
    listed = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split("\t")
        if len(parts) != 3 or not all(part.strip() for part in parts):
            sys.exit(f"tests/tcl/run: FAILED: {path.name}:{number}: "
                     "not `unit TAB test TAB reason`")
        if (parts[0], parts[1]) in listed:
            sys.exit(f"tests/tcl/run: FAILED: {path.name}:{number}: listed twice")
        listed[parts[0], parts[1]] = parts[2]
    return listed


def all_units(suite):
    out = subprocess.run(["tclsh", "tests/test_helper.tcl", "--list-tests"], cwd=suite, check=True,
                         stdout=subprocess.PIPE, text=True)
    return out.stdout.split()


def direct(options, mode, units):
    """{unit: {test: passes}} straight to redis-server, and the seconds of each unit."""
    kept = options.home / f"direct-{mode}.json"
    version = options.suite.parent.name
    old = json.loads(kept.read_text()) if options.reuse_direct and kept.exists() else {}
    found = old.get("units", {}) if old.get("version") == version else {}
    new = [unit for unit in units if unit not in found]
    outcomes = over(options, new, lambda bench, unit: run_unit(bench, unit, mode, None, None, ()))
    for unit, outcome in outcomes.items():
        found[unit] = {"passed": dict(outcome.passed), "seconds": outcome.seconds}
        for name, why in outcome.failed.items():
            say(f"fails direct: {unit}: {name}: {one_line(why)}")
    kept.write_text(json.dumps({"version": version, "units": found}, indent=1))
    passed = {unit: collections.Counter(found[unit]["passed"]) for unit in units}
    return ({unit: tests for unit, tests in passed.items() if tests},
            {unit: found[unit]["seconds"] for unit in units})


def one_line(text):
    """The first line of a failure; the suite cuts an error's first ten letters, and repeats it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[1].endswith(lines[0]):
        return lines[1][:160]
    return lines[0][:160] if lines else ""


class Result:
    """One mode (single or multi) through nearside with one version."""

    def __init__(self, options, mode, version, wanted, seconds, listed):
        begun = time.monotonic()
        by_unit = collections.defaultdict(set)
        for unit, name in listed:
            by_unit[unit].add(name)
        # The longest first, so that no job waits for one at the end.
        units = sorted(wanted, key=lambda unit: -seconds[unit])
        outcomes = over(options, units, lambda bench, unit: run_unit(
            bench, unit, mode, version, wanted[unit], by_unit[unit]))
        self.mode, self.version = mode, version
        self.differences = {}
        self.equal = set()
        self.passed = self.total = 0
        for unit, tests in wanted.items():
            outcome = outcomes[unit]
            for name, count in tests.items():
                is_listed = name in by_unit[unit]
                got = min(count, (outcome.first if is_listed else outcome.passed)[name])
                self.total += count
                self.passed += got
                if got == count:
                    self.equal.add((unit, name))
                else:
                    why = outcome.failed.get(name)
                    if why is None:
                        why = "does not run: " + outcome.failed.get("(outside every test)", "")
                    self.differences[unit, name] = why
        self.hits = sum(outcome.hits for outcome in outcomes.values())
        self.troubles = [line for outcome in outcomes.values() for line in outcome.troubles]
        self.rounds = sum(outcome.rounds for outcome in outcomes.values())
        self.minutes = (time.monotonic() - begun) / 60

    def title(self):
        return f"{self.mode}-db, keys.version \"{self.version}\""


def judge(options, version, results, listed, is_whole):
    """Prints what differs; answers what is wrong."""
    file, bar = LISTS[version]
    wrong = []
    for result in results:
        print(f"{result.title()}: passed {result.passed} of {result.total} direct, "
              f"{result.hits} hits, {result.minutes:.1f} min")
        # A unit or two may never read a key twice.
        if result.hits == 0 and not options.is_partial:
            wrong.append(f"{result.title()}: no hits")
        wrong += [f"{result.title()}: {trouble}" for trouble in result.troubles]
    found = {}
    for result in results:
        for key, why in result.differences.items():
            found.setdefault(key, why)
    for key in sorted(found):
        mark = "listed" if key in listed else "NOT LISTED"
        reason = listed.get(key) or one_line(found[key])
        print(f"  {mark}: {key[0]}: {key[1]}: {reason}")
    if unlisted := len(set(found) - set(listed)):
        wrong.append(f"{unlisted} of these are not in {file}")
    equal = set().union(*(result.equal for result in results)) - set(found)
    ran = {unit for unit, _ in equal} | {unit for unit, _ in found}
    for key in sorted(set(listed) - set(found)):
        if listed[key].startswith(AT_TIMES):
            continue
        if is_whole and key[0] in ran or is_whole and key[0] in options.units:
            wrong.append(f"in {file}, but does not differ: {key[0]}: {key[1]}")
        elif key in equal:
            say(f"note: in {file}, but does not differ in this part: {key[0]}: {key[1]}")
    if len(listed) > bar:
        wrong.append(f"{file} lists {len(listed)} tests, and may list {bar}")
    return wrong


def arguments():
    parser = argparse.ArgumentParser(prog="tests/tcl/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--suite", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--binary", help="nearside's (built --release if not given)")
    parser.add_argument("--subset", action="store_true",
                        help="about five minutes: multi-db only, without the slow units")
    parser.add_argument("--units", help="only these, e.g. unit/multi,unit/type/set")
    parser.add_argument("--version", choices=["none", "v1"], help="only this keys.version")
    parser.add_argument("--single", action="store_true", help="only with a single database")
    parser.add_argument("--multi", action="store_true", help="only with several databases")
    parser.add_argument("--direct", action="store_true", help="only the direct run")
    parser.add_argument("--reuse-direct", action="store_true",
                        help="take the last direct run's results where there are any")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="units at a time")
    parser.add_argument("--rounds", type=int, default=5, help="of a unit, at most")
    parser.add_argument("--hang", type=int,
                        help="seconds without progress after which a test hangs (120; of a"
                             " subset, whose tests are quick, 30)")
    parser.add_argument("--log", type=pathlib.Path, help="a new folder for all that was said")
    parser.add_argument("--verbose", action="store_true", help="a line for each unit")
    options = parser.parse_args()
    known = all_units(options.suite)
    options.is_partial = options.units is not None
    options.units = options.units.split(",") if options.units else known
    if unknown := set(options.units) - set(known):
        parser.error(f"no such unit: {', '.join(sorted(unknown))}")
    if options.subset:
        options.units = [unit for unit in options.units if unit not in SLOW]
    options.hang = options.hang or (30 if options.subset else 120)
    both = options.single == options.multi and not options.subset
    options.modes = ["single", "multi"] if both else ["single" if options.single else "multi"]
    versions = {"none": [""], "v1": ["v1"], None: ["", "v1"]}
    options.versions = versions[options.version]
    if options.jobs < 1:
        parser.error("--jobs: at least 1")
    if options.log:
        options.log = options.log.resolve()
        options.log.mkdir(parents=True)
    if options.binary:
        options.binary = str(pathlib.Path(options.binary).resolve())
    elif not options.direct:
        parser.error("--binary is needed")
    return options


def main():
    options = arguments()
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    begun = time.monotonic()
    lists = {version: read_list(pathlib.Path(__file__).with_name(LISTS[version][0]))
             for version in options.versions}
    baseline = {}
    for mode in options.modes:
        wanted, seconds = direct(options, mode, options.units)
        baseline[mode] = wanted, seconds
        passed = sum(sum(tests.values()) for tests in wanted.values())
        print(f"{mode}-db, direct: {passed} passed in {len(wanted)} units", flush=True)
    wrong = []
    for version in options.versions if not options.direct else []:
        results = [Result(options, mode, version, *baseline[mode], lists[version])
                   for mode in options.modes]
        wrong += judge(options, version, results, lists[version], len(options.modes) == 2)
        if options.log:
            dump = [[r.mode, *key, why] for r in results for key, why in r.differences.items()]
            (options.log / f"differences-{version or 'none'}.json").write_text(
                json.dumps(dump, indent=1))
    for line in wrong:
        say(f"FAILED: {line}")
    minutes = (time.monotonic() - begun) / 60
    say(f"{'FAILED' if wrong else 'ok'}, {minutes:.1f} min")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
