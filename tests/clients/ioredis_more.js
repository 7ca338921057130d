// ioredis where a connection is more than requests and answers: pipelines with errors, MULTI,
// WATCH, scripts, blocking pops, pub/sub on a second connection, streams.
// Argument: port.
const assert = require("node:assert/strict");
const Redis = require("ioredis");
const { Heard, run, until } = require("./waiting");

const isWaiting = async (redis, command) =>
  (await redis.client("LIST"))
    .split("\n")
    .some((line) => / flags=\S*b/.test(line) && line.includes(` cmd=${command} `));

async function transactions(redis, port) {
  const mixed = await redis.pipeline().set("s", "x").lpush("s", "y").get("s").exec();
  assert.deepEqual(
    [mixed[0], mixed[2]],
    [
      [null, "OK"],
      [null, "x"],
    ],
  );
  assert.match(mixed[1][0].message, /WRONGTYPE/);

  const many = redis.multi();
  for (let n = 0; n < 300; n++) many.set(`t${n}`, n).get(`t${n}`).incr("count");
  const answers = await many.exec();
  assert.equal(answers.length, 900);
  answers.forEach(([error, value], n) =>
    assert.equal(error ?? value, ["OK", `${Math.floor(n / 3)}`, Math.floor(n / 3) + 1][n % 3]),
  );

  // Names of keys inside the answer of EXEC.
  await redis.rpush("list", "a", "b");
  const names = await redis
    .multi()
    .keys("lis*")
    .scan(0, "MATCH", "lis*", "COUNT", 2000)
    .brpop("list", 1)
    .exec();
  assert.deepEqual(names, [
    [null, ["list"]],
    [null, ["0", ["list"]]],
    [null, ["list", "b"]],
  ]);

  // One command at a time, as ioredis allows it; and one that the server refuses.
  assert.equal(await redis.multi({ pipeline: false }), "OK");
  assert.equal(await redis.set("slow", 1), "QUEUED");
  assert.deepEqual(await redis.exec(), [[null, "OK"]]);
  await assert.rejects(redis.multi().set("s", "never").call("GET").exec(), /EXECABORT/);
  assert.equal(await redis.get("s"), "x");

  const other = new Redis(port);
  await redis.watch("s");
  await other.set("s", "theirs");
  assert.equal(await redis.multi().set("s", "mine").exec(), null);
  await redis.watch("s");
  assert.deepEqual(await redis.multi().set("s", "mine").exec(), [[null, "OK"]]);
  assert.equal(await other.get("s"), "mine");
  await other.quit();
}

async function scripts(redis) {
  redis.defineCommand("setsum", {
    numberOfKeys: 2,
    lua: `redis.call('SET', KEYS[2], (redis.call('GET', KEYS[1]) or 0) + ARGV[1])
      return redis.call('GET', KEYS[2])`,
  });
  await redis.set("from", 40);
  assert.equal(await redis.setsum("from", "to", 2), "42");
  assert.equal(await redis.get("to"), "42");
  assert.deepEqual(await redis.pipeline().setsum("to", "to", 1).get("to").exec(), [
    [null, "43"],
    [null, "43"],
  ]);
  await redis.script("FLUSH");
  assert.equal(await redis.setsum("to", "to", 1), "44");
  assert.deepEqual(await redis.multi().setsum("to", "to", 1).get("to").exec(), [
    [null, "45"],
    [null, "45"],
  ]);
  assert.ok((await redis.getBuffer("to")).equals(Buffer.from("45")));
}

async function blocking(redis, port) {
  const waits = new Redis(port);
  let popped = waits.brpop("none", "jobs", 30);
  await until("a waiting BRPOP", () => isWaiting(redis, "brpop"));
  await redis.lpush("jobs", "first");
  assert.deepEqual(await popped, ["jobs", "first"]);
  assert.equal(await waits.brpop("none", 0.01), null);

  // What is sent behind a blocking command waits for it.
  popped = waits.blpop("jobs", 30);
  const behind = waits.get("to");
  await until("a waiting BLPOP", () => isWaiting(redis, "blpop"));
  await redis.rpush("jobs", "second");
  assert.deepEqual(await popped, ["jobs", "second"]);
  assert.equal(await behind, "45");

  // Leaving while it waits takes nothing with it.
  popped = waits.blpop("left", 30).catch(() => "gone");
  await until("a waiting BLPOP", () => isWaiting(redis, "blpop"));
  waits.disconnect();
  assert.equal(await popped, "gone");
  await until("it is gone", async () => !(await isWaiting(redis, "blpop")));
  await redis.rpush("left", "stays");
  assert.equal(await redis.lpop("left"), "stays");
}

