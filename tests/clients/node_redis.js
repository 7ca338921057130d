// node-redis with its defaults, as an application uses it. Arguments: port, RESP version.
const assert = require("node:assert/strict");
const { createClient } = require("redis");

async function main() {
  const [port, RESP] = process.argv.slice(2).map(Number);
  const client = createClient({ socket: { port }, RESP });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  assert.equal(await client.ping(), "PONG");
  await client.flushAll();
  assert.equal(await client.get("absent"), null);
  assert.equal(await client.set("s", "héllo"), "OK");
  for (let n = 0; n < 4; n++) assert.equal(await client.get("s"), "héllo");
  assert.equal(await client.set("ttl", "x", { EX: 100 }), "OK");
  assert.ok((await client.ttl("ttl")) > 90);
  assert.equal(await client.hSet("h", { f: "1", g: "2" }), 2);
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { f: "1", g: "2" });
  assert.equal(await client.zAdd("z", { value: "a", score: 1.5 }), 1);
  assert.equal(await client.zScore("z", "a"), 1.5);
  assert.deepEqual(await client.mGet(["s", "absent"]), ["héllo", null]);
  await assert.rejects(client.lPush("s", "1"), /WRONGTYPE/);
  await assert.rejects(client.sendCommand(["NOSUCH"]), /unknown command/);

  // Commands of one tick leave as one pipeline: 1000 of them.
  const many = Array.from({ length: 1000 }, (_, n) => n);
  await Promise.all(many.map((n) => client.set(`k${n}`, `${n}`)));
  for (let round = 0; round < 3; round++) {
    const values = await Promise.all(many.map((n) => client.get(`k${n}`)));
    values.forEach((value, n) => assert.equal(value, `${n}`));
  }
  const keys = new Set();
  for await (const page of client.scanIterator({ MATCH: "k*" })) [page].flat().forEach((k) => keys.add(k));
  assert.equal(keys.size, 1000);

  const other = createClient({ url: `redis://127.0.0.1:${port}/2`, name: "other", RESP });
  await other.connect();
  assert.equal(await other.clientGetName(), "other");
  assert.equal(await other.get("s"), null);
  await Promise.all([client.close(), other.close()]);
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
