"""What the demo tells of runs: films, embeddings, curves, tables and their links; no browser."""

import base64
import io
import json
import re
from urllib.parse import parse_qsl

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_runs import EPOCHS, add_run, data_of, numbers
from small_store import make_splits, make_store

from cvx.plotting import colors
from demo.backend.run_history import RunHistory
from demo.components.film_player import film_player
from demo.components.run_charts import run_charts
from demo.components.scatter_plots import scatter_plots
from demo.state.tab_link import TabLink

# Links

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@given(st.lists(words.filter(bool), unique=True, max_size=4), words, st.integers(0, 10**6))
def test_a_link_of_a_tab_says_what_was_chosen(some, one, number):
    written = TabLink.write("tab", {"some": some, "one": one, "number": number}, {"number": 3})
    link = TabLink("tab", parse_qsl(written, keep_blank_values=True))
    assert link.some("some", [*some, "another"]) == some
    assert link.one("one", [one, "another"]) == one
    assert link.number("number", default=3) == number


@pytest.mark.parametrize("said", ["-1", "1e9", "99999999999", "½", ""])
def test_a_number_that_makes_no_sense_falls_back(said):
    assert TabLink("tab", [("tab.n", said)]).number("n", default=7) == 7


def test_what_no_longer_exists_falls_back_to_what_does():
    link = TabLink("tab", [("tab.run", "gone"), ("other.run", "kept")])
    assert (
        link.one("run", ["kept", "new"]) == "kept" and link.some("run", ["kept"]) == [] and link.one("run", []) is None
    )


# The runs


def test_runs_are_listed_anew_when_one_begins_or_ends(tmp_path):
    store = make_store(tmp_path / "artifacts")
    history = RunHistory(store.root)
    assert history.run_list().runs == () and history.run_list() is history.run_list()
    name = add_run(store, make_splits("tiles", 40, 16, 3, True), "vit_tiny", done=False)
    (run,) = history.run_list().runs
    assert (run.name, run.dataset, run.model, run.summary) == (name, "tiles", "vit_tiny", None)
    (run.stored.folder / "summary.json").write_text('{"format": 1, "metrics": {"test/acc1": 0.5}}')
    assert history.run_list().runs[0].metrics == {"test/acc1": 0.5}
    (run.stored.folder / "config.json").write_text("{")
    assert list(history.run_list().broken) == [name]


def change(file, **fields):
    def changed(folder):
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**content, **fields}), encoding="utf-8")

    return changed


def cut(file, **places):
    """Keep of some of a frame's arrays what stands at a place, so that they no longer fit the others."""

    def changed(folder):
        with np.load(folder / file) as stored:
            arrays = {name: array[places.get(name, ...)] for name, array in stored.items()}
        np.savez(folder / file, **arrays)

    return changed


def say(line):
    return lambda folder: (folder / "metrics.jsonl").write_text(line + '\n{"epoch": 1, "step": 1, "time": 1}\n')


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (change("config.json", config=5), True),
        (change("config.json", place=["sweep"]), True),
        (change("summary.json", metrics=["test/acc1"]), True),
        (change("summary.json", separability=0.5), True),
        (change("summary.json", metrics={"test/acc1": "high", "val/acc1": None}), False),
        (change("config.json", config={"dataset": "tiles", "model": "vit", "lr": float("inf")}), False),
        (cut("film/0000.npz", targets=slice(2)), False),
        (cut("film/0001.npz", logits=(0,)), False),
        (cut("film/0002.npz", attribution=(0,)), False),
        (cut("embeddings/test.npz", labels=slice(3)), False),
        (cut("embeddings/test.npz", logits=(slice(None), slice(1))), False),
        (cut("embeddings/test.npz", umap=(slice(None), 0)), False),
        (say("no JSON"), False),
        (say('{"val/acc1": 0.5}'), False),
        (say('{"epoch": 1, "step": 1, "time": 1e999, "val/acc1": 0.5}'), False),
    ],
)
def test_a_run_of_which_something_is_damaged_keeps_no_other_from_being_drawn(tmp_path, shown, damage, named):
    store, splits = make_store(tmp_path / "artifacts"), make_splits("tiles", 40, 16, 3, True)
    names = [add_run(store, splits, "vit_tiny"), add_run(store, splits, "resnet10t", seed=1)]
    damage(store.root / "runs" / names[0])
    history = RunHistory(store.root)
    listed = history.run_list()
    assert list(listed.broken) == names[:named] and [run.name for run in listed.runs] == names[named:]
    pages = [
        film_player.page(history, shown, listed.runs, 0, "film", "max"),
        scatter_plots.panels(history, shown, listed.runs, "pca", "label"),
        *(run_charts.page(history, listed.runs, run_charts.Drawn(x=x)) for x in run_charts.X_AXES),
    ]
    assert run_charts.metrics_of(history, listed.runs) == ["val/acc1", "val/loss"]
    for page in pages:
        told = json.dumps(data_of(page))
        assert names[1] in page or "resnet10t · seed 1" in told
        assert "Infinity" not in told and "NaN" not in told, "no JSON to a browser"


