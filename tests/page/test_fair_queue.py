"""The demo's queue: visitors are answered in turn, and who hangs up frees what they asked for."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from killing import ROOT
from load import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
pytest_plugins = ["many_tiles"]


ASIDE = """
import json, sys, threading, time
sys.path.insert(0, sys.argv[1])
from cvx import comparison
from cvx.maps import explanation
from demo.serving import fair_queue
from demo.app import build, launch
from load import REST, asking, call, request

blocks = build(sys.argv[2])
_, address, _ = launch(blocks, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
address = address.rstrip("/")
both = ["tiles-resnet10t", "tiles-vit_tiny"]
SMOOTH = ["pred", "logit", "smoothgrad", *REST[3:]]

def until(true):
    deadline = time.monotonic() + 100
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)

def number(name):
    (index,) = [index for index, fn in blocks.fns.items() if name in (getattr(fn.fn, "__qualname__", ""), fn.api_name)][:1]
    return index

def ask(name, values, session):
    body = {"data": values, "fn_index": number(name), "session_hash": session}
    request(address, "/gradio_api/queue/join", body)

def hang_up(session):
    with asking(address, f"/gradio_api/queue/data?session_hash={session}") as stream:
        stream.read(10)

class Gate:
    "Stops whoever comes to a function, until it is opened."
    def __init__(self, owner, name, when=lambda *asked, **named: True):
        self.came, self.open, real = [], threading.Event(), getattr(owner, name)
        def gated(*asked, **named):
            if when(*asked, **named):
                self.came.append(asked)
                assert self.open.wait(100)
            return real(*asked, **named)
        setattr(owner, name, gated)

"""
BESIDE = """
call(address, "compare", both, "tiles:0", None, *REST)
map_, matrix = Gate(explanation, "explain_images", lambda *asked, **named: asked[-1] == "smoothgrad"), Gate(comparison, "agreement")
ask("compare", [both, "tiles:1", None, *SMOOTH], "heavy")
ask("agreement", [both, 20, "", ""], "heavy")
until(lambda: map_.came and matrix.came)
request(address, "/")
call(address, "models")
call(address, "samples", "tiles", "", 0, 5)
call(address, "compare", both, "tiles:0", None, *REST)
print("page, lists and a map seen before")
map_.open.set()
call(address, "compare", both, "tiles:2", None, *REST)
print("a map beside a matrix", not matrix.open.is_set())
matrix.open.set()
until(lambda: not any(blocks._queue.active_jobs))
blocks.close(verbose=False)
"""


def test_light_questions_are_answered_while_heavy_ones_are_at_work(many_tiles):
    said = run(ASIDE + BESIDE, many_tiles.root)
    assert said.splitlines() == ["page, lists and a map seen before", "a map beside a matrix True"]


OPENED = """
for component in blocks.blocks.values():
    component.preprocess = lambda payload: payload  # choices are filled in when a page is opened
matrix, asked = Gate(comparison, "agreement"), ["tiles", ["resnet10t", "vit_tiny"], "spearman", "all", 20]
filled = [index for index, fn in blocks.fns.items() if getattr((getattr(fn.fn, "args", ()) or (None,))[0], "name", "") == "agreement"]
blocks.fns[filled[0]].inputs[0].value = "agreement"  # the tab that is open
print("opened, gone back to, refreshed, news", len(filled))
for visitor in range(fair_queue.MAX_CONCURRENT):
    body = {"data": [None, None, *asked], "fn_index": filled[visitor % len(filled)], "session_hash": f"page {visitor}"}
    request(address, "/gradio_api/queue/join", body)
until(lambda: matrix.came and len(blocks._queue) == fair_queue.MAX_CONCURRENT - 1)
call(address, "compare", both, "tiles:0", None, *REST)
print("a map beside them", not matrix.open.is_set())
matrix.open.set()
until(lambda: not (len(blocks._queue) or any(blocks._queue.active_jobs)))
blocks.close(verbose=False)
"""


def test_pages_that_open_with_a_matrix_of_agreement_hold_back_no_map(many_tiles):
    said = run(ASIDE + OPENED, many_tiles.root).splitlines()
    assert said == ["opened, gone back to, refreshed, news 4", "a map beside them True"]


IN_TURN = """
order, explain = [], explanation.explain_images
def noting(*asked, **named):
    order.append(asked[3].tobytes())
    return explain(*asked, **named)
explanation.explain_images = noting
gate = Gate(explanation, "explain_images")
for row in range(20):
    ask("compare", [both[:1], f"tiles:{row}", None, *REST], "much")
until(lambda: gate.came)
for name in ("a", "b", "c"):
    ask("compare", [both[:1], f"tiles:{100 + ord(name)}", None, *REST], name)
until(lambda: len(blocks._queue) == 19)
gate.open.set()
until(lambda: len(order) == 23)
images = {row: samples[row][None].tobytes() for row in range(20)}
print([order.index(one) for one in order if one not in images.values()])
blocks.close(verbose=False)
"""


def test_who_asks_for_much_is_answered_in_turn_with_the_others(many_tiles):
    samples = "from cvx.store import Store\nsamples = Store(sys.argv[2]).samples('tiles').split.images\n"
    said = run(ASIDE + samples + IN_TURN, many_tiles.root)
    assert max(json.loads(said)) <= 4, "behind the one at work and at most one more"


IN_A_FULL_QUEUE = """
gate = Gate(comparison, "agreement")
for num in range(20, 28):
    ask("agreement", [both, num, "", ""], "much")
