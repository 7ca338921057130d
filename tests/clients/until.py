"""What the Python clients share: waiting for what must come, and errors that must."""

import contextlib
import time

# Far more than any step needs: a limit of the tests, not a measure.
LONG = 30


def until(what, found):
    """Asks until `found` answers something true."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.005)  # Only spares the processor: what is awaited is asked for.
    raise AssertionError(f"not seen in {LONG} s: {what}")


@contextlib.contextmanager
def fails(kind, *words):
    """The block must fail so, and its message must hold these words."""
    try:
        yield
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{missing} not in: {error}"
        return
    raise AssertionError(f"no {kind.__name__}")
