// What the node clients share: waiting for what must come, within a deadline.
const LONG = 30_000; // Far more than any step needs: a limit of the tests, not a measure.

// Asks until `found` answers something true.
async function until(what, found) {
  for (const deadline = Date.now() + LONG; Date.now() < deadline;) {
    const answer = await found();
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 5)); // Only spares the processor.
  }
  throw new Error(`not seen in ${LONG} ms: ${what}`);
}

// The next `count` of what a listener hears; `heard.push` is the listener.
class Heard {
  all = [];
  push = (...said) => this.all.push(said.map(String));
  async take(count) {
    await until(
      `${count} messages, so far ${JSON.stringify(this.all)}`,
      () => this.all.length >= count,
    );
    return this.all.splice(0, count);
  }
}

// Runs a script's main to its end: "ok", or the error and a failing exit.
function run(main) {
  main(Number(process.argv[2]), ...process.argv.slice(3)).then(
    () => {
      console.log("ok");
      process.exit(0);
    },
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { LONG, Heard, run, until };
