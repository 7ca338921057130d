"""redis-py with its defaults through an outage. Says "failed" when it sees it, and "working" and
what the key `old` holds when it works (again); ends, with "ok", when its input ends. Argument: port.
"""

import sys
import threading

import redis

client = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
stopping = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stopping.set()), daemon=True).start()
state = "starting"
while not stopping.is_set():
    try:
        client.set("new", 1)
        assert client.get("new") == "1"
        old = client.get("old")
        if state != "working":
            print("working", old, flush=True)
        state = "working"
    except redis.ConnectionError:
        if state == "working":
            print("failed", flush=True)
        state = "failed"
print("ok")
