"""rq: a worker process and a producer, through an outage. Arguments: port, folder.

The job that is being done ends afterwards: whose job ends while the server is away, that worker
ends with it, direct, too."""

import os
import sys

import redis
from rq import Queue

from outages import Done, play, report
from until import LONG, running, until


def work(job):
    Done(os.environ["JOBS_FOLDER"]).work(job)
    return job


def main():
    port, folder = sys.argv[1:3]
    url = f"redis://127.0.0.1:{port}"
    here = os.path.dirname(os.path.abspath(__file__))
    words = [sys.executable, "-m", "rq.cli", "worker", "--url", url, "work"]
    with running(words, JOBS_FOLDER=folder, PYTHONPATH=here) as (worker, said):
        queue = Queue("work", connection=redis.Redis.from_url(url))
        jobs, done = {}, Done(folder)

        def enqueue(job):
            jobs[job] = queue.enqueue("rq_outages.work", job)

        producer = play(enqueue, done, gate="afterwards")
        last = producer.acknowledged[-1]
        until("its result is kept", lambda: jobs[last].return_value(refresh=True) == last)
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(timeout=LONG) == 0
    report(producer, done)


if __name__ == "__main__":
    main()
