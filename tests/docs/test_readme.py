"""The README's Python examples run as they stand, in a folder that holds a store."""

import os
import re
import subprocess
import sys

import pytest
from small_store import ROOT, add_model, served

from cvx import data
from cvx.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data_root):
    folder = tmp_path_factory.mktemp("readme")
    store, splits = Store(folder / "artifacts"), data.load("digits", data_root)
    store.add_samples(splits)
    for model in ("resnet18", "vit_mini"):
        add_model(store, splits, model)
    return folder


def example(word):
    """Return the one Python example of the README that holds a word."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    [block] = [block for block in blocks if word in block]
    return block


def run(script, folder):
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_a_map_in_python_runs(folder):
    script = example("vanilla_gradient") + "\nprint(tuple(logits.shape), tuple(attribution.shape))"
    assert run(script, folder).splitlines() == ["(8, 10) (8, 1, 8, 8)"]


def test_the_example_of_the_demo_from_a_program_runs(folder):
    with served(folder / "artifacts") as address:
        said = run(example("gradio_client").replace("http://127.0.0.1:7860", address), folder)
    answers, pairs = said.splitlines()[-5:-3], said.splitlines()[-3:]
    assert [line.split()[0].partition(":")[0] for line in answers] == ["digits-resnet18", "digits-vit_mini"]
    assert [line.split()[2] for line in pairs] == ["all", "both_right", "disagree"]


def test_the_example_of_agreement_runs(folder):
    assert run(example("measures.agreement"), folder).startswith("resnet18 and vit_mini agree to")
