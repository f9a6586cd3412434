"""The demo's endpoints for scripts, and who may call them."""

import base64
import io
import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from small_store import CLASSES, ROOT, make_store, served

from cvx import attribution, comparison
from cvx.plotting import colors


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("demo") / "artifacts")


@pytest.fixture(scope="module")
def address(store):
    with served(store.root) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def test_scripts_see_typed_and_documented_endpoints(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert {"/agreement", "/compare", "/models", "/samples"} <= set(named)
    parameters = {one["parameter_name"]: one["python_type"]["type"] for one in named["/compare"]["parameters"]}
    assert parameters["models"] == "list[str]" and parameters["clip"] == "float"
    assert "filepath" in parameters["image"]
    assert all(named[name]["description"] for name in named)


def test_the_endpoint_models_says_what_the_store_holds(client, store):
    held = client.predict(api_name="/models")
    assert [one["reference"] for one in held["models"]] == [entry.reference for entry in store.models()]
    assert held["samples"][1] == {"dataset": "tiles", "num": 40, "classes": list(CLASSES["tiles"])}


def test_the_endpoint_samples_lists_images_of_a_class_with_the_names_that_compare_takes(client, store):
    found = client.predict("tiles", class_name="green", first=1, num=3, api_name="/samples")
    assert [one["sample"] for one in found] == ["tiles:5", "tiles:9", "tiles:13"]
    assert {one["label"] for one in found} == {"green"}
    assert np.array_equal(decoded(found[1]["image_png"]), store.samples("tiles").split.images[9])
    for asked, said in (({"dataset": "birds"}, "dots, tiles"), ({"dataset": "tiles", "num": 101}, "num in 1…100")):
        with pytest.raises(AppError, match=said):
            client.predict(**asked, api_name="/samples")


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_the_endpoint_compare_answers_with_the_models_own_gradients(client, store):
    answer = client.predict(["tiles-resnet10t", "tiles-vit_tiny:v0"], sample="tiles:6", api_name="/compare")
    assert answer["label"] == "blue"
    image = store.samples("tiles").split.images[6]
    for one in answer["answers"]:
        classifier, card = store.resolve(one["model"]).load()
        inputs = torch.tensor(image[None]).permute(0, 3, 1, 2).float() / 255
        logits, gradient = attribution.vanilla_gradient(classifier, inputs, classifier(inputs).argmax(1))
        heat = gradient[0].abs().amax(0).numpy()
        assert np.allclose(one["heatmap"], heat, atol=1e-6)
        assert one["target"] == one["predictions"][0]["class_name"] == card.classes[int(logits.argmax())]
        assert np.array_equal(decoded(one["image_png"]), image)
        drawn = colors.colorize((heat / np.float32(one["limit"])).astype(np.float32))
        assert np.abs(decoded(one["map_png"]).astype(int) - drawn).max() <= 6
        assert one["unit"] == "logit per unit pixel"


def test_the_endpoint_agreement_answers_what_the_measures_say(client, store):
    names = ["tiles-resnet10t", "tiles-vit_tiny"]
    rows = client.predict(names, num=20, measure="ssim", api_name="/agreement")
    expected = comparison.agreement(store, names, comparison.Options(num=20), names=["ssim"]).interval("ssim", 0, 1)
    assert [row["condition"] for row in rows] == ["all", "both_right", "disagree"]
    assert rows[0]["mean"] == pytest.approx(expected.mean) and rows[0]["ceiling"] is None
    for asked, said in (({"num": 0}, "num must be in 1…1000"), ({"measure": "mse"}, "unknown measure 'mse'")):
        with pytest.raises(AppError, match=said):
            client.predict(names, **asked, api_name="/agreement")
    with pytest.raises(AppError, match="--measures=properties"):
        client.predict(["tiles-vit_tiny", "dots-resnet10t"], api_name="/agreement")


def test_the_endpoint_compare_takes_an_image_file(client, tmp_path):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    answer = client.predict(["dots-resnet10t"], image=handle_file(tmp_path / "red.png"), api_name="/compare")
    assert "50 × 40" in answer["image"] and np.shape(answer["answers"][0]["heatmap"]) == (8, 8)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"models": ["tiles-resnet"], "sample": "tiles:0"}, "did you mean 'tiles-resnet10t'"),
        ({"models": [], "sample": "tiles:0"}, "at least one model"),
        ({"models": ["tiles-resnet10t"]}, "either a sample"),
        ({"models": ["tiles-resnet10t"], "sample": "tiles:40"}, "0…39"),
        ({"models": ["tiles-resnet10t"], "sample": "birds:1"}, "datasets: dots, tiles"),
        ({"models": ["tiles-resnet10t"], "sample": "tiles:0", "score": "prob"}, "known: logit, logprob, margin"),
        ({"models": ["tiles-resnet10t"], "image": {"path": "/etc/hostname"}}, "handle_file"),
    ],
)
def test_the_endpoint_compare_says_what_is_wrong(client, asked, said):
    with pytest.raises(AppError, match=said):
        client.predict(**asked, api_name="/compare")


def test_a_file_of_the_server_that_was_not_uploaded_is_not_read(address, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    image = {"path": str(tmp_path / "secret.png"), "meta": {"_type": "gradio.FileData"}}
    said = call(address, ["dots-resnet10t"], "", image)
    assert "event: error" in said and "heatmap" not in said
    assert "heatmap" in call(address, ["dots-resnet10t"], "dots:0", None)


def call(address, *values):
    """Call /compare as a script without gradio_client does."""
    rest = ["pred", "logit", "gradient", "max", "shared", 1.0, 99.0, 60.0]
    body = json.dumps({"data": [*values, *rest]}).encode()
    request = urllib.request.Request(f"{address}/gradio_api/call/compare", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/compare/{event}") as answer:
        return answer.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--auth=secret", "--auth=:secret"])
def test_a_login_without_a_name_or_password_is_refused_and_not_repeated(flag, tmp_path):
    command = [sys.executable, str(ROOT / "demo" / "app.py"), flag, f"--artifacts={tmp_path}", "--port=0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 1 and "secret" not in ended.stderr
    assert ended.stderr.startswith("demo: auth must be NAME:PASSWORD") and len(ended.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_first_page_names_no_other_host(store):
    with served(store.root) as address, urllib.request.urlopen(address) as answer:
        page = answer.read().decode()
    for tag in ("<script src=", "<link"):
        assert not [piece for piece in page.split(tag)[1:] if "://" in piece.split(">")[0]]
