// As outage.py, with ioredis: it connects again by itself, and its commands wait meanwhile.
const assert = require("node:assert/strict");
const Redis = require("ioredis");

const redis = new Redis(Number(process.argv[2]));
let state = "starting";
let stopping = false;
let closes = 0;
process.stdin.on("end", () => (stopping = true)).resume();
redis.on("error", () => {});
redis.on("close", () => {
  closes += 1;
  if (state === "working") console.log("failed");
  state = "failed";
});

async function main() {
  while (!stopping) {
    const before = closes;
    // A failed command is the outage's; it was said above.
    const answers = await Promise.all([
      redis.set("new", 1),
      redis.get("new"),
      redis.get("old"),
    ]).catch(() => null);
    // What was answered before and behind the loss of a server that kept nothing does not agree.
    if (answers === null || closes !== before) continue;
    assert.equal(answers[1], "1");
    if (state !== "working") console.log("working", answers[2] ?? "None");
    state = "working";
  }
  await redis.quit();
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
