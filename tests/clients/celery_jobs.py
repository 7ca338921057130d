"""Celery with broker and results behind the same port: a worker process with two children, jobs
alone, in groups, chains and chords, delayed ones, ones that fail and try again, and remote control.
Arguments: port, the version of keys in force. With one, a single script is refused, by which kombu
cleans up after queues that nobody reads any more: the worker logs the remedy, and works on."""

import hashlib
import os
import sys
import time

from celery import Celery, chain, chord, group
from kombu.transport.redis import SWEEP_BINDINGS

from until import LONG, fails, running, until

port = int(os.environ.get("JOBS_PORT") or sys.argv[1])
app = Celery(
    "celery_jobs",
    broker=f"redis://127.0.0.1:{port}/0",
    backend=f"redis://127.0.0.1:{port}/1",
)
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_extended=True,
    task_track_started=True,
    worker_hijack_root_logger=False,
)


@app.task
def add(a, b):
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def breaks():
    raise ValueError("as it should")


@app.task(bind=True, max_retries=5)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def when():
    return time.time()


def jobs():
    assert add.delay(40, 2).get(timeout=LONG) == 42
    results = [add.delay(n, n) for n in range(50)]
    assert [result.get(timeout=LONG) for result in results] == [2 * n for n in range(50)]
    assert all(result.state == "SUCCESS" for result in results)
    together = group(add.s(n, 1) for n in range(20))()
    assert together.get(timeout=LONG) == list(range(1, 21))
    assert chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=LONG) == 10
    assert chord((add.s(n, n) for n in range(20)), total.s())().get(timeout=LONG) == 380

    broken = breaks.delay()
    with fails(ValueError, "as it should"):
        broken.get(timeout=LONG)
    assert broken.state == "FAILURE" and "ValueError" in broken.traceback
    assert third_time.delay().get(timeout=LONG) == 2

    begun = time.time()
    assert when.apply_async(countdown=1).get(timeout=LONG) >= begun + 1
    assert add.apply_async((1, 1), priority=9).get(timeout=LONG) == 2
    result = add.delay(1, 1)
    result.get(timeout=LONG)
    result.forget()
    assert result.state == "PENDING"


def controlled():
    """Remote control goes by pub/sub, its answers by lists."""
    (name,) = (name for answer in app.control.ping(timeout=LONG, limit=1) for name in answer)
    inspect = app.control.inspect([name], timeout=LONG, limit=1)
    assert "celery_jobs.add" in inspect.registered()[name]
    assert inspect.stats()[name]["total"]["celery_jobs.add"] >= 70
    late = add.apply_async((1, 1), countdown=600)
    until("the worker holds it", lambda: inspect.scheduled()[name])
    assert app.control.revoke(late.id, reply=True, timeout=LONG, limit=1)[0][name]["ok"]
    assert late.id in inspect.revoked()[name]
    add.apply_async((1, 1), queue="unread")
    with app.connection_for_write() as connection:
        assert connection.default_channel.queue_purge("unread") == 1


def main():
    version = sys.argv[2]
    words = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker", "-c", "2", "-l", "info"]
    with running(words, JOBS_PORT=str(port)) as (worker, said):
        jobs()
        controlled()
        app.control.shutdown()
        assert worker.wait(timeout=LONG) == 0
        errors = [line for line in said().splitlines() if line.startswith("redis.exceptions")]
        errors = [line for line in errors if "NoScriptError" not in line]
        sweep = hashlib.sha1(SWEEP_BINDINGS.encode()).hexdigest()
        assert all(sweep in line and "scripts.allow" in line for line in errors), errors
        assert bool(errors) == bool(version)
    print("ok")


if __name__ == "__main__":
    main()
