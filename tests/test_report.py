"""One page that holds what a store holds, says what it could not read, and can be believed."""

import base64
import dataclasses
import io
import json
import math
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from recorded_run import record
from small_store import NASTY, add_model, break_card, cut_weights, make_splits, make_store
from torch import nn

from cvx import config
from cvx.__main__ import main
from cvx.attribution import vanilla_gradient
from cvx.checkpoint import Card
from cvx.comparison import View
from cvx.models import Classifier
from cvx.records import Run
from cvx.render import colorize
from cvx.report import content, html, lesson, numbers, pictures, plots, reading, study
from cvx.report.blocks import Command, Figures, Film, MapGrid, Matrices, Table, Text
from cvx.report.markdown import markdown
from cvx.report.sections import SECTIONS
from cvx.report.study import Looker, Part, Past
from cvx.store import ModelEntry, Store

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
    return reading.read(store, num=12)


@pytest.fixture(scope="module")
def filled(found):
    return content.fill(found)


@pytest.fixture(scope="module")
def page(found, filled):
    return html.render(found, filled, "A <title> & more")


def blocks_of(filled, key, kind):
    return [block for one in filled if one.section.key == key for block in one.blocks if isinstance(block, kind)]


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_every_section_of_the_list_is_on_the_page_in_order_but_those_with_nothing_to_show(filled, page):
    assert list(content.PARTS) == [section.key for section in SECTIONS]
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


def test_mean_and_range_of_known_numbers():
    assert numbers.spread([0.25, 0.75]) == "50.00 % [25.00, 75.00]"
    assert numbers.spread([math.nan, 0.5]) == "50.00 %"
    assert numbers.spread([math.nan]) == numbers.spread([]) == "–"


def test_a_confusion_matrix_shows_the_counts_and_shades_by_the_share_of_the_row(filled):
    matrix = blocks_of(filled, "confusion", Matrices)[0].matrices[0]
    counts = np.eye(4, dtype=int) * 9 + 1
    assert [[int(words) for words, _ in row] for row in matrix.cells] == counts.tolist()
    assert [row[i][1] for i, row in enumerate(matrix.cells)] == pytest.approx([10 / 13] * 4)
    assert "76.9 % of 52 right" in matrix.note


def looker(name, attribution):
    """Make a looker whose maps are known, of images whose label and prediction is class 0."""
    num, channels, side, _ = attribution.shape
    card = Card(
        name=name,
        dataset="d",
        model=name,
        build={},
        classes=("a", "b"),
        image_size=side,
        in_chans=channels,
        mean=(0.0,),
        std=(1.0,),
    )
    images = np.zeros((num, side, side, channels), np.uint8)
    logits = np.tile(np.float32([2, 0]), (num, 1))
    view = View(name, card, images, logits, np.zeros(num, np.int64), attribution, "logit", "gradient")
    entry = ModelEntry(name, 0, Store("nowhere").root, card=card)
    return Looker(entry, card, view)


def test_on_one_scale_a_map_of_half_the_strength_has_the_color_of_one_half():
    full = np.zeros((2, 1, 8, 8), np.float32)
    full[:, 0, 3, 3] = [1.0, -1.0]
    part = Part("d", None, (), (looker("strong", full), looker("weak", full / 2)))
    grid = pictures.map_grid(part, [0, 1], "g")
    color = lambda value: colorize(np.float32([[value]]), False)[0, 0]  # noqa: E731
    (strong, weak), _ = grid.cells
    assert (pixels(strong.uris["shared"])[3, 3] == color(1.0)).all()
    assert (pixels(weak.uris["shared"])[3, 3] == color(0.5)).all()
    assert (pixels(weak.uris["each"])[3, 3] == color(1.0)).all() and (
        pixels(weak.uris["model"])[3, 3] == color(1.0)
    ).all()
    assert grid.scales["shared"].limit == "1" and "strong 1, weak 0.5" in grid.note
    first, second = (cells[0].uris["signed"] for cells in grid.cells)
    red, blue = pixels(first)[3, 3].astype(int), pixels(second)[3, 3].astype(int)
    assert red[0] > red[2] and blue[2] > blue[0]


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


def test_of_a_linear_model_the_gradient_foretells_every_change_exactly():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    model = Classifier(net, {"name": "linear", "image_size": 4, "in_chans": 1, "mean": [0.5], "std": [0.25]}).eval()
    inputs = torch.zeros(1, 1, 4, 4)
    _, gradient = vanilla_gradient(model, inputs, torch.zeros(1, dtype=torch.int64))
    found = lesson.trials(model, looker("linear", gradient.numpy()), 0)
    assert len(found) == 6 and all(one.foretold > 0 for one in found)
    assert [one.measured for one in found] == pytest.approx([one.foretold for one in found], rel=1e-5)
    strongest = float(gradient.abs().max())
    assert found[0].foretold == pytest.approx(strongest / 255) and found[2].foretold == pytest.approx(
        strongest * 32 / 255
    )
    assert found[4].foretold == pytest.approx(float(gradient.abs().sum()) / 255)


