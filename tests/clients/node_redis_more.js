// node-redis where a connection is more than requests and answers: MULTI, WATCH, a pool that
// blocks, scripts, pub/sub (in RESP3 on the same connection), streams, and in RESP3 its own
// client-side cache. Arguments: port, RESP version.
const assert = require("node:assert/strict");
const { createClient, createClientPool, defineScript, WatchError } = require("redis");
const { Heard, run, until } = require("./waiting");

const setsum = defineScript({
  SCRIPT:
    "redis.call('SET', KEYS[2], (redis.call('GET', KEYS[1]) or 0) + ARGV[1]) " +
    "return redis.call('INCRBY', KEYS[2], 0)",
  NUMBER_OF_KEYS: 2,
  parseCommand(parser, from, to, more) {
    parser.pushKeys([from, to]);
    parser.push(`${more}`);
  },
  transformReply: undefined,
});

async function transactions(client, other) {
  const many = client.multi();
  for (let n = 0; n < 300; n++) many.set(`t${n}`, `${n}`).get(`t${n}`).incr("count");
  const answers = await many.exec();
  answers.forEach((value, n) =>
    assert.equal(value, ["OK", `${Math.floor(n / 3)}`, Math.floor(n / 3) + 1][n % 3]),
  );
  assert.equal(answers.length, 900);

  // Names of keys inside the answer of EXEC.
  await client.rPush("list", ["a", "b"]);
  const [keys, page, popped] = await client
    .multi()
    .keys("lis*")
    .scan("0", { MATCH: "lis*", COUNT: 2000 })
    .blPop("list", 1)
    .exec();
  assert.deepEqual(
    [keys, page.keys, { ...popped }],
    [["list"], ["list"], { key: "list", element: "a" }],
  );

  await client.set("s", "x");
  await assert.rejects(client.multi().get("s").lPush("s", "y").exec(), /1 commands failed/);
  await assert.rejects(
    client.multi().set("s", "never").addCommand(["GET"]).exec(),
    /wrong number of arguments/,
  );
  assert.equal(await client.get("s"), "x");
  assert.deepEqual(await client.multi().get("s").execAsPipeline(), ["x"]);

  await client.watch("s");
  await other.set("s", "theirs");
  await assert.rejects(client.multi().set("s", "mine").exec(), WatchError);
  await client.watch("s");
  assert.deepEqual(await client.multi().set("s", "mine").exec(), ["OK"]);
  assert.equal(await other.get("s"), "mine");
}

async function scripts(client) {
  await client.set("from", "40");
  assert.equal(await client.setsum("from", "to", 2), 42);
  assert.equal(await client.get("to"), "42");
  assert.deepEqual(await client.multi().setsum("to", "to", 1).get("to").exec(), [43, "43"]);
  await client.scriptFlush();
  assert.equal(await client.setsum("to", "to", 1), 44);
  assert.deepEqual(await client.eval("return {ARGV[1], 2}", { arguments: ["one"] }), ["one", 2]);
}

// Ten wait at once, each with a connection of the pool: every element comes out once, in order.
async function blocking(client, options) {
  const pool = await createClientPool(options, {
    minimum: 2,
    maximum: 12,
    cleanupDelay: 600_000,
  }).connect();
  const waits = Array.from({ length: 10 }, () => pool.blPop(["none", "jobs"], 30));
  const blocked = async () =>
    (await client.sendCommand(["CLIENT", "LIST"]))
      .split("\n")
      .filter((line) => / flags=\S*b/.test(line)).length;
  await until("ten wait", async () => (await blocked()) === 10);
  for (let n = 0; n < 10; n++) await client.rPush("jobs", `${n}`);
  const popped = (await Promise.all(waits)).map(
    ({ key, element }) => (assert.equal(key, "jobs"), element),
  );
  assert.deepEqual(
    popped.sort(),
    Array.from({ length: 10 }, (_, n) => `${n}`),
  );
  assert.equal(await pool.blPop("none", 0.01), null);
  const [key] = await Promise.all([
    pool.bzPopMin("scores", 30),
    client.zAdd("scores", { value: "a", score: 1.5 }),
  ]);
  assert.deepEqual({ ...key }, { key: "scores", value: "a", score: 1.5 });

  // An optimistic transaction on a connection of its own.
  const add = () =>
    pool.execute(async (own) => {
      await own.watch("sum");
      const sum = Number((await own.get("sum")) ?? 0);
      return own
        .multi()
        .set("sum", `${sum + 1}`)
        .exec();
    });
  const insist = async () => {
    for (;;) {
      try {
        return await add();
      } catch (error) {
        if (!(error instanceof WatchError)) throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: 30 }, insist));
  assert.equal(await client.get("sum"), "30");
  await pool.close();
}

