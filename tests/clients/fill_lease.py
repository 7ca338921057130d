"""README's get_or_compute: cache-aside without a stampede. Arguments: the ports of two proxies."""

import sys
import threading

import redis

# README: begin
def get_or_compute(cache, key, compute, seconds):
    while True:
        value, token, state = cache.execute_command("PROXY", "LEASE", "GET", key, 5000)
        if value is not None:
            return value
        if token is None:  # "held": somebody has been at it for these 5 s; wait on
            continue
        try:
            value = compute()
        except BaseException:
            cache.execute_command("PROXY", "LEASE", "DROP", key, token)
            raise
        # None: the key was changed or deleted meanwhile. The value is good for this caller.
        cache.execute_command("PROXY", "LEASE", "SET", key, token, value, "EX", seconds)
        return value
# README: end


ports = [int(port) for port in sys.argv[1:3]]
caches = [redis.Redis(port=port) for port in ports]
THREADS = 50
computed, got = [], []
gate = threading.Barrier(THREADS)


def compute():
    computed.append(1)
    return b"42"


def client(number):
    cache = redis.Redis(port=ports[number % 2])
    gate.wait()
    got.append(get_or_compute(cache, "answer", compute, 60))


threads = [threading.Thread(target=client, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert got == [b"42"] * THREADS, got
assert len(computed) == 1, computed
assert 0 < caches[0].ttl("answer") <= 60


class Failed(Exception):
    pass


def fail():
    raise Failed


try:
    get_or_compute(caches[0], "broken", fail, 60)
    raise AssertionError("it has failed")
except Failed:
    pass
# It was given back: the next one may try.
assert get_or_compute(caches[1], "broken", lambda: b"mended", 60) == b"mended"


def outdated():
    caches[1].delete("price")
    return b"old"


assert get_or_compute(caches[0], "price", outdated, 60) == b"old"
assert caches[0].get("price") is None
print("ok")
