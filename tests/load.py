"""People who use the demo at once: what each of them asks for, and what came back how soon."""

import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np


def memory_mb(pid="self"):
    """Return what a process holds in memory now, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def is_flat(series, mb, share=0.05):
    """Tell whether a series of memory readings grew by no more than stated between its second and its last quarter."""
    quarter = len(series) // 4
    early, late = np.median(series[quarter : 2 * quarter]), np.median(series[-quarter:])
    return late - early <= mb + share * early


def request(address, path, body=None, kind="application/json"):
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = urllib.request.Request(f"{address}{path}", content, {"Content-Type": kind} if body is not None else {})
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return answer.read()


def call(address, name, *values):
    """Ask an endpoint and wait for its answer."""
    event = json.loads(request(address, f"/gradio_api/call/{name}", {"data": list(values)}))["event_id"]
    said = request(address, f"/gradio_api/call/{name}/{event}").decode()
    if "event: complete" not in said:
        raise ValueError(f"{name}: {said[-200:]}")
    return said


def upload(address, png):
    """Send a picture as a browser does; return what /compare takes."""
    boundary = "cvx-boundary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    body = head + png + f"\r\n--{boundary}--\r\n".encode()
    (path,) = json.loads(request(address, "/gradio_api/upload", body, f"multipart/form-data; boundary={boundary}"))
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


class Users:
    """Users in threads, each asking for one thing after another; the first asks for what takes longest."""

    def __init__(self, address, num, models, sample, picture):
        self.models, self.sample, self.picture = models, sample, picture
        self.address, self.errors, self.answers = address, [], [[] for _ in range(num)]

    def run(self, seconds):
        """Let all of them ask until the time is over."""
        deadline = time.monotonic() + seconds
        threads = [threading.Thread(target=self._one, args=(i, deadline)) for i in range(len(self.answers))]
        for thread in threads:
            thread.start()
        return threads

    def warm_up(self):
        """Ask for one thing of each kind, so that what is loaded once is loaded."""
        for kind in (None, *range(5)):
            self._ask(kind, np.random.default_rng(0))

    def _one(self, number, deadline):
        random = np.random.default_rng(number)
        while time.monotonic() < deadline:
            begun = time.monotonic()
            try:
                self._ask(int(random.integers(6)) if number else None, random)
            except (OSError, ValueError, KeyError, urllib.error.HTTPError) as error:
                self.errors.append(f"user {number}: {type(error).__name__}: {error}")
            self.answers[number].append(time.monotonic() - begun)

    def _ask(self, kind, random):
        """Ask for something of a kind; None is what takes longest."""
        some = list(random.choice(self.models, int(random.integers(1, 3)), replace=False))
        sample = f"{self.sample}:{random.integers(40)}"
        rest = ["pred", "logit", "gradient", "max", "shared", 1.0, 99.0, 60.0]
        match kind:
            case None:
                call(self.address, "compare", some, sample, None, "pred", "logit", "smoothgrad", *rest[3:])
            case 0:
                request(self.address, "/")
            case 1:
                call(self.address, "models")
            case 2:
                call(self.address, "samples", self.sample, "", int(random.integers(10)), 20)
            case 3:
                call(self.address, "compare", some, "", upload(self.address, self.picture), *rest)
            case _:
                call(self.address, "compare", some, sample, None, *rest)
