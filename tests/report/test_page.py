"""One page that holds what a store holds, says what it could not read, and can be believed."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from recorded_run import record
from small_store import NASTY, add_model, break_card, cut_weights, make_splits, make_store, pixels

from cvx.__main__ import main
from cvx.report import fill, html, read_store
from cvx.report.blocks import Figures, Film, MapGrid, Matrices, Table
from cvx.report.outline import SECTIONS
from cvx.store import Store

NASTY_RUN = "20260102-<img src=x onerror=alert(1)>-tiles"


class Page(HTMLParser):
    """What a browser would make of a page: its texts, its elements, and what it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags, self.sources, self.ids, self.problems = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.sources += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
        self.ids += [value for name, value in attributes if name == "id"]
        self.sources += [
            url for name, value in attributes if name == "style" for url in re.findall(r"url\((.*?)\)", value)
        ]

    def handle_data(self, data):
        self.texts.append(data)


def vary(folder, name, seed, lr, test_acc1):
    """Turn a recorded run into one of another seed, recipe and outcome."""
    for file, change in (
        ("config.json", lambda facts: facts["config"].update(seed=seed, lr=lr)),
        ("summary.json", lambda facts: facts["metrics"].update({"test/acc1": test_acc1})),
    ):
        facts = json.loads((folder / file).read_text())
        change(facts)
        (folder / file).write_text(json.dumps(facts))
    return folder.rename(folder.with_name(name))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two recipes, one of them with two seeds; a second model; a second dataset with a hostile class name; ruins."""
    store = make_store(tmp_path_factory.mktemp("report") / "artifacts")
    for name, seed, lr, acc1 in ((NASTY_RUN, 0, 0.1, 0.5), ("run-b", 1, 0.1, 0.7), ("run-c", 0, 0.2, 0.4)):
        vary(record(store.root, "fresh", acc1=0.5 if lr == 0.1 else 0.3), name, seed, lr, acc1)
    record(store.root, "run-cut", stop=3)
    (store.root / "runs" / "run-bad").mkdir()
    (store.root / "runs" / "run-bad" / "config.json").write_text("{")
    break_card(store, "tiles-broken")
    cut_weights(add_model(store, make_splits("tiles", 40, 16, 3, True), "resnet14t"))
    return store


@pytest.fixture(scope="module")
def found(store):
    return read_store.read(store, num=12)


@pytest.fixture(scope="module")
def filled(found):
    return fill.fill(found)


@pytest.fixture(scope="module")
def page(found, filled):
    return html.render(found, filled, "A <title> & more")


def blocks_of(filled, key, kind):
    return [block for one in filled if one.section.key == key for block in one.blocks if isinstance(block, kind)]


def test_every_section_of_the_list_is_on_the_page_in_order_but_those_with_nothing_to_show(filled, page):
    assert list(fill.PARTS) == [section.key for section in SECTIONS]
    shown = re.findall(r'<section id="(\w+)">', page)
    assert shown == [section.key for section in SECTIONS if section.key != "sweeps"]  # the store has no sweeps


def test_nothing_on_the_page_is_fetched_from_anywhere(page):
    outside = [source for source in Page(page).sources if not source.startswith(("data:", "#"))]
    style = re.findall(r"url\((?!#|data:)[^)]*\)|@import[^;]*", page)
    assert (outside, style) == ([], [])
    assert len(page) < 8e6


def test_names_of_classes_and_runs_are_text_and_never_markup(page):
    read = Page(page)
    assert NASTY in "".join(read.texts) and NASTY_RUN not in page
    assert not [tag for tag, attributes in read.tags if any(name.startswith("on") for name in attributes)]
    assert not [tag for tag, attributes in read.tags if attributes.get("src") == "x"]
    assert "A &lt;title&gt; &amp; more" in page


def test_an_id_is_given_once_so_that_no_drawing_borrows_anothers_parts(page):
    ids = Page(page).ids
    assert len(ids) == len(set(ids)) > len(SECTIONS) - 2


def test_the_page_says_what_it_could_not_read(page):
    text = " ".join(Page(page).texts)
    for what in (
        "run-cut is not done",
        "run-bad cannot be read",
        "tiles-broken:v0 cannot be read",
        "tiles-resnet14t:v0",
    ):
        assert what in text, what


def test_a_row_holds_the_mean_over_seeds_of_the_recipe_that_is_best_on_val(filled):
    (table,) = blocks_of(filled, "runs", Table)
    row = next(dict(zip(table.columns, row, strict=True)) for row in table.rows if row[0] == "test_resnet")
    assert row["test accuracy"] == "60.00 % [50.00, 70.00]"  # of 0.5 and 0.7; the other recipe reached 0.3 on val
    assert (row["seeds"], row["recipes"]) == ("0, 1", "2")


def test_recipes_are_compared_by_the_hyperparameters_in_which_they_differ(filled):
    table = next(one for one in blocks_of(filled, "curves", Table) if "lr" in one.columns)
    at = table.columns.index("lr")
    assert {"0.1", "0.2"} <= {row[at] for row in table.rows} and "model" in table.columns


def test_a_confusion_matrix_shows_the_counts_and_shades_by_the_share_of_the_row(filled):
    matrix = blocks_of(filled, "confusion", Matrices)[0].matrices[0]
    counts = np.eye(4, dtype=int) * 9 + 1
    assert [[int(words) for words, _ in row] for row in matrix.cells] == counts.tolist()
    assert [row[i][1] for i, row in enumerate(matrix.cells)] == pytest.approx([10 / 13] * 4)
    assert "76.9 % of 52 right" in matrix.note


def test_each_class_has_one_image_the_first_of_it_in_stored_order(found, filled):
    grid = next(one for one in blocks_of(filled, "maps", MapGrid) if one.name == "maps-tiles")
    part = next(part for part in found.parts if part.dataset == "tiles")
    assert grid.labels == part.samples.classes
    firsts = [int(np.flatnonzero(part.samples.split.labels == label)[0]) for label in range(4)]
    for uri, row in zip(grid.images, firsts, strict=True):
        np.testing.assert_array_equal(pixels(uri), part.samples.split.images[row])


def test_a_reel_holds_every_frame_of_every_image(filled):
    (film,) = blocks_of(filled, "film", Film)
    reel = film.reels[0]
    assert reel.epochs == (0, 1, 2) and len(reel.sprites) == len(film.images) == 8
    assert {pixels(sprite).shape for sprite in reel.sprites} == {(3 * 16, 16, 3)}
    assert reel.accuracies[1] == "50.0 %"


def test_embeddings_come_as_three_layouts_with_their_numbers(filled):
    figures = blocks_of(filled, "embeddings", Figures)[0].figures
    assert [figure.title.rpartition("· ")[2] for figure in figures] == ["PCA", "t-SNE", "UMAP"]
    assert figures[0].note == "kNN 0.50"


def test_an_empty_store_is_one_clear_line(tmp_path, capsys):
    assert main(["report", f"--artifacts={tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert "holds no run and no model yet" in told and "cvx starter" in told and "Traceback" not in told


def test_a_store_of_ruins_is_named_as_such(tmp_path):
    break_card(Store(tmp_path), "tiles-broken")
    with pytest.raises(
        ValueError, match=r"no run and no model that can be read \(model tiles-broken:v0 cannot be read"
    ):
        read_store.read(Store(tmp_path))


@pytest.mark.slow
def test_a_store_with_runs_only_and_one_with_models_only_have_reports(tmp_path):
    record(tmp_path / "runs-only", "run-a")
    shutil.rmtree(tmp_path / "runs-only" / "models")
    only_models = make_store(tmp_path / "models-only")
    for root in (tmp_path / "runs-only", only_models.root):
        found = read_store.read(Store(root), num=4)
        assert '<section id="lesson">' in html.render(found, fill.fill(found), "t")


@pytest.mark.slow
def test_the_command_writes_the_page_and_says_where(store, capsys):
    assert main(["report", f"--artifacts={store.root}", "--name=mine", "--num=4", "--device=cpu"]) == 0
    told = capsys.readouterr()
    path = store.root / "reports" / "mine.html"
    assert f"report: {path}" in told.out and "run-bad" in told.err
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert str(store.root) not in path.read_text(encoding="utf-8")


def test_damaged_frames_are_named_and_the_rest_is_shown(tmp_path):
    folder = record(tmp_path, "run-a")
    for file in ("film/0001.npz", "embeddings/test.npz"):
        (folder / file).write_bytes((folder / file).read_bytes()[:200])
    found = read_store.read(Store(tmp_path), num=4)
    text = " ".join(Page(html.render(found, fill.fill(found), "t")).texts)
    assert "the film of run-a cannot be shown" in text and "the embeddings of run-a cannot be shown" in text
    assert "What region each class draws on" in text


@pytest.mark.parametrize("name", ["../out", "a/b", ""])
def test_a_name_that_is_no_files_is_refused(found, name):
    with pytest.raises(ValueError, match="letters, digits"):
        html.write(found.store.root, "", name)


def test_num_must_be_positive(store):
    with pytest.raises(ValueError, match="num must be 1 or more, got 0"):
        read_store.read(store, num=0)


@pytest.mark.parametrize("name", ["num_often", "budget_s"])
def test_what_is_spent_on_measures_must_not_be_negative(store, name):
    with pytest.raises(ValueError, match=f"{name} must be 0 or more, got -1"):
        read_store.read(store, **{name: -1})
