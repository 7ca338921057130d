// ioredis and node-redis by TLS, as an application uses them. Arguments: port, CA, certificate, key.
const assert = require("node:assert/strict");
const { readFileSync } = require("node:fs");
const Redis = require("ioredis");
const { createClient } = require("redis");

async function main() {
  const [port, ...files] = process.argv.slice(2);
  const [ca, cert, key] = files.map((file) => readFileSync(file));
  const big = "x".repeat(1 << 19);

  const one = new Redis(`rediss://127.0.0.1:${port}`, { tls: { ca, cert, key } });
  assert.equal(await one.set("big", big), "OK");
  for (let n = 0; n < 4; n++) assert.equal(await one.get("big"), big);
  const pipe = one.pipeline();
  for (let n = 0; n < 1000; n++) pipe.incr("n");
  assert.equal((await pipe.exec()).at(-1)[1], 1000);
  await one.quit();

  const socket = { tls: true, host: "127.0.0.1", port: Number(port), ca, cert, key };
  const two = createClient({ socket });
  two.on("error", (error) => {
    throw error;
  });
  await two.connect();
  const many = Array.from({ length: 1000 }, (_, n) => n);
  assert.ok((await Promise.all(many.map(() => two.get("big")))).every((value) => value === big));
  await two.close();
  console.log("ok");
}

main();
