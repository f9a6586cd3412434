"""People who use the demo at once: what each of them asks for, and what came back how soon."""

import collections
import contextlib
import http.client
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from killing import HERE, ROOT

KINDS = ("page", "models", "samples", "map", "map of an upload")
"""What most users ask for, one after the other."""
HEAVY = ("SmoothGrad of an upload", "agreement")
"""What the first users ask for, and nothing else."""
REST = ["pred", "logit", "gradient", "max", "shared", 1.0, 99.0, 60.0]


def memory_mb(pid="self"):
    """Return what a process holds in memory now, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def growth(counts, series):
    """Return how much memory grows per thousand of what was counted: the slope of a line through the last two thirds.

    The line is that of Theil and Sen, the median of the slopes between all pairs, which a reading or two that are out
    of line (a garbage collection, a buffer that was enlarged) do not move.
    """
    begun = len(series) // 3
    counts, series = np.asarray(counts[begun:], float), np.asarray(series[begun:], float)
    first, second = np.triu_indices(len(counts), 1)
    apart = counts[second] > counts[first]
    slopes = (series[second] - series[first])[apart] / (counts[second] - counts[first])[apart]
    return 1000 * float(np.median(slopes))


@contextlib.contextmanager
def asking(address, path, body=None, kind="application/json", source="127.0.0.1"):
    """Send a request from an address of this machine, and give its answer to read."""
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=300, source_address=(source, 0))
    try:
        connection.request("GET" if body is None else "POST", path, content, {"Content-Type": kind} if content else {})
        yield connection.getresponse()
    finally:
        connection.close()


def request(address, path, body=None, kind="application/json", source="127.0.0.1"):
    """Send a request and return all of its answer."""
    with asking(address, path, body, kind, source) as answer:
        content = answer.read()
    if answer.status != 200:
        raise OSError(f"{path}: {answer.status} {content[:200]!r}")
    return content


def call(address, name, *values, source="127.0.0.1"):
    """Ask an endpoint and wait for its answer."""
    event = json.loads(request(address, f"/gradio_api/call/{name}", {"data": list(values)}, source=source))["event_id"]
    said = request(address, f"/gradio_api/call/{name}/{event}", source=source).decode()
    if "event: complete" not in said:
        raise ValueError(f"{name}: {said[-200:]}")
    return said


def upload(address, png, source="127.0.0.1"):
    """Send a picture as a browser does; return what /compare takes."""
    boundary = "cvx-boundary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    body, kind = head + png + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
    (path,) = json.loads(request(address, "/gradio_api/upload", body, kind, source))
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


class Users:
    """Users in threads, each with an address of their own and one question after another."""

    def __init__(self, address, models, dataset, picture, num, num_heavy):
        self.address, self.models, self.dataset, self.picture = address, models, dataset, picture
        self.num, self.num_heavy, self.errors = num, num_heavy, []
        self.took = [collections.defaultdict(list) for _ in range(num)]
        """By user and kind of question: how long each answer took, in seconds."""

    def run(self, seconds):
        """Let all of them ask until the time is over."""
        deadline = time.monotonic() + seconds
        threads = [threading.Thread(target=self._one, args=(i, deadline)) for i in range(self.num)]
        for thread in threads:
            thread.start()
        return threads

    def warm_up(self):
        """Ask for one thing of each kind, so that what is loaded once is loaded."""
        for kind in (*KINDS, *HEAVY):
            self.ask(kind, np.random.default_rng(0), "127.0.0.1")
        call(self.address, "agreement", self.models, 400, "", "")  # the largest

    def answers(self, number):
        """Count what a user got."""
        return sum(map(len, self.took[number].values()))

    def of(self, kind):
        """Return how long the answers of a kind took, of all users, in order."""
        return np.sort([seconds for took in self.took for seconds in took.get(kind, ())])

    def _one(self, number, deadline):
        random, kinds = np.random.default_rng(number), HEAVY if number < self.num_heavy else KINDS
        for kind in itertools.islice(itertools.cycle(kinds), number, None):  # of each kind as much, not begun together
            if time.monotonic() > deadline:
                return
            begun = time.monotonic()
            try:
                self.ask(kind, random, f"127.0.1.{number + 1}")
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                self.errors.append(f"user {number}, {kind}: {type(error).__name__}: {error}")
            self.took[number][kind].append(time.monotonic() - begun)

    def ask(self, kind, random, source):
        """Ask for something of a kind, from an address."""
        some = list(random.choice(self.models, int(random.integers(1, 3)), replace=False))
        match kind:
            case "page":
                request(self.address, "/", source=source)
            case "models":
                call(self.address, "models", source=source)
            case "samples":
                call(self.address, "samples", self.dataset, "", int(random.integers(10)), 20, source=source)
            case "map":
                sample = f"{self.dataset}:{random.integers(400)}"
                call(self.address, "compare", some, sample, None, *REST, source=source)
            case "map of an upload":
                own = upload(self.address, self.picture(random), source)
                call(self.address, "compare", some, "", own, *REST, source=source)
            case "SmoothGrad of an upload":
                own = upload(self.address, self.picture(random), source)
                rest = ["pred", "logit", "smoothgrad", *REST[3:]]
                call(self.address, "compare", self.models, "", own, *rest, source=source)
            case "agreement":  # of another number of images each time, so that nothing of it is kept
                call(self.address, "agreement", self.models, int(random.integers(50, 400)), "", "", source=source)


def run(script, root, *more):
    """Run a script in a process of its own, and return what it said."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(HERE), str(root), *more]
    ended = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
