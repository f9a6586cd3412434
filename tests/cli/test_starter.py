"""The starter models: trained once, finished after an interruption, left alone otherwise."""

import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest
from filelock import FileLock
from small_store import break_card

from cvx.__main__ import main
from cvx.cli import starter
from cvx.pipeline import run_preset
from cvx.store import Store
from cvx.store.maintenance import examine
from cvx.store.runs import list_runs

QUICK = ["--dataset=digits", "--model=resnet10t", "--stem=timm", "--epochs=1", "--batch_size=256", "--warmup_epochs=0"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "artifacts")


@pytest.mark.slow
def test_starter_does_nothing_where_there_are_models(store, capsys):
    assert main(["train", *QUICK]) == 0
    before = store.models()
    assert main(["starter", "--if_empty=True"]) == 0
    assert store.models() == before


STARTERS = """
import sys
from pathlib import Path
from cvx.__main__ import main
from cvx.cli import starter
starter.PRESETS = ("first", "second")
starter.presets = lambda: [Path(one) for one in sys.argv[1].split(",")]
sys.exit(main(["starter", *sys.argv[2:]]))
"""


def write_starters(folder, epochs):
    """Write presets of two starter models, the second of which takes so many epochs."""
    files = [folder / "first.yaml", folder / "second.yaml"]
    for file, num in zip(files, (1, epochs), strict=True):
        fields = dict(flag[2:].split("=") for flag in QUICK) | {"epochs": num, "seed": 0}
        file.write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return files


def start_starters(files, *flags):
    command = [sys.executable, "-c", STARTERS, ",".join(map(str, files)), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(what, child, seconds=90):
    deadline = time.monotonic() + seconds
    while not what():
        assert child.poll() is None and time.monotonic() < deadline, child.communicate()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_starter_models_that_were_interrupted_are_finished_by_the_next_call_and_nothing_else_is(
    store, tmp_path, data_root, signum
):
    flags = [f"--artifacts={store.root}", f"--data={data_root}", "--if_empty=True"]
    files = write_starters(tmp_path, epochs=5)
    child = start_starters(files, *flags)
    folder = store.root / "runs"
    wait_for(lambda: len(list_runs(store.root)) == 2 and any(folder.glob("*/state/state.safetensors")), child)
    child.send_signal(signum)
    child.communicate(timeout=90)
    first, second = list_runs(store.root)
    assert first.summary is not None and second.summary is None
    child = start_starters(files, *flags)
    said, _ = child.communicate(timeout=300)
    assert child.returncode == 0 and "was interrupted; this goes on with it" in said, said
    assert [run.name for run in list_runs(store.root)] == [first.name, second.name], "one is done, the other is resumed"
    assert second.summary["epochs"] == 5
    assert [one for one in examine(store.root) if one.where.parent == store.root] == [], "the store knows the files"
    child = start_starters(files, *flags)
    assert child.communicate(timeout=90)[0] == "" and child.returncode == 0


def test_a_second_starter_leaves_the_training_to_the_first(store, capsys):
    store.root.mkdir()
    with FileLock(store.root / f"{starter.LEFT}.lock"):
        assert (main(["starter", "--if_empty"]), main(["starter"])) == (0, 1)
    assert "another process is training the starter models" in capsys.readouterr().err
    assert not list_runs(store.root)


@pytest.mark.slow
def test_starters_leave_nothing_to_do_behind_and_deleted_ones_are_not_trained_again(store, tmp_path, data_root):
    flags = [f"--artifacts={store.root}", f"--data={data_root}", "--if_empty=True"]
    files = write_starters(tmp_path, epochs=2)
    with mock.patch.multiple(starter, PRESETS=("first", "second"), presets=lambda: files):
        with mock.patch("cvx.pipeline.run_preset", side_effect=[mock.DEFAULT, KeyboardInterrupt], wraps=run_preset):
            assert main(["starter", *flags]) == 130
        (first,) = list_runs(store.root)
        assert starter.left(store.root) == [("second", 0)]
        assert main(["starter", *flags]) == 0
        assert [run.name for run in list_runs(store.root)][:-1] == [first.name]
        assert starter.left(store.root) == []
        last = store.models()[0]
        shutil.rmtree(last.folder)
        assert store.models() and main(["starter", *flags]) == 0 and len(list_runs(store.root)) == 2


@pytest.mark.parametrize(
    "content", ["{}", "[", '{"format": 1, "left": [[]]}', '{"format": 1, "left": [["digits_vit", "y"]]}']
)
def test_a_damaged_list_of_what_starters_are_left_is_one_line(store, content, capsys):
    break_card(store, "digits-resnet18")
    (store.root / starter.LEFT).write_text(content)
    assert main(["starter", "--if_empty"]) == 2
    heard = capsys.readouterr().err.strip()
    assert "starter.json is damaged; delete it" in heard and len(heard.splitlines()) == 1
