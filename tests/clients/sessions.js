// express-session with connect-redis as its store, behind a bare HTTP server. Argument: port.
const assert = require("node:assert/strict");
const { createServer } = require("node:http");
const { once } = require("node:events");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");
const { run } = require("./waiting");

run(async (port) => {
  const client = await createClient({ socket: { port } }).connect();
  const store = new RedisStore({ client, prefix: "app:", ttl: 600 });
  const through = session({ store, secret: "of a test", resave: false, saveUninitialized: false });
  const pages = {
    "/visit": (request) => `${(request.session.visits = (request.session.visits ?? 0) + 1)}`,
    "/look": (request) => `${request.session.visits}`,
    "/leave": (request) => new Promise((resolve) => request.session.destroy(() => resolve("bye"))),
    "/fresh": (request) =>
      new Promise((resolve) =>
        request.session.regenerate(() => resolve(`${(request.session.visits = 100)}`)),
      ),
  };
  const server = createServer((request, response) =>
    through(request, response, async () => response.end(await pages[request.url](request))),
  ).listen(0, "127.0.0.1");
  await once(server, "listening");

  const visitor = () => {
    let cookie;
    return async (page) => {
      const headers = cookie ? { cookie } : {};
      const response = await fetch(`http://127.0.0.1:${server.address().port}${page}`, { headers });
      cookie = response.headers.get("set-cookie")?.split(";")[0] ?? cookie;
      return response.text();
    };
  };
  const [first, second] = [visitor(), visitor()];
  for (let n = 1; n <= 10; n++) assert.equal(await first("/visit"), `${n}`);
  assert.equal(await second("/visit"), "1");
  for (let n = 0; n < 10; n++) assert.equal(await first("/look"), "10");
  assert.equal((await store.ids()).length, 2);
  assert.equal(await store.length(), 2);
  assert.equal(await first("/fresh"), "100");
  assert.equal(await first("/visit"), "101");
  assert.equal((await store.all()).length, 2);
  assert.equal(await first("/leave"), "bye");
  assert.equal(await first("/look"), "undefined");
  assert.equal(await store.length(), 1);
  await store.clear();
  assert.equal(await second("/look"), "undefined");
  server.close();
  server.closeAllConnections();
  await client.close();
});
