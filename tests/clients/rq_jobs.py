"""rq: a worker process with its scheduler, jobs alone and after others, one delayed, one that fails
and is tried again, one that is stopped, results by a blocking read. Arguments: port, the version of
keys in force (rq empties a queue by a script that builds names, which a version refuses)."""

import os
import sys
import time
from datetime import timedelta

import redis
from redis.exceptions import ResponseError
from rq import Queue, Retry
from rq.command import send_stop_job_command
from rq.job import JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry
from rq.worker import Worker

from until import LONG, fails, running, until


def add(a, b):
    return a + b


def breaks():
    raise ValueError("as it should")


def second_time(key):
    connection = redis.Redis(port=int(os.environ["JOBS_PORT"]))
    if connection.incr(key) < 2:
        raise ValueError("not yet")
    return "at last"


def lasts():
    time.sleep(LONG)


def result(job):
    """What the job returned; rq reads a stream and waits."""
    found = job.latest_result(timeout=LONG)
    assert found is not None, job
    return found


def jobs(queue, connection):
    assert result(queue.enqueue("rq_jobs.add", 40, 2)).return_value == 42
    many = queue.enqueue_many([Queue.prepare_data("rq_jobs.add", (n, n)) for n in range(8)])
    after = queue.enqueue("rq_jobs.add", 1, 1, depends_on=many)
    assert [result(job).return_value for job in many] == [2 * n for n in range(8)]
    assert result(after).return_value == 2
    late = queue.enqueue_in(timedelta(seconds=1), "rq_jobs.add", 3, 4)
    assert late.id in ScheduledJobRegistry(queue=queue)

    broken = queue.enqueue("rq_jobs.breaks")
    failure = result(broken)
    assert failure.type == failure.Type.FAILED and "as it should" in failure.exc_string
    until("it is failed", lambda: broken.id in FailedJobRegistry(queue=queue))
    again = queue.enqueue("rq_jobs.second_time", "tries", retry=Retry(max=3))
    until("tried again", lambda: again.get_status() == JobStatus.FINISHED)
    assert again.return_value(refresh=True) == "at last"

    long = queue.enqueue("rq_jobs.lasts", job_timeout=600)
    until("it runs", lambda: long.get_status() == JobStatus.STARTED)
    (worker,) = Worker.all(connection)
    until("the worker has it", lambda: worker.get_current_job_id() == long.id)
    send_stop_job_command(connection, long.id)
    until("it is stopped", lambda: long.get_status() == JobStatus.STOPPED)
    assert result(late).return_value == 7
    assert many[0].id in FinishedJobRegistry(queue=queue)


def emptied(connection, version):
    """A script of rq's own, which builds the names of what it deletes."""
    unread = Queue("unread", connection=connection)
    made = [unread.enqueue("rq_jobs.add", n, n) for n in range(5)]
    assert unread.count == 5 and unread.get_job_ids() == [job.id for job in made]
    if version:
        with fails(ResponseError, "scripts.allow", "keys.version"):
            unread.empty()
        assert unread.count == 5 and all(connection.exists(job.key) for job in made)
        unread.delete(delete_jobs=False)
    else:
        assert unread.empty() == 5
        assert unread.count == 0 and not any(connection.exists(job.key) for job in made)


def main():
    port, version = int(sys.argv[1]), sys.argv[2]
    url = f"redis://127.0.0.1:{port}"
    here = os.path.dirname(os.path.abspath(__file__))
    words = [sys.executable, "-m", "rq.cli", "worker", "--url", url, "--with-scheduler", "work"]
    with running(words, JOBS_PORT=str(port), PYTHONPATH=here) as (worker, said):
        connection = redis.Redis.from_url(url, socket_timeout=2 * LONG)
        jobs(Queue("work", connection=connection), connection)
        emptied(connection, version)
        # rq ends by an exception out of its signal handler. In the middle of a transaction that
        # leaves replies unread on a connection that is used again, on any server.
        blocked = lambda: [one for one in connection.client_list() if "b" in one["flags"]]
        until("the worker waits for jobs", blocked)
        worker.terminate()
        assert worker.wait(timeout=LONG) == 0 and "redis.exceptions" not in said()
        assert Worker.count(connection) == 0
    print("ok")


if __name__ == "__main__":
    main()
