// As outages.py, for node: the play that tests/real/outages.rs directs, and its count.
const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { createInterface } = require("node:readline");
const { setTimeout: pause } = require("node:timers/promises");
const { until } = require("./waiting");

const OUTAGE = 4000; // ms, at least. It is the bar's; no result depends on it.

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function toldToGoOn(said, expected) {
  console.log(said);
  assert.equal((await lines.next()).value, expected);
}

// How often each is there.
function count(jobs) {
  const counts = {};
  for (const job of jobs) counts[job] = (counts[job] ?? 0) + 1;
  return counts;
}

// Which jobs were done: a line each in a file of this folder; and the gate of one of them.
class Done {
  constructor(folder) {
    this.file = path.join(folder, "done");
    this.gate = path.join(folder, "gate");
  }
  async work(job) {
    if (job === "held") {
      this.add("begun");
      await until("the gate opens", () => fs.existsSync(this.gate));
    }
    this.add(job);
  }
  add(line) {
    fs.appendFileSync(this.file, `${line}\n`);
  }
  async counts() {
    return count(fs.existsSync(this.file) ? fs.readFileSync(this.file, "utf8").split("\n") : []);
  }
  openGate() {
    fs.writeFileSync(this.gate, "");
  }
}

// Until every job that was acknowledged is done; the figures.
async function play(enqueue, done) {
  const [acknowledged, told] = [[], new Set()];
  let made = 0;
  const offer = async (job = `job${++made}`) => {
    const error = await enqueue(job).then(
      () => null,
      (error) => error,
    );
    if (error) told.add(error.constructor.name);
    else acknowledged.push(job);
    return !error;
  };
  const allDone = async () => {
    const counts = await done.counts();
    return acknowledged.every((job) => counts[job]);
  };
  for (let n = 0; n < 10; n++) assert.ok(await offer());
  await until("the first jobs are done", allDone);
  assert.ok(await offer("held"));
  await until("one is being done", async () => (await done.counts()).begun);
  for (let n = 0; n < 5; n++) assert.ok(await offer());

  await toldToGoOn("ready", "struck");
  let stopping = false;
  const producing = (async () => {
    while (!stopping) {
      await offer();
      await pause(50); // A pace.
    }
  })();
  done.openGate();
  await pause(OUTAGE);
  await toldToGoOn("enough", "back");
  stopping = true;
  await producing;
  await until("a job is acknowledged again", () => offer());
  await until("all that was acknowledged is done", allDone);
  const counts = await done.counts();
  return {
    acknowledged: acknowledged.length,
    lost: acknowledged.filter((job) => !counts[job]).length,
    twice: acknowledged.filter((job) => counts[job] > 1).length,
    told: [...told],
  };
}

// Says the figures, and ends though somebody holds the other end of its input.
function report(main) {
  main(Number(process.argv[2]), process.argv[3]).then(
    (figures) => {
      console.log(JSON.stringify(figures));
      process.exit(0);
    },
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { Done, count, play, report };
