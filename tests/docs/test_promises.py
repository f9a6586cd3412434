"""What the documents promise is there: commands, files, presets and targets."""

import re
from pathlib import Path

import pytest

from cvx.__main__ import COMMANDS
from cvx.config import parse
from cvx.data import DATASETS

ROOT = Path(__file__).parents[2]
DOCS = [
    ROOT / name
    for name in (
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "FINDINGS.md",
        "RELIABILITY.md",
        "BENCHMARKS.md",
        "artifacts/README.md",
        "demo/README.md",
        "tests/long/README.md",
    )
]


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))
def test_every_path_and_link_in_a_document_exists(doc):
    text = doc.read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    paths = re.findall(r"`((?:cvx|demo|configs|tests|artifacts)/[\w./-]+\.\w+)`", text)
    missing = [link for link in links if not (doc.parent / link).exists()]
    missing += [path for path in paths if not (ROOT / path).exists() and "<" not in path]
    assert missing == []


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))
def test_every_command_in_a_document_exists(doc):
    named = re.findall(r"python -m cvx (\w+)", doc.read_text())
    assert set(named) <= set(COMMANDS)


def test_the_training_commands_in_the_readme_parse():
    lines = re.findall(r"^python -m cvx train (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        parse([flag.replace("configs/", f"{ROOT}/configs/") for flag in line.split()])


def test_the_readme_lists_every_command_and_dataset():
    text = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"`python -m cvx {command}" in text, command
    for name in DATASETS:
        assert f"`{name}`" in text, name


def test_the_two_commands_are_make_targets_and_ci_runs_them():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "test-quick", "check", "setup", "setup-system"} <= set(targets)
    assert "make check test" in (ROOT / ".ci" / "run").read_text()


def test_no_document_names_a_path_of_somebodys_machine():
    for doc in DOCS:
        assert not re.search(r"/(home|root|Users|work)/", doc.read_text()), doc


def test_the_readmes_benchmarks_are_lines_of_the_last_measurement():
    whole, _, rest = (ROOT / "README.md").read_text().partition("<!-- written by `make bench` -->")[2].partition("<!--")
    rows = [line for line in whole.splitlines() if line.startswith("| ")][1:]
    measured = (ROOT / "BENCHMARKS.md").read_text()
    assert len(rows) >= 12 and rest and [row for row in rows if f"\n{row} " not in measured] == []
