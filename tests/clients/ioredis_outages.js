// ioredis with its defaults through an outage: commands alone and in transactions, a client that
// blocks and one that listens. What counts as done is what stands in the list. Arguments: port,
// folder (not used).
const assert = require("node:assert/strict");
const Redis = require("ioredis");
const { count, play, report } = require("./outages");
const { until } = require("./waiting");

report(async (port) => {
  const [redis, blocking, listening] = [1, 2, 3].map(() => new Redis(port));
  for (const client of [redis, blocking, listening]) client.on("error", () => {});
  const heard = [];
  listening.on("message", (_, said) => heard.push(said));
  await listening.subscribe("news");
  const popped = blocking.blpop("gifts", 0);

  let number = 0;
  const enqueue = async (job) => {
    if ((number += 1) % 2) return redis.rpush("jobs", job);
    const answers = await redis.multi().rpush("jobs", job).incr("transactions").exec();
    for (const [error] of answers) if (error) throw error;
  };
  // The jobs are elements: done when they are written. None waits for a gate.
  const counts = async () => count(["begun", ...(await redis.lrange("jobs", 0, -1))]);
  const figures = await play(enqueue, { counts, openGate: () => {} });

  await until("a message", async () => {
    await redis.publish("news", "back");
    return heard.includes("back");
  });
  await redis.rpush("gifts", "one");
  assert.deepEqual(await popped, ["gifts", "one"]);
  await Promise.all([redis.quit(), blocking.quit(), listening.quit()]);
  return figures;
});