until(lambda: gate.came)
ask("agreement", [both, 50, "", ""], "other")
until(lambda: len(blocks._queue) == 8)
gate.open.set()
until(lambda: len(gate.came) == 9)
print([asked[2].num for asked in gate.came].index(50))
until(lambda: not any(blocks._queue.active_jobs))
blocks.close(verbose=False)
"""


def test_who_asks_for_much_where_one_is_answered_at_a_time_waits_behind_the_others(many_tiles):
    assert int(run(ASIDE + IN_A_FULL_QUEUE, many_tiles.root)) <= 2, "behind the one at work and at most one more"


SLOW = """
import socket
fair_queue.UNREAD_S = 0.5
host, port = address.removeprefix("http://").split(":")
lazy = []
for number in range(60):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    one.connect((host, int(port)))
    if number % 3 == 0:
        one.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")  # a page that is never read
    elif number % 3 == 1:
        head = b"POST /gradio_api/upload HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 999999\\r\\n"
        one.sendall(head + b"Content-Type: multipart/form-data; boundary=b\\r\\n\\r\\n--b\\r\\n")  # and no more
    else:
        body = {"data": [both, f"tiles:{number}", None, *REST]}
        event = json.loads(request(address, "/gradio_api/call/compare", body))["event_id"]
        one.sendall(f"GET /gradio_api/call/compare/{event} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    lazy.append(one)
request(address, "/")
call(address, "samples", "tiles", "", 0, 5)
call(address, "compare", both, "tiles:1", None, *REST)
print("answered")
for one in lazy:
    one.close()
for row in range(5):
    request(address, "/gradio_api/call/compare", {"data": [both, f"tiles:{row}", None, *REST]})
until(lambda: not (blocks._queue.pending_messages_per_session or blocks._queue.pending_event_ids_session))
print("forgotten")
blocks.close(verbose=False)
"""


def test_who_reads_slowly_or_never_keeps_nobody_from_an_answer(many_tiles):
    assert run(ASIDE + SLOW, many_tiles.root).splitlines() == ["answered", "forgotten"]


HANGING_UP = """
gate = Gate(explanation, "explain_images")
for row in range(12):
    ask("compare", [both[1:], f"tiles:{row}", None, *REST], "gone")
until(lambda: gate.came)
print("waiting", len(blocks._queue))
hang_up("gone")
until(lambda: not len(blocks._queue))
print("waiting", len(blocks._queue))
gate.open.set()
until(lambda: not any(blocks._queue.active_jobs))
print("looked", len(gate.came))
"""


def test_who_hangs_up_frees_what_waits_for_them(many_tiles):
    said = run(ASIDE + HANGING_UP + "blocks.close(verbose=False)", many_tiles.root)
    assert said.splitlines() == ["waiting 11", "waiting 0", "looked 1"], "only what was at work already"


STOPPING = """
from cvx import cancellation
from cvx.models import predict
from demo.state.selection import Pick

explanation.PIXELS, predict.MAX_BATCH_SIZE_CPU = 16 * 16 * 2, 2  # so that even few small images have many parts
for component in blocks.blocks.values():
    component.preprocess = lambda payload: payload  # choices are filled in when a page is opened
blocks.fns[number("CompareTab.draw")].inputs[0].value = {"tiles": Pick(which="wrong")}
QUESTIONS = {
    "compare": [both, "tiles:300", None, *SMOOTH],
    "agreement": [both, 200, "", ""],
    "ClassesTab.draw": ["tiles", "red", ["resnet10t"], 50, "max", "logit", "gradient"],
    "CompareTab.draw": [None, None, ["tiles"], ["resnet10t"], "samples", "", "pred", "logit", "gradient", "max", "each", 1, 99, 60],
}
check = cancellation.check
for name, values in QUESTIONS.items():
    parts, go_on = [], threading.Event()
    def counting():
        parts.append(name)
        assert len(parts) != 4 or go_on.wait(100)
        check()
    cancellation.check = counting
    ask(name, values, name)
    until(lambda: len(parts) == 4)
    (job,) = [job for job in blocks._queue.active_jobs if job]
    hang_up(name)
    until(lambda: not job[0].alive)
    go_on.set()
    until(lambda: not any(blocks._queue.active_jobs))
    print(name, len(parts))
blocks.close(verbose=False)
"""


def test_work_for_who_has_hung_up_ends_at_its_next_part(many_tiles):
    said = run(ASIDE + STOPPING, many_tiles.root).splitlines()
    # the fourth part saw it, of ten and more; where several answer for themselves, the next sees it in its first
    counts = {name: int(count) for name, count in map(str.split, said)}
    assert list(counts) == ["compare", "agreement", "ClassesTab.draw", "CompareTab.draw"]
    # and before the model itself is taken in place of its faster copy, it is looked at once more
    assert set(counts.values()) <= {4, 5, 6}, counts


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_page_ends_without_a_traceback(many_tiles, times):
    command = [sys.executable, str(ROOT / "demo" / "app.py"), f"--artifacts={many_tiles.root}", "--port=0"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as page:
        assert any("http://127.0.0.1" in line for line in page.stdout)
        time.sleep(1)  # Gradio waits for a signal from then on
        for _ in range(times):
            page.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        said, _ = page.communicate(timeout=60)
    assert page.returncode in (0, 130) and "Traceback" not in said, said
