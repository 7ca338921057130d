"""redis-py's asyncio client: transactions, blocking pops, pub/sub, locks, scripts and a consumer
group, all at the same time on one loop. Arguments: port, protocol (2 or 3)."""

import asyncio
import sys

import redis.asyncio as redis
from redis.exceptions import WatchError

from until import LONG, fails

port, protocol = int(sys.argv[1]), int(sys.argv[2])


async def until(what, found):
    """Asks until `found` answers something true."""
    async with asyncio.timeout(LONG):
        while not (answer := await found()):
            await asyncio.sleep(0.005)  # Only spares the processor.
        return answer


async def is_waiting(client, command, count=1):
    clients = await client.client_list()
    return sum(c["cmd"] == command and "b" in c["flags"] for c in clients) == count


async def transactions(client):
    async def one(me):
        async with client.pipeline() as pipe:
            for number in range(50):
                pipe.set(f"t{me}", number).get(f"t{me}").incr("count")
            answers = await pipe.execute()
        assert [answers[3 * n + 1] for n in range(50)] == [str(n) for n in range(50)]
        # Nobody came between.
        counts = answers[2::3]
        assert counts == list(range(counts[0], counts[0] + 50)), counts

    await asyncio.gather(*(one(me) for me in range(10)))
    assert await client.get("count") == "500"

    async def add(pipe):
        value = int(await pipe.get("sum") or 0)
        pipe.multi()
        pipe.set("sum", value + 1)

    await asyncio.gather(*(client.transaction(add, "sum") for _ in range(10)))
    assert await client.get("sum") == "10"
    async with client.pipeline() as pipe:
        await pipe.watch("sum")
        await client.incr("sum")
        pipe.multi()
        pipe.get("sum")
        with fails(WatchError):
            await pipe.execute()


async def jobs(client):
    """Workers that wait, each for its share; then one that is cancelled loses nothing."""
    done = []

    async def work():
        while (await asyncio.wait_for(client.blpop(["stop", "jobs"], timeout=LONG), LONG))[
            0
        ] != "stop":
            done.append(1)

    workers = [asyncio.create_task(work()) for _ in range(5)]
    await until("five wait", lambda: is_waiting(client, "blpop", 5))
    await client.rpush("jobs", *range(100))

    async def are_done():
        return len(done) == 100

    await until("all jobs done", are_done)
    await client.rpush("stop", *range(5))
    await asyncio.gather(*workers)
    assert await client.llen("jobs") == 0

    task = asyncio.create_task(client.blpop("jobs", timeout=LONG))
    await until("one waits", lambda: is_waiting(client, "blpop"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until("it is gone", lambda: is_waiting(client, "blpop", 0))
    await client.rpush("jobs", "kept")
    assert await client.lpop("jobs") == "kept"


async def published(client):
    async def listen(ready):
        async with client.pubsub(ignore_subscribe_messages=True) as sub:
            await sub.subscribe("room")
            await sub.psubscribe("ro*m")
            ready.set()
            got = []
            async for message in sub.listen():
                if message["data"] == "end":
                    return got
                if message["type"] == "message":
                    got.append(message["data"])

    ready = [asyncio.Event() for _ in range(4)]
    listeners = [asyncio.create_task(listen(event)) for event in ready]
    await asyncio.gather(*(event.wait() for event in ready))

    async def all_hear():
        return (
            await client.pubsub_numsub("room") == [("room", 4)]
            and await client.pubsub_numpat() == 1
        )

    await until("all listen", all_hear)
    for number in range(100):
        assert await client.publish("room", number) == 8
    await client.publish("room", "end")
    for got in await asyncio.wait_for(asyncio.gather(*listeners), LONG):
        assert got == [str(n) for n in range(100)], got


async def locked(client):
    async def turn():
        async with client.lock("turn", timeout=LONG, sleep=0.001):
            await client.set("turns", int(await client.get("turns") or 0) + 1)

    await asyncio.gather(*(turn() for _ in range(20)))
    assert await client.get("turns") == "20"


async def scripted(client):
    push = client.register_script("return redis.call('RPUSH', KEYS[1], unpack(ARGV))")
    assert await push(keys=["pushed"], args=["a", "b"]) == 2
    async with client.pipeline() as pipe:
        await push(keys=["pushed"], args=["c"], client=pipe)
        pipe.lrange("pushed", 0, -1)
        assert await pipe.execute() == [3, ["a", "b", "c"]]


async def grouped(client):
    """Three consumers share a stream; every entry is delivered and acknowledged once."""
    await client.xgroup_create("s", "g", mkstream=True)
    seen = []

    async def consume(me):
        while len(seen) < 60:
            reply = await client.xreadgroup("g", me, {"s": ">"}, count=3, block=200)
            for _, entries in dict(reply).items() if reply else []:
                for number, fields in entries[0] if protocol == 3 else entries:
                    assert await client.xack("s", "g", number) == 1
                    seen.append(int(fields["n"]))

    consumers = [asyncio.create_task(consume(f"c{n}")) for n in range(3)]
    await asyncio.gather(*(client.xadd("s", {"n": n}) for n in range(60)))
    await asyncio.wait_for(asyncio.gather(*consumers), LONG)
    assert sorted(seen) == list(range(60)), seen
    assert (await client.xpending("s", "g"))["pending"] == 0


async def main():
    settings = {"decode_responses": True, "max_connections": 500, "socket_timeout": 2 * LONG}
    async with redis.Redis(port=port, protocol=protocol, **settings) as client:
        await client.flushall()
        parts = transactions, jobs, published, locked, scripted, grouped
        await asyncio.gather(*(part(client) for part in parts))
    print("ok")


asyncio.run(main())
