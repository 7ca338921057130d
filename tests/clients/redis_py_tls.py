"""redis-py by TLS, as an application uses it. Arguments: port, CA, certificate, key."""

import sys
import threading

import redis

port, ca, cert, key = sys.argv[1:]


def client(**more):
    url = f"rediss://127.0.0.1:{port}"
    return redis.from_url(url, ssl_ca_certs=ca, ssl_certfile=cert, ssl_keyfile=key, **more)


for protocol in (2, 3):
    one = client(protocol=protocol, decode_responses=True)
    assert one.ping()
    big = "x" * (1 << 19)
    assert one.set("big", big) is True
    for _ in range(4):
        assert one.get("big") == big
    with one.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.set(f"k{number}", number)
        assert all(pipe.execute())
    with one.pipeline(transaction=True) as pipe:
        pipe.incr("n")
        pipe.get("k7")
        assert pipe.execute()[1] == "7"
    listener = one.pubsub()
    listener.subscribe("news")
    assert listener.get_message(timeout=30)["type"] == "subscribe"
    assert one.publish("news", "hello") == 1
    assert listener.get_message(timeout=30)["data"] == "hello"
    listener.close()
    assert one.blpop("absent", 0.01) is None

    def read():
        for _ in range(100):
            assert one.get("big") == big

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.delete("n")
    one.close()
try:
    redis.from_url(f"rediss://127.0.0.1:{port}").ping()
    raise AssertionError("an unknown authority was trusted")
except redis.ConnectionError:
    pass
print("ok")
