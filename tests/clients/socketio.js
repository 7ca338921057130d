// Two socket.io servers that know of each other by pub/sub only, through both adapters: the plain
// one (with patterns) and the sharded one. Argument: port.
const assert = require("node:assert/strict");
const { createServer } = require("node:http");
const { once } = require("node:events");
const { createAdapter, createShardedAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");
const Redis = require("ioredis");
const { Server } = require("socket.io");
const connect = require("socket.io-client");
const { Heard, run, until } = require("./waiting");

async function scene(makeAdapter, connections) {
  const servers = [];
  for (let n = 0; n < 2; n++) {
    const http = createServer().listen(0, "127.0.0.1");
    await once(http, "listening");
    const io = new Server(http, { adapter: await makeAdapter(), serveClient: false });
    io.on("connection", (socket) => {
      socket.on("join", async (room, done) => done(await socket.join(room)));
      socket.on("say", (room, words) => socket.to(room).emit("said", words));
    });
    io.on("ask", (question, answer) => answer(`${question} ${n}`));
    servers.push({ io, url: `http://127.0.0.1:${http.address().port}` });
  }
  const clients = await Promise.all(
    [0, 0, 1, 1].map(async (n) => {
      const socket = connect(servers[n].url, { transports: ["websocket"], forceNew: true });
      const heard = new Heard();
      socket.on("said", heard.push);
      await once(socket, "connect");
      return { socket, heard };
    }),
  );
  const [first, second] = servers.map(({ io }) => io);

  // Each server counts the others by PUBSUB NUMSUB, and asks them.
  await until("all four", async () => (await first.fetchSockets()).length === 4);
  await Promise.all(clients.map(({ socket }) => socket.emitWithAck("join", "room")));
  assert.equal((await second.in("room").fetchSockets()).length, 4);

  first.emit("said", "to all");
  for (const { heard } of clients) assert.deepEqual(await heard.take(1), [["to all"]]);
  clients[0].socket.emit("say", "room", "to the others");
  for (const { heard } of clients.slice(1))
    assert.deepEqual(await heard.take(1), [["to the others"]]);
  for (let n = 0; n < 100; n++) first.to("room").emit("said", n);
  for (const { heard } of clients)
    assert.deepEqual(
      await heard.take(100),
      Array.from({ length: 100 }, (_, n) => [`${n}`]),
    );
  second.to(clients[0].socket.id).emit("said", "to one");
  assert.deepEqual(await clients[0].heard.take(1), [["to one"]]);

  assert.deepEqual(await first.serverSideEmitWithAck("ask", "who"), ["who 1"]);
  first.in("room").socketsLeave("room");
  await until(
    "the room is empty",
    async () => (await second.in("room").fetchSockets()).length === 0,
  );
  first.disconnectSockets();
  await until("all have left", () => clients.every(({ socket }) => socket.disconnected));
  assert.ok(clients.every(({ heard }) => heard.all.length === 0));
  clients.forEach(({ socket }) => socket.close());
  await Promise.all(servers.map(({ io }) => io.close()));
  await Promise.all(connections().map((connection) => connection.quit()));
}

run(async (port) => {
  let opened = [];
  const plain = async () => {
    const pub = new Redis(port);
    const sub = pub.duplicate();
    opened.push(pub, sub);
    return createAdapter(pub, sub);
  };
  await scene(plain, () => opened);
  opened = [];
  const sharded = async () => {
    const pub = await createClient({ socket: { port } }).connect();
    const sub = await pub.duplicate().connect();
    opened.push(pub, sub);
    return createShardedAdapter(pub, sub);
  };
  await scene(sharded, () => opened);
});
