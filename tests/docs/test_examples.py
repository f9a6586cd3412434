"""The Python examples of the README and the pages run as they stand, in a folder that holds a store."""

import os
import re
import subprocess
import sys

import pytest
from small_store import ROOT, add_model, served

from cvx import data
from cvx.store import Store

pytestmark = pytest.mark.slow
DOCS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "demo" / "README.md",
    ROOT / "CONTRIBUTING.md",
]
FRAGMENT = re.compile(r"<!-- fragment: \S.*-->\n$")
"""What must stand right before an example that cannot run as it stands: why not."""


def examples():
    """Return each Python block as the document's name and the code, fragments left out."""
    found = []
    for doc in DOCS:
        text = doc.read_text(encoding="utf-8")
        for block in re.finditer(r"^```(?:python|py)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if not FRAGMENT.search(text[: block.start()]):
                found.append((str(doc.relative_to(ROOT)), block[1]))
    return found


EXAMPLES = examples()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data_root):
    folder = tmp_path_factory.mktemp("examples")
    store, splits = Store(folder / "artifacts"), data.load("digits", data_root)
    store.add_samples(splits)
    for model in ("resnet18", "vit_mini"):
        add_model(store, splits, model)
    return folder


def example(doc, word):
    """Return the one Python example of a document that holds a word."""
    [block] = [block for name, block in EXAMPLES if name == doc and word in block]
    return block


def run(script, folder):
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_python_example_has_a_test_here():
    tested = [
        ("README.md", "to_heatmap"),
        ("docs/maps.md", "vanilla_gradient"),
        ("docs/comparing.md", "comparison.agreement"),
        ("docs/demo.md", "gradio_client"),
    ]
    assert sorted(example(doc, word) for doc, word in tested) == sorted(block for _, block in EXAMPLES)


def test_the_example_of_a_model_of_ones_own_runs(folder):
    script = (
        example("README.md", "to_heatmap")
        + "\nprint(tuple(logits.shape), tuple(heatmaps.shape), bool(heatmaps.min() >= 0))"
    )
    assert run(script, folder).splitlines() == ["(4, 10) (4, 64, 64) True"]


def test_the_example_of_a_model_of_ones_own_is_ten_lines():
    assert len(example("README.md", "to_heatmap").splitlines()) <= 10


def test_the_example_of_a_map_in_python_runs(folder):
    script = example("docs/maps.md", "vanilla_gradient") + "\nprint(tuple(logits.shape), tuple(attribution.shape))"
    assert run(script, folder).splitlines() == ["(8, 10) (8, 1, 8, 8)"]


def test_the_example_of_the_demo_from_a_program_runs(folder):
    with served(folder / "artifacts") as address:
        said = run(example("docs/demo.md", "gradio_client").replace("http://127.0.0.1:7860", address), folder)
    answers, pairs = said.splitlines()[-5:-3], said.splitlines()[-3:]
    assert [line.split()[0].partition(":")[0] for line in answers] == ["digits-resnet18", "digits-vit_mini"]
    assert [line.split()[2] for line in pairs] == ["all", "both_right", "disagree"]


def test_the_example_of_agreement_runs(folder):
    said = run(example("docs/comparing.md", "comparison.agreement"), folder)
    assert said.startswith("resnet18 and vit_mini agree to")
