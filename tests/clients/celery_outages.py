"""Celery with broker and results behind the same port: a worker process and a producer, through an
outage. Arguments: port, folder.

The worker fetches no job before it can run it (worker_disable_prefetch). With its default, jobs
that it holds when the connection breaks are lost for an hour (the broker's visibility_timeout),
direct, too; and direct the worker may end by an AttributeError of kombu's, which cannot put them
back."""

import os
import sys

from celery import Celery

from outages import Done, play, report
from until import LONG, running

port = int(os.environ.get("JOBS_PORT") or sys.argv[1])
done = Done(os.environ.get("JOBS_FOLDER") or sys.argv[2])
app = Celery(
    "celery_outages",
    broker=f"redis://127.0.0.1:{port}/0",
    backend=f"redis://127.0.0.1:{port}/1",
)
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_disable_prefetch=True,
    worker_hijack_root_logger=False,
)


@app.task
def work(job):
    done.work(job)
    return job


def main():
    words = [sys.executable, "-m", "celery", "-A", "celery_outages", "worker", "-c", "1"]
    env = dict(JOBS_PORT=str(port), JOBS_FOLDER=sys.argv[2])
    with running(words, **env) as (worker, said):
        results = {}

        def enqueue(job):
            results[job] = work.delay(job)

        producer = play(enqueue, done, gate="meanwhile")
        last = producer.acknowledged[-1]
        assert results[last].get(timeout=LONG) == last
        assert worker.poll() is None
        app.control.shutdown()
        assert worker.wait(timeout=LONG) == 0
    report(producer, done)


if __name__ == "__main__":
    main()
