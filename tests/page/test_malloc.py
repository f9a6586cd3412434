"""What answers of the demo freed goes back to the system."""

import queue
import threading
from types import SimpleNamespace

from demo.serving import malloc
from demo.serving.worker import SerialWorker


def test_what_the_last_answer_freed_is_given_back_though_nobody_asks_again(monkeypatch):
    answered, given_back = threading.Event(), queue.Queue()
    glibc = SimpleNamespace(malloc_trim=lambda pad: given_back.put(answered.is_set()))
    monkeypatch.setattr(malloc, "EVERY_S", 0.2)
    monkeypatch.setattr(malloc, "_glibc", lambda: glibc)
    turns = SerialWorker("looking")
    turns.do(lambda: None), turns.do(lambda: None)
    answered.set()
    while not given_back.get(timeout=10):
        pass