def test_a_film_whose_metrics_are_damaged_plays_without_its_curve_and_says_so(tmp_path, shown):
    store = make_store(tmp_path / "artifacts")
    name = add_run(store, make_splits("tiles", 40, 16, 3, True), "vit_tiny")
    say("no JSON")(store.root / "runs" / name)
    history = RunHistory(store.root)
    html = film_player.page(history, shown, history.run_list().runs, 0, "film", "max")
    (run,) = data_of(html)["runs"]
    assert "No learning curve of vit_tiny" in html and "line 1 is no JSON object" in html
    assert len(run["facts"]) == EPOCHS + 1 and run["curves"]["val/acc1"] == [[], []]


# The film


def test_every_frame_of_the_film_is_its_map_on_the_scale_that_is_written_below(history, tiles, shown):
    html = film_player.page(history, shown, tiles, 3, "film", "max")
    told = data_of(html)
    sprites = re.findall(r'data-sprite="data:image/png;base64,([^"]*)"', html)
    assert told["epochs"] == list(range(EPOCHS + 1)) and len(sprites) == 2
    for recorded, run, sprite in zip(tiles, told["runs"], sprites, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite))))
        for place, (epoch, path) in enumerate(recorded.stored.frames("film").items()):
            heat = np.abs(np.load(path)["attribution"][3]).max(axis=0)
            limit = float(run["limits"][place])
            drawn = colors.colorize((heat / np.float32(limit)).astype(np.float32))
            frame = pixels[:, place * 16 : (place + 1) * 16]
            assert np.abs(frame.astype(int) - drawn).mean() < 2 and run["epochs"][place] == epoch
    assert len({limit for run in told["runs"] for limit in run["limits"]}) == 1


@pytest.mark.parametrize(("scale", "num_limits"), [("film", 1), ("run", 2), ("epoch", EPOCHS), ("each", 6)])
def test_a_scale_is_shared_by_as_many_maps_as_it_says(history, tiles, shown, scale, num_limits):
    runs = data_of(film_player.page(history, shown, tiles, 0, scale, "max"))["runs"]
    assert len({limit for run in runs for limit in run["limits"][1:]}) == num_limits


def test_a_map_of_zeros_is_said_to_be_zero(history, tiles, shown):
    runs = data_of(film_player.page(history, shown, tiles, 0, "each", "signed"))["runs"]
    for run in runs:
        assert "zero everywhere" in run["zeros"][0] and not any(run["zeros"][1:])


def test_a_run_without_a_film_says_so_beside_the_others(tmp_path, shown):
    store = make_store(tmp_path / "artifacts")
    splits = make_splits("tiles", 40, 16, 3, True)
    add_run(store, splits, "vit_tiny", film=False), add_run(store, splits, "resnet10t", seed=1)
    history = RunHistory(store.root)
    html = film_player.page(history, shown, history.run_list().runs, 0, "film", "max")
    assert "has no film" in html and len(data_of(html)["runs"]) == 1
    (history.run_list().runs[1].stored.folder / "film" / "0001.npz").write_bytes(b"?")
    assert "is damaged" in film_player.page(RunHistory(store.root), shown, history.run_list().runs, 0, "film", "max")


# Embeddings


def test_the_panels_hold_every_test_image_with_its_place_label_and_prediction(history, tiles, shown):
    told = data_of(scatter_plots.panels(history, shown, tiles, "tsne", "label"))
    stored = [np.load(run.stored.folder / "embeddings" / "test.npz") for run in tiles]
    assert np.array_equal(numbers(told["labels"], "<i4"), stored[0]["labels"])
    assert np.array_equal(shown.gallery.ids[numbers(told["rows"], "<i4")], stored[0]["ids"])
    for run, one in zip(told["runs"], stored, strict=True):
        assert np.array_equal(numbers(run["preds"], "<i4"), one["logits"].argmax(1))
        found, real = numbers(run["layouts"]["umap"], "<f4").reshape(-1, 2), one["umap"]
        ratio = np.linalg.norm(found[1:] - found[0], axis=1) / np.linalg.norm(real[1:] - real[0], axis=1)
        assert np.allclose(ratio, ratio[0], rtol=1e-3)


def test_a_run_of_other_test_images_is_not_drawn_beside_the_first(tmp_path, shown):
    store = make_store(tmp_path / "artifacts")
    add_run(store, make_splits("tiles", 40, 16, 3, True), "vit_tiny")
    add_run(store, make_splits("tiles", 30, 16, 3, True), "resnet10t", seed=1)
    add_run(store, make_splits("tiles", 40, 16, 3, True), "resnet10t", seed=2, done=False)
    history = RunHistory(store.root)
    html = scatter_plots.panels(history, shown, history.run_list().runs, "pca", "label")
    assert "show it alone" in html and "embedded when a run ends" in html and len(data_of(html)["runs"]) == 1


def test_thumbnails_are_those_of_the_stored_samples_and_of_nothing_else(shown):
    uri = scatter_plots.thumbs(shown, [5, -1, 10**9, "6", 7])
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    assert np.array_equal(pixels, np.concatenate([shown.gallery.images[5], shown.gallery.images[7]], axis=1))
    assert scatter_plots.thumbs(shown, ["x"]) == scatter_plots.thumbs(None, [1]) == ""
