"""redis-py with its defaults, by which a command that failed is tried again, through an outage:
commands alone and in transactions, and a client that blocks. What counts as done is what stands in
the list. Arguments: port, folder (not used)."""

import collections
import itertools
import sys
import threading

import redis

from outages import play, report
from until import LONG


class Listed:
    """The jobs are elements: done when they are written. None waits for a gate."""

    def __init__(self, client):
        self.client = client

    def counts(self):
        return collections.Counter(["begun", *self.client.lrange("jobs", 0, -1)])

    def open_gate(self):
        pass


def waits_for_one(client, taken):
    """As consumers do: again after an error."""
    while not taken:
        try:
            taken.extend(client.blpop("gifts", 0))
        except redis.ConnectionError:
            pass


def main():
    port = int(sys.argv[1])
    client = redis.Redis(port=port, decode_responses=True)
    patient = redis.Redis(port=port, decode_responses=True, socket_timeout=None)
    taken, numbers = [], itertools.count()
    consumer = threading.Thread(target=waits_for_one, args=(patient, taken), daemon=True)
    consumer.start()

    def enqueue(job):
        if next(numbers) % 2:
            with client.pipeline() as pipe:
                pipe.rpush("jobs", job).incr("transactions").execute()
        else:
            client.rpush("jobs", job)

    done = Listed(client)
    producer = play(enqueue, done, gate="meanwhile")
    client.rpush("gifts", "one")
    consumer.join(LONG)
    assert taken == ["gifts", "one"], taken
    report(producer, done)


if __name__ == "__main__":
    main()
