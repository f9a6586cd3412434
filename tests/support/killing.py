"""Processes that are killed at random moments, and what must be true of the store after every kill."""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np

from cvx.store import Store
from cvx.store.checkpoint import load
from cvx.store.maintenance import examine
from cvx.store.runs import Run, list_runs

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROUNDS = int(os.environ.get("CVX_KILLS", "3"))
"""Kills of each test; `make test-long` asks for hundreds."""
LONGEST_S = 300 + 120 * ROUNDS
"""What a test may take: the machine may be busy."""
TRAIN = (
    "--dataset=digits", "--model=resnet10t", "--stem=timm", "--epochs=3", "--batch_size=64", "--lr=0.003",
    "--warmup_epochs=0.5", "--mixup=0.2", "--ema=0.9", "--precision=fp32", "--device=cpu",
)  # fmt: skip

CHECKPOINT = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from small_store import add_model, make_splits
from cvx.store import Store
torch.set_num_threads(1)
splits = make_splits("tiles", 40, 16, 3, True)
print("ready", flush=True)
for seed in range(10_000):
    Store(sys.argv[1]).add_samples(splits)
    add_model(Store(sys.argv[1]), splits, "vit_mini", seed=seed, **{"val/acc1": (seed % 7) / 7})
"""
STATE = """
import sys, torch
from pathlib import Path
from cvx.training.saved_state import save_state
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.ones(1, 300)).sum().backward()
optimizer.step()
print("ready", flush=True)
for step in range(10**9):
    torch.nn.init.constant_(model.weight, step)
    save_state(Path(sys.argv[1]) / "state.safetensors", {"model": model}, optimizer, {"step": step})
"""
MATERIALIZE = """
import sys
from pathlib import Path
from cvx import data
print("ready", flush=True)
data.load(sys.argv[2], Path(sys.argv[1]))
print("done", flush=True)
"""


STARTED = []
"""The processes of the test that runs; `conftest.py` ends them with it, so that a test that fails disturbs no other."""


class Forked:
    """A process forked from one that has imported what is slow to import; used as `subprocess.Popen` is."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["cvx.training.loop", "cvx.cli", "cvx.models.predict", "timm", "cvx.store.maintenance"]
    )

    def __init__(self, arguments, environ):
        reading, writing = self.context.Pipe(duplex=False)
        self._process = self.context.Process(target=_become, args=(arguments, environ, writing))
        self._process.start()
        writing.close()
        self.stdout = os.fdopen(os.dup(reading.fileno()), encoding="utf-8", errors="replace")
        self.pid = self._process.pid
        reading.close()

    @property
    def returncode(self):
        """Return how it ended, None while it runs."""
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout=None):
        """Wait until it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("python", timeout)

    def kill(self):
        """Send SIGKILL."""
        self._process.kill()

    def end(self):
        """Leave nothing of it behind, however far it is."""
        self._process.kill()
        self._process.join()
        self.stdout.close()

    def communicate(self, timeout=None):
        """Read to the end, wait, and return what was said."""
        said = []
        reader = threading.Thread(target=lambda: said.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired("python", timeout)
        self.stdout.close()
        self.wait(timeout)
        return said[0], None


def _become(arguments, environ, writing):
    """Run as `python -c CODE …` or `python -m MODULE …` would, and say all that is said into a pipe."""
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(ROOT)
    os.dup2(writing.fileno(), 1)
    os.dup2(writing.fileno(), 2)
    writing.close()
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb"]:
        del sys.modules[name]  # it makes a folder for media as it is imported, which every process needs for itself
    kind, what, *rest = arguments
    sys.argv = [kind if kind == "-c" else what, *rest]
    try:
        if kind == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()


def start(*arguments, **environ):
    """Start a Python process that lives on its own."""
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):  # what it is forked from is started by the first
        STARTED.append(Forked([str(one) for one in arguments], {**os.environ, **environ}))
    return STARTED[-1]


def kill_after(process, seconds):
    """Kill a process with SIGKILL after some seconds, if it lives so long; return whether it did."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def kill_when_ready(process, seconds):
    """Kill a process some seconds after it said `ready`."""
    assert process.stdout.readline().strip() == "ready", process.communicate()
    return kill_after(process, seconds)


def assert_never_half_written(root):
    """Hold a store against the promise: each version is whole by its digest, each alias leads to one that loads."""
    if not root.is_dir():
        return
    found = [one for one in examine(root) if one.level == "problem"]
    assert found == [], found
    store = Store(root)
    for entry in store.models():
        if entry.aliases:
            load(entry.folder)
        assert entry.folder.name == f"v{entry.version}"
    for run in list_runs(root):
        run.rows(), run.summary, run.config


def train_with_kills(root, data_root, random, num_kills, longest_s):
    """Train one run to its end over many kills; return its name and how many kills met it alive."""
    where = [f"--artifacts={root}", f"--data={data_root}"]
    kills, deadline = 0, time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        resumable = [
            run for run in list_runs(root) if run.summary is None and (run.folder / "state/state.safetensors").is_file()
        ]
        done = [run for run in list_runs(root) if run.summary is not None]
        if done:
            return done[0].name, kills
        flags = [f"--resume={resumable[0].name}"] if resumable else TRAIN
        process = start("-m", "cvx", "train", *flags, *where)
        if kills >= num_kills:
            said, _ = process.communicate(timeout=600)
            assert process.returncode == 0, said
            continue
        kills += kill_after(process, float(random.uniform(0, longest_s)))
        assert process.returncode in (0, -signal.SIGKILL), process.returncode
        assert_never_half_written(root)
    raise TimeoutError(f"{LONGEST_S} s were not enough")


def differences(one, other):
    """Name the rows and arrays in which two runs' records are not the same, bit by bit."""
    (rows, arrays), (other_rows, other_arrays) = timeless(one), timeless(other)
    names = [name for name in {**arrays, **other_arrays} if arrays.get(name) != other_arrays.get(name)]
    return names + ([] if rows == other_rows else ["metrics.jsonl"])


def timeless(folder):
    """Return what a run recorded, without what depends on the clock."""
    rows = [{k: v for k, v in row.items() if not k.startswith("time")} for row in Run(folder).rows()]
    arrays = {}
    for path in sorted(folder.glob("*/*.npz")):
        with np.load(path) as stored:
            arrays |= {f"{path.parent.name}/{path.name}/{key}": stored[key].tobytes() for key in stored.files}
    return rows, arrays
