"""The demo under load: no error, flat memory, nobody starves; who hangs up frees what waits for them.

A few users for some seconds here; `make test-long` lets 50 of them ask for five minutes (`tests/long`).
"""

import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from killing import HERE
from load import Users, is_flat, memory_mb
from PIL import Image
from small_store import make_store, serving

NUM_USERS = int(os.environ.get("CVX_USERS", "8"))
SECONDS = float(os.environ.get("CVX_LOAD_S", "8"))
TIMES = int(os.environ.get("CVX_REPEATS", "1"))
"""How many times as long the tests of leaks run as here; `make test-long` asks for 20."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("load") / "store")


def test_many_users_at_once_meet_no_error_and_nobody_starves(store, record_property):
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)).save(picture, "PNG")
    with serving(store.root) as (address, pid):
        users, memory = (
            Users(address, NUM_USERS, ["tiles-resnet10t", "tiles-vit_tiny"], "tiles", picture.getvalue()),
            [],
        )
        users.warm_up()
        threads = users.run(SECONDS)
        while any(thread.is_alive() for thread in threads):
            memory.append(memory_mb(pid))
            time.sleep(SECONDS / 40)
    took = np.sort([seconds for one in users.answers for seconds in one])
    others = [np.median(one) for one in users.answers[1:] if one]
    record_property("users, seconds", f"{NUM_USERS}, {SECONDS:g}")
    record_property("requests, errors", f"{len(took)}, {len(users.errors)}")
    record_property("median, p95, slowest, s", " ".join(f"{np.quantile(took, q):.2f}" for q in (0.5, 0.95, 1.0)))
    record_property("slow user's median, s", f"{np.median(users.answers[0]):.2f}")
    record_property(
        "memory after the first quarter and at the end, MB", f"{memory[len(memory) // 4]:.0f} {memory[-1]:.0f}"
    )
    assert users.errors == []
    assert len(others) == NUM_USERS - 1, "each of them was answered"
    assert is_flat(memory, mb=100), memory


HANGING_UP = """
import http.client, sys, threading, time
sys.path.insert(0, sys.argv[1])
from load import request
from demo.app import build, launch
from demo.shelf import Shelf

looked, first, go_on, look = [], threading.Event(), threading.Event(), Shelf.look

def slow(self, *asked):
    looked.append(asked)
    first.set()
    go_on.wait(100)
    return look(self, *asked)

Shelf.look = slow
blocks = build(sys.argv[2])
_, address, _ = launch(blocks, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
address = address.rstrip("/")
(index,) = [number for number, fn in blocks.fns.items() if fn.api_name == "compare"]
rest = [None, "pred", "logit", "gradient", "max", "shared", 1.0, 99.0, 60.0]
for row in range(12):
    body = {"data": [["tiles-vit_tiny"], f"tiles:{row}", *rest], "fn_index": index, "session_hash": "gone"}
    request(address, "/gradio_api/queue/join", body)
connection = http.client.HTTPConnection(address.removeprefix("http://"))
connection.request("GET", "/gradio_api/queue/data?session_hash=gone")
connection.getresponse().read(10)
assert first.wait(100)
print("waiting", len(blocks._queue))
connection.sock.close()
connection.close()
deadline = time.monotonic() + 60
while len(blocks._queue) and time.monotonic() < deadline:
    time.sleep(0.1)
print("waiting", len(blocks._queue))
go_on.set()
blocks.close(verbose=False)
print("looked", len(looked))
"""


def test_who_hangs_up_frees_what_waits_for_them(store):
    said = run(HANGING_UP, store.root)
    assert said.splitlines() == ["waiting 11", "waiting 0", "looked 1"], "only what was at work already"


def run(script, root, *more):
    """Run a script in a process of its own, and return what it said."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-c", script, str(HERE), str(root), *more]
    ended = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


LEAKS = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from pathlib import Path
from load import memory_mb
torch.set_num_threads(1)
root, times = Path(sys.argv[2]), int(sys.argv[3])

def repeated(num, work):
    series = []
    for i in range(num):
        work(i)
        if i % max(1, num // 40) == 0:
            series.append(round(memory_mb(), 1))
    print(series)

"""
MAPS = """
from cvx.attribution import vanilla_gradient
from cvx.store import Store
model, card = Store(root).resolve("tiles-resnet10t").load()
inputs, targets = torch.rand(4, 3, 16, 16), torch.arange(4)
repeated(500 * times, lambda i: vanilla_gradient(model, inputs, targets))
"""
MODELS = """
from demo.shelf import Shelf
shelf = Shelf(root, model_bytes=1, result_bytes=1)
entries = [entry for entry in shelf.store.models() if entry.card.dataset == "tiles"]
subject = shelf.listing().datasets["tiles"].subject(0)
repeated(40 * times if times == 1 else 10 * times, lambda i: shelf.look(entries[i % 2], subject, "pred", "logit", "gradient"))
"""
COMPARISONS = """
from demo import downloads, script
from demo.bounded import Bounded
from demo.choice import Choice
from demo.shelf import Shelf
downloads._kept = Bounded(2**20)
shelf, choice = Shelf(root, result_bytes=2**20), Choice(scale="each")
names = ["tiles-resnet10t", "tiles-vit_tiny"]
targets = ["pred", "red", "green", "blue", "gray"]
repeated(500 * times, lambda i: script.compare(shelf, names, f"tiles:{i % 40}", None, targets[i // 40 % 5], choice))
"""


@pytest.mark.parametrize(
    ("work", "mb"), [(MAPS, 12), (MODELS, 30), (COMPARISONS, 12)], ids=["maps", "models", "comparisons"]
)
def test_memory_stays_flat_however_often(store, record_property, work, mb):
    series = json.loads(run(LEAKS + work, store.root, str(TIMES)))
    record_property("memory after a quarter and at the end, MB", f"{series[len(series) // 4]:.0f} {series[-1]:.0f}")
    assert is_flat(series, mb, share=0.0), series
