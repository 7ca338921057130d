// BullMQ, a worker and a producer with their defaults, through an outage. Arguments: port, folder.
const { Queue, QueueEvents, Worker } = require("bullmq");
const { Done, play, report } = require("./outages");
const { LONG } = require("./waiting");

report(async (port, folder) => {
  const [connection, done] = [{ port }, new Done(folder)];
  const queue = new Queue("jobs", { connection });
  const events = new QueueEvents("jobs", { connection });
  const patient = { port, maxRetriesPerRequest: null }; // As BullMQ demands it of workers.
  const worker = new Worker("jobs", (job) => done.work(job.name), { connection: patient });
  // They tell of each broken connection, and go on.
  for (const one of [queue, events, worker]) one.on("error", () => {});
  let last;
  const figures = await play(async (name) => (last = await queue.add(name, {})), done);
  await last.waitUntilFinished(events, LONG);
  await Promise.all([worker.close(), events.close()]);
  await queue.close();
  return figures;
});
