"""What the Python clients share: waiting for what must come, errors that must, and programs that
run beside them."""

import contextlib
import os
import subprocess
import sys
import tempfile
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


@contextlib.contextmanager
def running(words, **env):
    """A program in this folder, and what it has said so far: shown if the block fails. It says it
    to a file: nobody reads while it runs, and a pipe that is full would stop it."""
    with tempfile.TemporaryFile("w+") as log:
        program = subprocess.Popen(
            words,
            cwd=os.path.dirname(os.path.abspath(__file__)),
            env={**os.environ, **env},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def said():
            log.seek(0)
            return log.read()

        try:
            yield program, said
        except BaseException:
            program.kill()
            program.wait()
            print(said(), file=sys.stderr)
            raise
