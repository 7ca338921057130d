"""Django's caches (its own Redis backend and django-redis) and its sessions. Argument: port."""

import sys

import django
from django.conf import settings

port = int(sys.argv[1])
settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port}/1",
        },
        "more": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port}/2",
            "KEY_PREFIX": "site",
        },
        "sessions": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port}/3",
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
        },
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    SESSION_CACHE_ALIAS="sessions",
    SECRET_KEY="of a test",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import caches  # noqa: E402

from until import LONG, fails  # noqa: E402


def everyday(cache):
    cache.clear()
    assert cache.get("absent") is None and cache.get("absent", "else") == "else"
    cache.set("user", {"name": "Zoë", "roles": [1, 2]}, timeout=60)
    for _ in range(5):
        assert cache.get("user") == {"name": "Zoë", "roles": [1, 2]}
    assert cache.add("once", 1) and not cache.add("once", 2) and cache.get("once") == 1
    cache.set("count", 5)
    assert cache.incr("count") == 6 and cache.decr("count", 4) == 2 and cache.get("count") == 2
    with fails(ValueError):
        cache.incr("absent")
    cache.set_many({f"k{n}": n for n in range(100)}, timeout=100)
    for _ in range(3):
        found = cache.get_many([f"k{n}" for n in range(110)])
        assert found == {f"k{n}": n for n in range(100)}
    assert cache.touch("k1", 200) and not cache.touch("absent")
    assert cache.has_key("k1") and "k1" in cache and "absent" not in cache
    assert cache.delete("k1") and not cache.delete("k1") and cache.get("k1") is None
    cache.delete_many([f"k{n}" for n in range(50)])
    assert len(cache.get_many([f"k{n}" for n in range(100)])) == 50
    assert cache.get_or_set("made", lambda: "by me", 10) == "by me" == cache.get("made")
    cache.set("versioned", "one", version=1)
    assert cache.incr_version("versioned") == 2
    assert cache.get("versioned") is None and cache.get("versioned", version=2) == "one"
    cache.set("gone", 1, timeout=0)
    assert cache.get("gone") is None


def only_django_redis(cache):
    cache.set("kept", 1, timeout=200)
    assert 0 < cache.ttl("kept") <= 200 and cache.persist("kept") and cache.ttl("kept") is None
    assert cache.expire("kept", 100) and 0 < cache.pttl("kept") <= 100_000
    assert cache.set("nx", 1, nx=True) and not cache.set("nx", 2, nx=True)
    cache.set_many({f"page:{n}": n for n in range(30)})
    assert set(cache.keys("page:1?")) == {f"page:1{n}" for n in range(10)}
    assert len(list(cache.iter_keys("page:*"))) == 30
    assert cache.delete_pattern("page:*") == 30 and not cache.keys("page:*")
    with cache.lock("lock", timeout=LONG):
        assert not cache.lock("lock", timeout=LONG).acquire(blocking=False)
    cache.set("big", 2**40)
    assert cache.incr("big", 2**41) == 2**40 + 2**41


def sessions():
    session = SessionStore()
    session["cart"] = ["apple"]
    session.create()
    key = session.session_key
    for _ in range(4):
        assert SessionStore(key)["cart"] == ["apple"]
    again = SessionStore(key)
    again["cart"] = ["apple", "pear"]
    again.save()
    assert SessionStore(key)["cart"] == ["apple", "pear"]
    again.cycle_key()
    assert not SessionStore().exists(key)
    assert SessionStore(again.session_key)["cart"] == ["apple", "pear"]
    again.flush()
    assert again.session_key is None and SessionStore(key).get("cart") is None


everyday(caches["default"])
everyday(caches["more"])
only_django_redis(caches["more"])
sessions()

# Clearing one database leaves the others.
caches["default"].set("stays", 1)
caches["more"].clear()
assert caches["default"].get("stays") == 1 and caches["more"].get("kept") is None
print("ok")