async function published(redis, port) {
  const sub = new Redis(port);
  const heard = new Heard();
  sub.on("message", heard.push);
  sub.on("pmessage", heard.push);
  assert.equal(await sub.subscribe("news", "more"), 2);
  assert.equal(await sub.psubscribe("n?ws"), 3);
  await assert.rejects(sub.get("s"), /subscriber mode/);
  assert.deepEqual(await redis.pubsub("NUMSUB", "news", "none"), ["news", 1, "none", 0]);
  assert.equal(await redis.publish("news", "hello"), 2);
  assert.deepEqual(await heard.take(2), [
    ["news", "hello"],
    ["n?ws", "news", "hello"],
  ]);
  const counts = await Promise.all(Array.from({ length: 500 }, (_, n) => redis.publish("more", n)));
  assert.ok(counts.every((count) => count === 1));
  assert.deepEqual(
    await heard.take(500),
    counts.map((_, n) => ["more", `${n}`]),
  );
  assert.equal(await sub.unsubscribe("news", "more"), 1);
  assert.equal(await sub.punsubscribe("n?ws"), 0);
  // It is an ordinary connection again.
  assert.equal(await sub.get("s"), "mine");
  assert.equal(await redis.publish("news", "nobody"), 0);

  const shard = new Redis(port);
  shard.on("smessage", heard.push);
  assert.equal(await shard.ssubscribe("part"), 1);
  assert.equal(await redis.spublish("part", "sharded"), 1);
  assert.deepEqual(await heard.take(1), [["part", "sharded"]]);
  await Promise.all([sub.quit(), shard.quit()]);
}

async function streams(redis, port) {
  const first = await redis.xadd("stream", "*", "n", 1);
  await redis.xgroup("CREATE", "stream", "g", 0);
  await assert.rejects(
    redis.xreadgroup("GROUP", "none", "me", "STREAMS", "stream", ">"),
    /NOGROUP No such key 'stream'/,
  );
  assert.deepEqual(
    await redis.xreadgroup("GROUP", "g", "me", "COUNT", 9, "STREAMS", "stream", ">"),
    [["stream", [[first, ["n", "1"]]]]],
  );
  assert.equal((await redis.xpending("stream", "g"))[0], 1);
  assert.equal(await redis.xack("stream", "g", first), 1);
  const reads = new Redis(port);
  const read = reads.xread("BLOCK", 30_000, "STREAMS", "none", "stream", "$", "$");
  // `$` is what the server has when it gets there: CLIENT LIST tells what nearside has sent.
  const blocked = async () =>
    /blocked_clients:1\b/.test(await redis.info("upstream", "clients"));
  await until("a waiting XREAD", blocked);
  const second = await redis.xadd("stream", "*", "n", 2);
  assert.deepEqual(await read, [["stream", [[second, ["n", "2"]]]]]);
  await reads.quit();
}

run(async (port) => {
  const redis = new Redis(port);
  await redis.flushall();
  await transactions(redis, port);
  await scripts(redis);
  await blocking(redis, port);
  await published(redis, port);
  await streams(redis, port);

  // Commands of one tick in one pipeline, and keys under the client's own prefix.
  const prefixed = new Redis({ port, keyPrefix: "app:", enableAutoPipelining: true });
  await Promise.all(Array.from({ length: 50 }, (_, n) => prefixed.set(`k${n}`, n)));
  assert.equal(await redis.get("app:k7"), "7");
  assert.deepEqual(await prefixed.multi().get("k7").exists("k8", "k9").exec(), [
    [null, "7"],
    [null, 2],
  ]);
  await Promise.all([prefixed.quit(), redis.quit()]);
});
