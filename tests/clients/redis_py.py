"""redis-py with its defaults, as an application uses it. Arguments: port, protocol (2 or 3)."""

import sys
import threading

import redis

port, protocol = int(sys.argv[1]), int(sys.argv[2])


def everyday(client):
    assert client.ping()
    client.flushall()
    assert client.get("absent") is None
    assert client.set("s", "héllo") is True
    assert client.get("s") == "héllo"
    assert client.set("s", "x", nx=True) is None
    assert client.incr("n") == 1
    assert client.incrbyfloat("f", 0.5) == 0.5
    assert client.mset({"a": "1", "b": "2"}) is True
    assert client.mget("a", "absent", "b") == ["1", None, "2"]
    assert client.exists("a", "b", "absent") == 2
    assert client.expire("a", 1000) is True
    assert 0 < client.ttl("a") <= 1000
    assert client.type("a") == "string"
    assert client.hset("h", mapping={"f": "1", "g": "2"}) == 2
    assert client.hgetall("h") == {"f": "1", "g": "2"}
    assert client.hmget("h", "f", "absent") == ["1", None]
    assert client.hincrby("h", "f", 2) == 3
    assert client.sadd("set", "a", "b") == 2
    assert client.smembers("set") == {"a", "b"}
    assert client.sismember("set", "a") == 1
    assert client.rpush("l", "a", "b", "c") == 3
    assert client.lrange("l", 0, -1) == ["a", "b", "c"]
    assert client.lpop("l", 2) == ["a", "b"]
    assert client.zadd("z", {"a": 1, "b": 2.5}) == 2
    assert client.zscore("z", "b") == 2.5
    pairs = client.zrange("z", 0, -1, withscores=True)
    assert [tuple(pair) for pair in pairs] == [("a", 1.0), ("b", 2.5)], pairs
    assert sorted(client.scan_iter("*")) == sorted(client.keys("*"))
    assert client.delete("a", "absent") == 1
    assert client.client_setname("everyday") is True
    assert client.client_getname() == "everyday"
    assert client.client_info()["name"] == "everyday"
    assert client.info("replication")["role"] == "master"
    assert client.dbsize() > 0
    assert client.echo("x") == "x"
    try:
        client.lpush("s", "x")
        raise AssertionError("no WRONGTYPE")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error), error
    try:
        client.execute_command("NOSUCH")
        raise AssertionError("no error")
    except redis.ResponseError as error:
        assert "unknown command" in str(error), error


def pipelined(client):
    pipe = client.pipeline(transaction=False)
    for number in range(500):
        pipe.set(f"p{number}", number)
        pipe.get(f"p{number}")
    answers = pipe.execute()
    assert answers == [x for number in range(500) for x in (True, str(number))]
    for _ in range(3):
        pipe = client.pipeline(transaction=False)
        for number in range(1000):
            pipe.get(f"p{number % 500}")
        assert pipe.execute() == [str(number % 500) for number in range(1000)]


def pooled(client):
    """Threads on one pool: nobody gets another's answer."""
    faults = []

    def run(me):
        try:
            for number in range(200):
                client.set(f"t{me}", f"{me}.{number}")
                for _ in range(3):
                    got = client.get(f"t{me}")
                    assert got == f"{me}.{number}", (me, number, got)
        except BaseException as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=run, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults


client = redis.Redis(port=port, protocol=protocol, decode_responses=True)
everyday(client)
pipelined(client)
pooled(client)

# A client with no arguments at all but the port, in another database, by URL, and by pool.
plain = redis.Redis(port=port)
assert plain.set("plain", b"\x00\xff") and plain.get("plain") == b"\x00\xff"
other = redis.Redis.from_url(f"redis://127.0.0.1:{port}/3?protocol={protocol}")
assert other.set("only3", 1) and other.get("only3") == b"1" and plain.get("only3") is None
pool = redis.ConnectionPool(port=port, max_connections=4, client_name="pooled", protocol=protocol)
for _ in range(3):
    assert redis.Redis(connection_pool=pool).client_getname() in ("pooled", b"pooled")
print("ok")
