"""The page of one run: complete by itself, of this run alone, whatever the run is called or lacks."""

import json
import re
import shutil

import pytest
from recorded_run import MODEL, record
from small_store import NASTY

from cvx.__main__ import main
from cvx.report import run_page
from cvx.report.run_page import SECTIONS
from cvx.store import Store
from cvx.store.runs import Run

HOSTILE = "20260102-<img src=x onerror=alert(1)>-a"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("run") / "artifacts")
    for name in ("run-a", "run-b"):
        record(store.root, name)
    record(store.root, "run-cut", stop=3)
    return store


def sections(page):
    return re.findall(r'<section id="(\w+)">', page)


def test_it_has_the_runs_own_sections_and_asks_for_nothing(store):
    page = run_page(store, Run(store.root / "runs" / "run-a")).decode()
    assert sections(page) == list(SECTIONS)
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|url\((?!#|data:)|@import', page)
    assert "run-b" not in page and "75.00 %" in page and f"--model={MODEL}" in page
    assert "python -m cvx report --run=run-a" in page


def test_its_maps_are_of_the_runs_own_best_version_not_of_the_newest(store):
    for name, version in (("run-a", "v0"), ("run-b", "v2")):
        page = run_page(store, Run(store.root / "runs" / name)).decode()
        assert set(re.findall(rf"tiles-{MODEL}:v\d", page)) == {f"tiles-{MODEL}:{version}"}


def test_names_are_text_and_never_markup(store, tmp_path):
    """A run's name, its notes and a class's name may be markup; a page in W&B must not run it."""
    copy = Store(shutil.copytree(store.root, tmp_path / "copy"))
    folder = (copy.root / "runs" / "run-a").rename(copy.root / "runs" / HOSTILE)
    facts = json.loads((folder / "config.json").read_text())
    facts["config"]["model"], facts["place"]["notes"] = NASTY, "<script>alert(2)</script>"
    (folder / "config.json").write_text(json.dumps(facts))
    summary = json.loads((folder / "summary.json").read_text())
    summary["per_class_accuracy"] = {NASTY: 1.0, "b": 1.0, "</style><script>c": 1.0, "d": 1.0}
    (folder / "summary.json").write_text(json.dumps(summary))
    page = run_page(copy, Run(folder)).decode()
    assert page.count("<script") == 1 and "<img src=x" not in page and 'onclick="x"' not in page
    assert "&lt;script&gt;c" in page and "&lt;b onclick=" in page


def test_a_run_that_is_not_done_or_lost_its_model_has_a_page_that_says_so(store, tmp_path):
    page = run_page(store, Run(store.root / "runs" / "run-cut")).decode()
    assert "run run-cut is not done" in page and "curves" in sections(page)
    copy = Store(shutil.copytree(store.root, tmp_path / "copy"))
    shutil.rmtree(copy.root / "models")
    page = run_page(copy, Run(copy.root / "runs" / "run-a")).decode()
    assert f"no model &#39;tiles-{MODEL}&#39;" in page and str(copy.root) not in page
    assert "75.00 %" in page and "film" in sections(page)


def test_the_command_writes_it_and_says_where(store, capsys):
    assert main(["report", "--run=run-a", "--device=cpu", f"--artifacts={store.root}"]) == 0
    path = store.root / "reports" / "run-a.html"
    assert capsys.readouterr().out.startswith(f"report: {path} (") and path.stat().st_size < 3e6


@pytest.mark.parametrize(
    ("flags", "told"),
    [(["--run=run-z"], "no run 'run-z'"), (["--run=run-a", "--project=maps"], "leave one out")],
)
def test_what_cannot_be_written_is_one_line(store, capsys, flags, told):
    assert main(["report", *flags, f"--artifacts={store.root}"]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
