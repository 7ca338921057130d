// BullMQ: a queue, a worker, events, a delayed job, one that fails and is tried again, a flow.
// Its scripts build the names of keys, so with a version of keys in force the first one that would
// write is refused. Arguments: port, the version in force.
const assert = require("node:assert/strict");
const { FlowProducer, Job, Queue, QueueEvents, UnrecoverableError, Worker } = require("bullmq");
const Redis = require("ioredis");
const { LONG, run, until } = require("./waiting");

async function refused(connection) {
  const queue = new Queue("jobs", { connection });
  const redis = new Redis(connection);
  const script = require("bullmq/dist/cjs/scripts").addStandardJob.content;
  const sha = require("node:crypto").createHash("sha1").update(script).digest("hex");
  const error = await queue.add("one", {}).then(
    () => assert.fail("not refused"),
    (error) => error,
  );
  for (const word of [sha, "scripts.allow", "keys.version"])
    assert.ok(error.message.includes(word), error.message);
  // Nothing is half done, and the connection goes on.
  assert.deepEqual(await redis.keys("bull:*"), ["bull:jobs:meta"]);
  assert.match((await queue.add("two", {}).catch((error) => error)).message, /scripts\.allow/);
  await Promise.all([queue.close(), redis.quit()]);
}

async function works(connection) {
  const queue = new Queue("jobs", { connection });
  const events = new QueueEvents("jobs", { connection });
  const heard = { completed: [], failed: [], delayed: [], progress: [] };
  for (const name in heard) events.on(name, (said) => heard[name].push(said.jobId));
  await events.waitUntilReady();
  const worker = new Worker(
    "jobs",
    async (job) => {
      if (job.name === "sum") return job.data.numbers.reduce((a, b) => a + b);
      if (job.name === "second" && job.attemptsMade === 0) throw new Error("not yet");
      if (job.name === "broken") throw new UnrecoverableError("as it should");
      await job.updateProgress(50);
      return { late: Date.now() };
    },
    { connection, concurrency: 4 },
  );
  const errors = [];
  worker.on("error", (error) => errors.push(error));

  const add = (name, data, options) => queue.add(name, data, options);
  const done = (job) => job.waitUntilFinished(events, LONG);
  assert.equal(await done(await add("sum", { numbers: [40, 2] })), 42);
  const many = await queue.addBulk(
    Array.from({ length: 50 }, (_, n) => ({ name: "sum", data: { numbers: [n, n] } })),
  );
  assert.deepEqual(
    await Promise.all(many.map(done)),
    many.map((_, n) => 2 * n),
  );

  const begun = Date.now();
  const late = await add("late", {}, { delay: 300 });
  assert.equal(await late.getState(), "delayed");
  assert.ok((await done(late)).late >= begun + 300);
  await done(await add("second", {}, { attempts: 3, backoff: { type: "fixed", delay: 10 } }));
  await assert.rejects(done(await add("broken", {})), /as it should/);
  await done(await add("sum", { numbers: [1] }, { priority: 3, jobId: "mine" }));

  // A parent waits for its children.
  const flow = new FlowProducer({ connection });
  const child = (n) => ({ name: "sum", queueName: "jobs", data: { numbers: [n] } });
  const tree = await flow.add({
    name: "sum",
    queueName: "jobs",
    data: { numbers: [7] },
    children: [1, 2, 3].map(child),
  });
  assert.equal(await done(tree.job), 7);
  assert.deepEqual(Object.values(await tree.job.getChildrenValues()).sort(), [1, 2, 3]);

  const counts = await queue.getJobCounts("completed", "failed", "wait", "active", "delayed");
  assert.deepEqual(counts, { completed: 58, failed: 1, wait: 0, active: 0, delayed: 0 });
  assert.equal((await Job.fromId(queue, "mine")).returnvalue, 1);
  await until("all events", () => heard.completed.length === 58 && heard.failed.length === 1);
  assert.ok(heard.delayed.includes(late.id) && heard.progress.includes(late.id));

  await queue.pause();
  await add("sum", { numbers: [1] });
  assert.equal(await queue.getWaitingCount(), 1);
  await queue.drain();
  await queue.obliterate();
  await Promise.all([worker.close(), flow.close(), events.close()]);
  await queue.close();
  assert.deepEqual(errors, []);
}

run(async (port, version) => {
  const connection = { port, maxRetriesPerRequest: null };
  await (version ? refused : works)(connection);
});