async function published(client, other, RESP) {
  const heard = new Heard();
  const sub = await other.duplicate().connect();
  await sub.subscribe(["news", "more"], heard.push);
  await sub.pSubscribe("n?ws", heard.push);
  await sub.sSubscribe("part", heard.push);
  assert.deepEqual({ ...(await client.pubSubNumSub(["news", "none"])) }, { news: 1, none: 0 });
  assert.deepEqual({ ...(await client.pubSubShardNumSub(["part"])) }, { part: 1 });
  assert.equal(await client.publish("news", "hello"), 2);
  assert.deepEqual(await heard.take(2), [
    ["hello", "news"],
    ["hello", "news"],
  ]);
  assert.equal(await client.sPublish("part", "sharded"), 1);
  assert.deepEqual(await heard.take(1), [["sharded", "part"]]);
  const many = Array.from({ length: 500 }, (_, n) => `${n}`);
  await Promise.all(many.map((n) => client.publish("more", n)));
  assert.deepEqual(
    await heard.take(500),
    many.map((n) => [n, "more"]),
  );
  // In RESP3 a subscriber may ask anything between its messages.
  if (RESP === 3) {
    const asked = many.map((n) =>
      Promise.all([sub.set(`p${n}`, n), sub.get(`p${n}`), client.publish("more", n)]),
    );
    (await Promise.all(asked)).forEach((got, n) => assert.deepEqual(got, ["OK", `${n}`, 1]));
    assert.equal((await heard.take(500)).length, 500);
  }
  await sub.unsubscribe(["news", "more"]);
  await sub.pUnsubscribe("n?ws");
  await sub.sUnsubscribe("part");
  assert.equal(String(await sub.get("s")), "mine");
  assert.equal(await client.publish("news", "nobody"), 0);
  await sub.close();
}

async function streams(client, other) {
  const id = await client.xAdd("stream", "*", { n: "1" });
  await assert.rejects(
    client.xReadGroup("g", "me", { key: "stream", id: ">" }),
    /NOGROUP No such key 'stream'/,
  );
  await client.xGroupCreate("stream", "g", "0");
  const read = await client.xReadGroup("g", "me", { key: "stream", id: ">" });
  const first = Array.isArray(read) ? read[0].messages : read.stream;
  assert.equal((first ?? []).length, 1, JSON.stringify(read));
  assert.equal(await client.xAck("stream", "g", id), 1);
  assert.equal((await client.xPending("stream", "g")).pending, 0);
  const waits = other.xRead({ key: "stream", id: "$" }, { BLOCK: 30_000 });
  // `$` is what the server has when it gets there: CLIENT LIST tells what nearside has sent.
  const blocked = async () =>
    /blocked_clients:1\b/.test(await client.sendCommand(["INFO", "upstream", "clients"]));
  await until("a waiting XREAD", blocked);
  await client.xAdd("stream", "*", { n: "2" });
  assert.match(JSON.stringify(await waits), /"stream".*"n".*"2"/);
}

// Its own cache, which the server keeps true by pushes.
async function cachedByItself(port, other) {
  const clientSideCache = { ttl: 0, maxEntries: 100, evictPolicy: "LRU" };
  const caches = createClient({ socket: { port }, RESP: 3, clientSideCache });
  caches.on("error", (error) => console.error(error));
  await caches.connect();
  await other.mSet({ c1: "a", c2: "b" });
  for (let n = 0; n < 3; n++)
    assert.deepEqual([await caches.get("c1"), await caches.get("c2")], ["a", "b"]);
  for (let n = 0; n < 20; n++) {
    await other.set("c1", `${n}`);
    await until("the write is seen", async () => (await caches.get("c1")) === `${n}`);
  }
  await other.del("c2");
  await until("the delete is seen", async () => (await caches.get("c2")) === null);
  await caches.close();
  const options = { socket: { port }, RESP: 3 };
  const pool = await createClientPool(options, {
    minimum: 3,
    clientSideCache,
    cleanupDelay: 600_000,
  }).connect();
  assert.equal(await pool.get("c1"), "19");
  await other.set("c1", "new");
  await until("the write is seen", async () => (await pool.get("c1")) === "new");
  await pool.close();
}

run(async (port, version) => {
  const RESP = Number(version);
  const options = { socket: { port }, RESP, scripts: { setsum }, unstableResp3: true };
  const client = createClient(options);
  const other = createClient(options);
  for (const each of [client, other]) each.on("error", (error) => console.error(error));
  await Promise.all([client.connect(), other.connect()]);
  await client.flushAll();
  await transactions(client, other);
  await scripts(client);
  await blocking(client, options);
  await published(client, other, RESP);
  await streams(client, other);
  if (RESP === 3) await cachedByItself(port, other);
  await Promise.all([client.close(), other.close()]);
});
