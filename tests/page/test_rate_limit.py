"""A public demo answers as often, as much and as large as it is told, and says so to who asks for more."""

import asyncio
import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image
from small_store import add_model, make_splits, make_store, served

from cvx.store import Store
from demo.backend.catalog import QueryImage
from demo.backend.map_rows import explain_cell
from demo.backend.service import ModelService
from demo.serving import rate_limit
from demo.state.selection import Choice


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_visitor_has_a_burst_and_then_one_request_at_a_time_while_another_has_its_own():
    clock = Clock()
    buckets = rate_limit.Buckets(60, clock)
    assert [buckets.take("a") for _ in range(rate_limit.BURST)] == [0.0] * rate_limit.BURST
    assert buckets.take("a") == pytest.approx(1.0) and buckets.take("b") == 0.0
    clock.now = 0.75
    assert buckets.take("a") == pytest.approx(0.25)
    clock.now = 1.0
    assert buckets.take("a") == 0.0 and buckets.take("a") > 0


def test_a_visitor_who_rests_has_a_whole_burst_again_and_no_more():
    clock = Clock()
    buckets = rate_limit.Buckets(60, clock)
    for _ in range(rate_limit.BURST):
        buckets.take("a")
    clock.now = 1e6
    assert [buckets.take("a") for _ in range(rate_limit.BURST)] == [0.0] * rate_limit.BURST and buckets.take("a") > 0


def test_as_many_visitors_are_remembered_as_fit(monkeypatch):
    monkeypatch.setattr(rate_limit, "MAX_KNOWN", 5)
    buckets = rate_limit.Buckets(60, Clock())
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets) == 5


@pytest.mark.parametrize("per_minute", [-1, 1, rate_limit.MAX_WAITING - 1])
def test_a_limit_at_which_the_page_would_not_open_is_refused(per_minute):
    with pytest.raises(ValueError, match=f"--limit must be 0 .* got {per_minute}"):
        rate_limit.settings(per_minute)


def test_without_a_limit_nothing_stands_between_visitor_and_page():
    assert rate_limit.settings(0)["app_kwargs"] == {}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("limits") / "store")


def ask(address, name="models", values=()):
    body = json.dumps({"data": list(values)}).encode()
    request = urllib.request.Request(f"{address}/gradio_api/call/{name}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers


@pytest.mark.slow
def test_who_asks_too_often_is_told_when_to_ask_again_and_reading_goes_on(store):
    with served(store.root, "--limit=24") as address:
        answers = [ask(address)]
        while answers[-1][0] == 200 and len(answers) < 300:
            answers.append(ask(address))
        assert len(answers) > 24 and answers[-1][0] == 429
        _, said, headers = answers[-1]
        assert "24 requests a minute are allowed" in said["detail"] and 1 <= int(headers["Retry-After"]) <= 3
        with urllib.request.urlopen(address) as page:
            assert page.status == 200, "a page that is read makes nobody compute"


def refused(parts):
    """Ask more often than is allowed, in so many parts; return how many were heard when the answer began, and it."""
    heard, said = [], []

    async def receive():
        heard.append(parts[len(heard)])
        return {"type": "http.request", "body": heard[-1], "more_body": len(heard) < len(parts)}

    async def send(message):
        said.append((len(heard), message))

    async def page(scope, receive, send):
        pass

    limited = rate_limit.RateLimitMiddleware(page, per_minute=rate_limit.MAX_WAITING)
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/call/models", "client": ("192.0.2.1", 9)}
    while not said:
        asyncio.run(limited(scope, receive, send))
    return said[0][0], said[0][1]["status"]


def test_who_is_refused_is_heard_out_before_the_answer_unless_it_is_much():
    assert refused([b"a", b"b", b"c"]) == (3, 429)
    assert refused([bytes(rate_limit.MAX_DRAINED)] * 3) == (1, 429)


@pytest.mark.slow
def test_who_has_much_waiting_is_told_to_wait_for_it(store):
    values = [["tiles-resnet10t", "tiles-vit_tiny"], 40, "", ""]
    with served(store.root, "--limit=6000") as address:
        answers = [ask(address, "agreement", values) for _ in range(rate_limit.BURST)]
        said = [content["detail"] for code, content, _ in answers if code == 429]
        assert said and all("are still waiting" in one for one in said)
        codes = [code for code, _, _ in answers]
        assert rate_limit.MAX_WAITING <= codes.count(200) < rate_limit.BURST


def test_an_upload_with_too_many_pixels_is_refused_before_it_is_decoded(store, tmp_path):
    Image.new("1", (rate_limit.MAX_UPLOAD_PIXELS // 1000 + 1, 1000)).save(tmp_path / "wide.png")
    with pytest.raises(ValueError, match=r"50001 × 1000 pixels; at most 50,000,000"):
        ModelService(store.root).upload(tmp_path / "wide.png")


def test_a_model_of_enormous_pictures_is_an_error_in_its_cell_and_takes_no_memory(tmp_path):
    store, splits = Store(tmp_path / "store"), make_splits("tiles", 4, rate_limit.MAX_SIDE + 8, 3, False)
    entry = add_model(store, splits, "test_resnet")
    query = QueryImage("x", np.zeros((8, 8, 3), np.uint8), "x")
    cell = explain_cell(ModelService(store.root), "test_resnet", entry, query, "pred", Choice())
    assert (
        cell.explanation is None
        and "looks at 1032 × 1032 pixels; the demo shows models of up to 1024 × 1024" in cell.error
    )
