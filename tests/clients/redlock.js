// Redlock: locks of several resources by scripts, held, refused, extended, lost. Argument: port.
const assert = require("node:assert/strict");
const Redis = require("ioredis");
const { ExecutionError, Redlock } = require("@sesamecare-oss/redlock");
const { LONG, run } = require("./waiting");

run(async (port) => {
  const redis = new Redis(port);
  const other = new Redis(port);
  const once = new Redlock([other], { retryCount: 0 });
  const patient = new Redlock([redis], { retryCount: -1, retryDelay: 2, retryJitter: 1 });

  const lock = await patient.acquire(["lock:a", "lock:b"], LONG);
  assert.ok((await redis.pttl("lock:a")) > 0 && (await redis.exists("lock:a", "lock:b")) === 2);
  await assert.rejects(once.acquire(["lock:b"], LONG), ExecutionError);
  const longer = await lock.extend(2 * LONG);
  assert.ok((await other.pttl("lock:b")) > LONG);
  await longer.release();
  assert.equal(await other.exists("lock:a", "lock:b"), 0);

  // Whoever has lost the lock cannot give it back.
  const lost = await once.acquire(["lock:a"], LONG);
  await redis.set("lock:a", "stolen");
  await assert.rejects(lost.extend(LONG), ExecutionError);
  assert.equal(await redis.get("lock:a"), "stolen");
  await redis.del("lock:a");

  // Eight take turns at what is no single command.
  await redis.del("turns");
  const turn = () =>
    patient.using(["lock:turn"], LONG, async () => {
      await redis.set("turns", Number((await other.get("turns")) ?? 0) + 1);
    });
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let n = 0; n < 5; n++) await turn();
    }),
  );
  assert.equal(await redis.get("turns"), "40");
  await Promise.all([redis.quit(), other.quit()]);
});
