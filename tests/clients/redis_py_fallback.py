# redis-py while its server is gone: what is written is read, and a transaction is one.
import sys

import redis

r = redis.Redis(port=int(sys.argv[1]), protocol=int(sys.argv[2]), decode_responses=True)
assert r.ping()
assert r.set("session:1", "alice", ex=3600)
assert r.get("session:1") == "alice"
assert 3500 < r.ttl("session:1") <= 3600
assert r.get("never") is None
r.hset("user:1", mapping={"name": "Alice", "age": "30"})
assert r.hgetall("user:1") == {"name": "Alice", "age": "30"}
r.rpush("queue", *[str(n) for n in range(600)])
assert r.llen("queue") == 600
r.zadd("scores", {"a": 1.5, "b": -2})
r.sadd("tags", "x", "y")
with r.pipeline(transaction=True) as pipe:
    pipe.set("counter", 5).incr("counter").expire("counter", 60)
    assert pipe.execute() == [True, 6, True]
r.delete("old")
other = redis.Redis(port=int(sys.argv[1]), db=3, decode_responses=True)
assert other.set("elsewhere", "1")
try:
    r.flushall()
    raise AssertionError("FLUSHALL was taken")
except redis.ResponseError as error:
    assert "flushes nothing" in str(error), error
print("ok")
