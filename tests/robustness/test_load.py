"""The demo under load: no error, flat memory, and nobody starves.

A few users for some seconds here; `make test-long` lets 50 of them ask for five minutes (`tests/long`).
"""

import io
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from killing import HERE, ROOT
from load import HEAVY, KINDS, Users, growth, memory_mb
from PIL import Image

NUM_USERS = int(os.environ.get("CVX_USERS", "8"))
NUM_HEAVY = max(2, NUM_USERS // 10)
"""Users who ask for what takes longest, again and again."""
SECONDS = float(os.environ.get("CVX_LOAD_S", "8"))
MODELS = ["tiles-resnet10t", "tiles-vit_tiny"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
pytest_plugins = ["many_tiles"]


SERVE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from demo.backend import service
from demo.app import build, launch
service.ModelService.__init__.__defaults__ = (2**31, 2**18)  # what is kept of results is full at once, and grows no more
_, address, _ = launch(build(sys.argv[2]), prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
print(address.rstrip("/"), flush=True)
sys.stdin.read()
"""


@contextmanager
def serving(root):
    """Serve a store in a process of its own, which keeps few results; give its address and number."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(HERE), str(root)], env=environ, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.kill()
        process.communicate()


def picture(random):
    """Draw a picture that nobody has uploaded before."""
    content = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (20, 16, 3), dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def test_many_users_at_once_meet_no_error_and_nobody_starves(many_tiles, record_property):
    counts, memory = [], []
    with serving(many_tiles.root) as (address, pid):
        users = Users(address, MODELS, "tiles", picture, NUM_USERS, NUM_HEAVY)
        users.warm_up()
        threads = users.run(SECONDS)
        while any(thread.is_alive() for thread in threads):
            counts.append(sum(map(users.answers, range(NUM_USERS))))
            memory.append(memory_mb(pid))
            time.sleep(SECONDS / 100)
    tell(record_property, users, counts, memory)
    assert users.errors == []
    for group in (range(NUM_HEAVY), range(NUM_HEAVY, NUM_USERS)):
        answers = [users.answers(number) for number in group]
        assert min(answers) >= np.median(answers) / 2 - 1, answers
    assert np.quantile(users.of("page"), 0.95) <= np.median(users.of(HEAVY[0])), "opening waits for no map"
    assert growth(counts, memory) <= bound(counts), memory


def bound(counts):
    """Return what memory may grow by, in MB per 1,000 answers.

    2 KB an answer, a fifth of the smallest that could be kept by mistake, its JSON; and what allocator and threads
    take once and do not give back, whatever was asked for how often: most of that in the first minute.
    """
    once = 64 if SECONDS >= 100 else 200
    return 2 + once / max(0.001, (counts[-1] - counts[len(counts) // 3]) / 1000)


def tell(record_property, users, counts, memory):
    """Write down what was measured."""
    record_property("users, of them heavy, seconds", f"{NUM_USERS}, {NUM_HEAVY}, {SECONDS:g}")
    record_property("answers, errors", f"{counts[-1]}, {len(users.errors)}")
    for kind in (*KINDS, *HEAVY):
        took = users.of(kind)
        seconds = " ".join(f"{np.quantile(took, q):.2f}" for q in (0.5, 0.95, 1.0))
        record_property(f"{kind}: answers; median, p95, slowest, s", f"{len(took)}; {seconds}")
    few = [sorted(users.answers(i) for i in group) for group in (range(NUM_HEAVY), range(NUM_HEAVY, NUM_USERS))]
    record_property("answers of the last and of the median: heavy users", f"{few[0][0]}, {np.median(few[0]):g}")
    record_property("answers of the last and of the median: others", f"{few[1][0]}, {np.median(few[1]):g}")
    third = len(memory) // 3
    record_property("memory after a third and at the end, MB", f"{memory[third]:.0f} {memory[-1]:.0f}")
    record_property("memory, MB per 1,000 answers", f"{growth(counts, memory):.2f}, allowed {bound(counts):.1f}")
