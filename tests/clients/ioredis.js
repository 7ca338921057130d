// ioredis with its defaults, as an application uses it. Argument: port.
const assert = require("node:assert/strict");
const Redis = require("ioredis");

async function main() {
  const port = Number(process.argv[2]);
  const redis = new Redis(port);
  assert.equal(await redis.ping(), "PONG");
  await redis.flushall();
  assert.equal(await redis.get("absent"), null);
  assert.equal(await redis.set("s", "héllo"), "OK");
  for (let n = 0; n < 4; n++) assert.equal(await redis.get("s"), "héllo");
  assert.equal(await redis.set("ttl", "x", "EX", 100), "OK");
  assert.ok((await redis.ttl("ttl")) > 90);
  assert.equal(await redis.hset("h", { f: 1, g: 2 }), 2);
  assert.deepEqual(await redis.hgetall("h"), { f: "1", g: "2" });
  assert.equal(await redis.zadd("z", 1, "a", 2, "b"), 2);
  assert.deepEqual(await redis.zrange("z", 0, -1, "WITHSCORES"), ["a", "1", "b", "2"]);
  assert.deepEqual(await redis.mget("s", "absent"), ["héllo", null]);
  assert.ok((await redis.getBuffer("s")).equals(Buffer.from("héllo")));
  await assert.rejects(redis.lpush("s", 1), /WRONGTYPE/);
  await assert.rejects(redis.call("NOSUCH"), /unknown command/);

  // Sent without waiting, then as one pipeline: 1000 each.
  const sent = [];
  for (let n = 0; n < 1000; n++) sent.push(redis.set(`k${n}`, n));
  assert.ok((await Promise.all(sent)).every((answer) => answer === "OK"));
  for (let round = 0; round < 3; round++) {
    const pipe = redis.pipeline();
    for (let n = 0; n < 1000; n++) pipe.get(`k${n}`);
    (await pipe.exec()).forEach(([error, value], n) => assert.equal(error ?? value, `${n}`));
  }
  const keys = [];
  for await (const page of redis.scanStream({ match: "k*" })) keys.push(...page);
  assert.equal(new Set(keys).size, 1000);

  const other = new Redis({ port, db: 2, connectionName: "other", enableAutoPipelining: true });
  assert.equal(await other.client("GETNAME"), "other");
  const some = await Promise.all(Array.from({ length: 100 }, (_, n) => other.get(`k${n}`)));
  assert.ok(some.every((value) => value === null));
  await Promise.all([redis.quit(), other.quit()]);
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
