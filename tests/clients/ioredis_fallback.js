// ioredis, as an application keeps it: connected before its server is gone, and after it is back.
// Arguments: port. What the test does next is awaited on standard input: "gone", "back".
const assert = require("node:assert/strict");
const readline = require("node:readline");
const Redis = require("ioredis");

const redis = new Redis(Number(process.argv[2]));
let lost = 0;
redis.on("close", () => (lost += 1));
redis.on("error", () => {});

async function main() {
  const orders = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const until = async (order) => assert.equal((await orders.next()).value, order);

  assert.equal(await redis.set("page", "as it was"), "OK");
  assert.equal(await redis.rpush("queue", "first"), 1);
  // Kept here from then on, when two have asked for it.
  for (let n = 0; n < 4; n++) assert.equal(await redis.get("page"), "as it was");
  console.log("ready");

  await until("gone");
  // What was read is still read, though its server is gone; what was not is not there.
  assert.equal(await redis.get("page"), "as it was");
  assert.equal(await redis.get("never"), null);
  // What is written is read, by whatever way.
  assert.equal(await redis.set("cart:1", "apples", "EX", 3600), "OK");
  assert.equal(await redis.get("cart:1"), "apples");
  assert.equal(await redis.hset("user:1", { name: "Alice", age: 30 }), 2);
  assert.deepEqual(await redis.hgetall("user:1"), { name: "Alice", age: "30" });
  const counted = await redis.multi().incr("visits").incrby("visits", 4).expire("visits", 60).exec();
  assert.deepEqual(counted, [[null, 1], [null, 5], [null, 1]]);
  const pipe = redis.pipeline();
  for (let n = 0; n < 200; n++) pipe.rpush("jobs", n);
  assert.deepEqual((await pipe.exec()).map(([error, length]) => error ?? length).at(-1), 200);
  assert.deepEqual(await redis.mget("cart:1", "never"), ["apples", null]);
  assert.equal(await redis.set("page", "as it is"), "OK");
  assert.equal(await redis.get("page"), "as it is");
  await assert.rejects(redis.flushall(), /flushes nothing/);
  console.log("written");

  await until("back");
  assert.equal(await redis.get("page"), "as it is");
  assert.equal(await redis.get("visits"), "5");
  assert.equal(await redis.llen("jobs"), 200);
  assert.equal(await redis.set("afterwards", "1"), "OK");
  // Nothing of all this has cost it its connection.
  assert.equal(lost, 0);
  await redis.quit();
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
