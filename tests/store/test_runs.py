"""A run's folder holds what was recorded, and nothing twice."""

import json

import numpy as np
import pytest

from cvx.store.runs import MAX_FRAMES, RowReader, Run, RunWriter, frame_epochs, list_runs, read_rows


class Listener:
    """A sink that keeps what it hears."""

    def __init__(self):
        self.rows, self.frames, self.summary = [], [], None

    def log(self, row):
        self.rows.append(dict(row))

    def start(self, folder):
        pass

    def frame(self, kind, epoch, path):
        self.frames.append((kind, epoch, path.is_file()))

    def finish(self, summary):
        self.summary = dict(summary)


def test_a_sink_hears_the_very_rows_that_the_file_holds(tmp_path):
    sink = Listener()
    RunWriter.create(tmp_path / "run", {"key": "x"})
    writer = RunWriter(tmp_path / "run", [sink])
    writer.log(1, 0.5, {"train/loss": 2.0})
    writer.log(2, 1.0, {"train/loss": 1.0, "val/acc1": 0.5})
    writer.film(1, np.zeros(2, np.int64), np.zeros((2, 3), np.float32), np.ones((2, 1, 4, 4), np.float32))
    writer.finish({"run": "run"})
    assert sink.rows == read_rows(tmp_path / "run") and len(sink.rows) == 2
    assert sink.frames == [("film", 1, True)]
    assert sink.summary == {"run": "run"}


def test_of_two_runs_that_begin_in_one_second_with_one_name_each_gets_a_folder(tmp_path):
    name = "20251231-235959-digits-resnet18-mine"
    folders = [RunWriter.create(tmp_path / name, {"number": number}).folder for number in range(3)]
    assert [folder.name for folder in folders] == [
        name,
        "20260101-000000-digits-resnet18-mine",
        "20260101-000001-digits-resnet18-mine",
    ]
    assert [Run(folder).config["number"] for folder in folders] == [0, 1, 2]


def test_a_run_of_a_name_of_its_own_that_is_taken_is_refused(tmp_path):
    RunWriter.create(tmp_path / "run", {})
    with pytest.raises(FileExistsError, match="there is a run run already"):
        RunWriter.create(tmp_path / "run", {})


def test_a_frame_is_read_back_as_it_was_written(tmp_path):
    writer = RunWriter.create(tmp_path / "run", {})
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    writer.film(7, np.array([1, 0]), np.zeros((2, 5), np.float32), maps)
    frames = Run(tmp_path / "run").frames("film")
    assert list(frames) == [7]
    with np.load(frames[7]) as stored:
        np.testing.assert_array_equal(stored["attribution"], maps)


def test_reopening_drops_what_was_recorded_beyond_the_saved_step(tmp_path):
    writer = RunWriter.create(tmp_path / "run", {})
    for step in range(1, 6):
        writer.log(step, step, {"train/loss": float(step)})
    RunWriter.reopen(tmp_path / "run", step=3, elapsed_s=0.0).log(4, 4, {"train/loss": 40.0})
    assert [row["train/loss"] for row in read_rows(tmp_path / "run")] == [1.0, 2.0, 3.0, 40.0]


def test_a_line_cut_short_by_a_kill_is_left_out_but_a_damaged_middle_is_named(tmp_path):
    writer = RunWriter.create(tmp_path / "run", {})
    writer.log(1, 1, {})
    path = tmp_path / "run" / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 2, "ep')
    assert [row["step"] for row in read_rows(tmp_path / "run")] == [1]
    path.write_text('{"step": 2, "ep\n' + whole)
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged: line 1"):
        read_rows(tmp_path / "run")


def test_rows_are_plain_json_lines(tmp_path):
    writer = RunWriter.create(tmp_path / "run", {})
    writer.log(3, 0.25, {"lr": 1e-3})
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert (row["step"], row["epoch"], row["lr"]) == (3, 0.25, 1e-3) and row["time"] >= 0


@pytest.mark.parametrize("epochs", [1, 2, 59, 60, 61, 200, 1000])
def test_frames_are_bounded_and_hold_the_first_and_last_epoch(epochs):
    chosen = sorted(frame_epochs(epochs))
    assert chosen[0] == 0 and chosen[-1] == epochs and len(chosen) <= MAX_FRAMES
    gaps = np.diff(chosen)
    assert gaps.max() - gaps.min() <= 1


def test_a_run_without_a_summary_is_listed_as_unfinished_and_foreign_folders_are_not(tmp_path):
    RunWriter.create(tmp_path / "runs" / "b", {"key": "1"})
    RunWriter.create(tmp_path / "runs" / "a", {"key": "2"}).finish({"x": 1})
    (tmp_path / "runs" / "foreign").mkdir()
    found = list_runs(tmp_path)
    assert [run.name for run in found] == ["a", "b"]
    assert found[0].summary["x"] == 1 and found[1].summary is None


def test_rows_are_read_once_each_as_they_are_written(tmp_path):
    path, reader = tmp_path / "metrics.jsonl", RowReader(tmp_path)
    assert reader.read(final=False) == []
    seen = []
    for part in ('{"step": 1}\n{"st', 'ep": 2}', "\n", '{"step": 3}\n{"step": 4}'):
        with path.open("a") as stream:
            stream.write(part)
        seen.append([row["step"] for row in reader.read(final=False)])
    assert seen == [[1], [], [2], [3]]
    assert reader.read(final=True) == [{"step": 4}] and reader.read(final=True) == []


def test_a_damaged_line_that_is_read_later_is_named_by_its_number(tmp_path):
    path, reader = tmp_path / "metrics.jsonl", RowReader(tmp_path)
    path.write_text('{"step": 1}\n')
    reader.read(final=False)
    with path.open("a") as stream:
        stream.write('oops\n{"step": 3}\n')
    with pytest.raises(ValueError, match="line 2 is no JSON object"):
        reader.read(final=False)
