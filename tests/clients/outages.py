"""What the Python clients share that live through an outage: the play, and its count.

tests/real/outages.rs directs the play by lines (">" leaves here, "<" comes):

    some jobs are done; one is being done and waits for its gate, others wait behind it
    > ready      < struck      the server is dead, or stands still
    a producer goes on for 4 s
    > enough     < back        the server goes on
    a job is acknowledged again, and all that were acknowledged are done
    > the figures, as JSON

What was done stands in a file, which no outage concerns. What the producer was told instead of an
acknowledgement is counted by its class.
"""

import collections
import json
import os
import sys
import threading
import time

from until import until

OUTAGE = 4  # s, at least. It is the bar's; no result depends on it.


class Done:
    """Which jobs were done: a line each in a file of this folder; and the gate of one of them."""

    def __init__(self, folder):
        self.file = os.path.join(folder, "done")
        self.gate = os.path.join(folder, "gate")

    def work(self, job):
        if job == "held":
            self.add("begun")
            until("the gate opens", lambda: os.path.exists(self.gate))
        self.add(job)

    def add(self, line):
        with open(self.file, "a") as file:
            file.write(f"{line}\n")

    def counts(self):
        if not os.path.exists(self.file):
            return collections.Counter()
        with open(self.file) as file:
            return collections.Counter(file.read().split())

    def open_gate(self):
        open(self.gate, "w").close()


class Producer:
    """Enqueues by `enqueue(job)`; remembers what was acknowledged, and what it was told instead."""

    def __init__(self, enqueue):
        self.enqueue = enqueue
        self.acknowledged, self.told, self.made = [], collections.Counter(), 0

    def offer(self, job=None):
        """True if it was acknowledged."""
        self.made += 1
        job = job or f"job{self.made}"
        try:
            self.enqueue(job)
        except Exception as error:
            self.told[type(error).__name__] += 1
            return False
        self.acknowledged.append(job)
        return True

    def offer_until(self, stopping):
        while not stopping.is_set():
            self.offer()
            stopping.wait(0.05)  # A pace.


def told_to_go_on(said, expected):
    print(said, flush=True)
    assert sys.stdin.readline().strip() == expected


def play(enqueue, done, gate):
    """Until every job that was acknowledged is done; the producer. `gate` says when the one ends
    that is being done: "meanwhile" or "afterwards"."""
    producer = Producer(enqueue)
    all_done = lambda: set(producer.acknowledged) <= set(done.counts())
    assert all(producer.offer() for _ in range(10)), producer.told
    until("the first jobs are done", all_done)
    assert producer.offer("held"), producer.told
    until("one is being done", lambda: "begun" in done.counts())
    assert all(producer.offer() for _ in range(5)), producer.told

    told_to_go_on("ready", "struck")
    stopping = threading.Event()
    producing = threading.Thread(target=producer.offer_until, args=(stopping,))
    producing.start()
    if gate == "meanwhile":
        done.open_gate()
    time.sleep(OUTAGE)
    told_to_go_on("enough", "back")
    done.open_gate()
    stopping.set()
    producing.join()
    until("a job is acknowledged again", producer.offer)
    until("all that was acknowledged is done", all_done)
    return producer


def report(producer, done):
    counts = done.counts()
    lost = sum(1 for job in producer.acknowledged if not counts[job])
    twice = sum(1 for job in producer.acknowledged if counts[job] > 1)
    told = sorted(producer.told)
    acknowledged = len(producer.acknowledged)
    print(json.dumps(dict(acknowledged=acknowledged, lost=lost, twice=twice, told=told)))