def past(**changed):
    full = dataclasses.asdict(config.TrainConfig(**changed))
    return Past(Run(Path("nowhere")), full, {}, None, ())


@pytest.mark.parametrize(
    "changed",
    [
        {"dataset": "digits", "model": "resnet18"},
        {"dataset": "shapes32", "model": "vit_mini", "lr": 1.25e-05, "augment": False, "seed": 7, "epochs": 3},
    ],
)
def test_the_command_that_reproduces_a_run_parses_back_into_its_config(changed):
    one = past(**changed)
    line = shlex.split(numbers.command(one, dataclasses.asdict(config.TrainConfig())))
    assert line[:4] == ["python", "-m", "cvx", "train"]
    assert config.parse(line[4:])[0] == config.TrainConfig(**changed)
    assert len(line) == 4 + len(changed.keys() | {"seed"})


def test_a_command_of_a_sweep_does_not_tell_where_this_machine_keeps_things(tmp_path):
    folder = tmp_path / "sweeps" / "lr"
    folder.mkdir(parents=True)
    trial = {"number": 0, "values": {"lr": 0.01}, "value": 0.5, "status": "finished"}
    result = {
        "format": 1,
        "name": "lr",
        "method": "grid",
        "metric": {"name": "val/acc1", "goal": "maximize"},
        "parameters": ["lr"],
    }
    worse = {**trial, "number": 1, "value": 0.25}
    line = "python -m cvx train --lr=0.01 --artifacts=/home/me/store --data=/home/me/data"
    (folder / "result.json").write_text(json.dumps({**result, "trials": [worse, trial], "command": line}))
    blocks = numbers.sweeps(study.Study(Store(tmp_path), (), (), 1, torch.device("cpu"), {}))
    assert [block.text for block in blocks if isinstance(block, Command)] == ["python -m cvx train --lr=0.01"]
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert [row[0] for row in table.rows] == ["0", "1"]  # the best first


def test_a_drawing_is_xml_whose_ink_follows_the_page_and_whose_names_stay_as_they_are():
    line = plots.Curve(*(np.arange(3.0) for _ in range(4)), color=1)
    drawn = plots.curves([line], r"$\alpha <b> & </svg>", "one")
    texts = [element.text for element in ElementTree.fromstring(drawn).iter() if element.tag.endswith("text")]
    assert r"$\alpha <b> & </svg>" in texts
    assert "var(--c1)" in drawn and "var(--soft)" in drawn and "#0400" not in drawn and "#02020" not in drawn
    again, other = plots.curves([line], "x", "one"), plots.curves([line], "x", "two")
    assert drawn == plots.curves([line], r"$\alpha <b> & </svg>", "one") and again != other


def test_markdown_escapes_names_and_fences_code():
    table = Table(("a|b",), (("<i>*x*|y",),))
    (text,) = markdown([table])
    assert text.splitlines()[0] == r"| a\|b |" and text.splitlines()[2] == r"| \<i\>\*x\*\|y |"
    (code,) = markdown([Command("echo ```")])
    assert code.startswith("````\n")
    assert list(markdown([Text("a\nb", "finding")])) == ["> a b"]


def test_an_empty_store_is_one_clear_line(tmp_path, capsys):
    assert main(["report", f"--artifacts={tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert "holds no run and no model yet" in told and "cvx starter" in told and "Traceback" not in told


def test_a_store_of_ruins_is_named_as_such(tmp_path):
    break_card(Store(tmp_path), "tiles-broken")
    with pytest.raises(
        ValueError, match=r"no run and no model that can be read \(model tiles-broken:v0 cannot be read"
    ):
        reading.read(Store(tmp_path))


@pytest.mark.slow
def test_a_store_with_runs_only_and_one_with_models_only_have_reports(tmp_path):
    record(tmp_path / "runs-only", "run-a")
    shutil.rmtree(tmp_path / "runs-only" / "models")
    only_models = make_store(tmp_path / "models-only")
    for root in (tmp_path / "runs-only", only_models.root):
        found = reading.read(Store(root), num=4)
        assert '<section id="lesson">' in html.render(found, content.fill(found), "t")


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
    found = reading.read(Store(tmp_path), num=4)
    text = " ".join(Page(html.render(found, content.fill(found), "t")).texts)
    assert "the film of run-a cannot be shown" in text and "the embeddings of run-a cannot be shown" in text
    assert "What region each class draws on" in text


@pytest.mark.parametrize("name", ["../out", "a/b", ""])
def test_a_name_that_is_no_files_is_refused(found, name):
    with pytest.raises(ValueError, match="letters, digits"):
        html.write(found.store.root, "", name)


def test_num_must_be_positive(store):
    with pytest.raises(ValueError, match="num must be 1"):
        reading.read(store, num=0)
