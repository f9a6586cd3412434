"""The report's sections of trust: the numbers of the measures, beside what they must beat, within what may be spent."""

import shlex

import numpy as np
import pytest
from recorded_run import EPOCHS, record
from small_store import make_store

from cvx import comparison
from cvx.__main__ import main
from cvx.report import fill, html, read_store
from cvx.report.affordable_measures import PASSES, afford
from cvx.report.blocks import Command, Figures, Heading, Table, Text
from cvx.store import Store

KINDS = ("stability", "sanity", "faithfulness")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three models, none trained, of two datasets; only one dataset has masks. Kept are two images' stability."""
    store = make_store(tmp_path_factory.mktemp("trust") / "artifacts")
    for reference in ("tiles-resnet10t", "tiles-vit_tiny"):
        comparison.stability(store, [reference], comparison.Options(num=2))
    return store


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store with one finished run, and what a report of it shows."""
    store = Store(tmp_path_factory.mktemp("trust") / "artifacts")
    record(store.root, "run-a")
    return read_store.read(store, num=8, num_often=2, budget_s=10**6)  # however slow the machine is


@pytest.fixture(scope="module")
def filled(recorded):
    return {one.section.key: one.blocks for one in fill.fill(recorded, only=(*KINDS, "localization"))}


def only(blocks, kind):
    """Return the one block of this kind."""
    (found,) = [block for block in blocks if isinstance(block, kind)]
    return found


def test_what_is_kept_costs_nothing_and_the_rest_must_fit_into_the_budget(store):
    models = {"tiles": [("tiles-resnet10t", 1.0), ("tiles-vit_tiny", 0.5)], "dots": [("dots-resnet10t", 0.01)]}
    cost = {
        (kind, dataset): 2 * PASSES[kind] * sum(seconds for _, seconds in own)
        for kind in KINDS
        for dataset, own in models.items()
    }
    nothing = afford(store, models, 2, 0.0)
    assert [key for key, one in nothing.items() if one.options] == [("stability", "tiles")]
    assert {key: one.seconds for key, one in nothing.items() if not one.options} == {
        key: pytest.approx(value) for key, value in cost.items() if key != ("stability", "tiles")
    }
    few = afford(store, models, 2, cost["stability", "dots"] + cost["sanity", "tiles"])
    assert sorted(key for key, one in few.items() if one.options) == sorted(
        [("stability", "tiles"), ("stability", "dots"), ("sanity", "tiles")]
    )
    assert not any(one.options for one in afford(store, models, 0, 1e9).values())


def test_the_most_images_that_are_kept_are_taken(store):
    models = {"dots": [("dots-resnet10t", 1.0)]}
    comparison.stability(store, ["dots-resnet10t"], comparison.Options(num=3))
    assert afford(store, models, 3, 0.0)["stability", "dots"].options == comparison.Options(num=3)
    comparison.stability(store, ["dots-resnet10t"], comparison.Options(num=50))  # as many as `compare` takes by default
    for num in (0, 3):
        assert afford(store, models, num, 0.0)["stability", "dots"].options == comparison.Options(num=50)


@pytest.mark.slow
def test_what_is_left_out_names_the_command_after_which_it_is_there(store):
    found = read_store.read(store, num=4, num_often=0)
    blocks = next(one.blocks for one in fill.fill(found, only=("sanity",)))
    assert [block.text for block in blocks if isinstance(block, Heading)] == ["dots", "tiles"]
    assert not [block for block in blocks if isinstance(block, Figures | Table)]
    command = next(block.text for block in blocks if isinstance(block, Command))
    assert "Not computed" in blocks[1].text and shlex.split(command)[:4] == ["python", "-m", "cvx", "compare"]
    assert main([*shlex.split(command)[3:], "--device=cpu", f"--artifacts={store.root}"]) == 0
    again = next(one.blocks for one in fill.fill(read_store.read(store, num=4, num_often=0), only=("sanity",)))
    assert [type(block) for block in again[:4]] == [Heading, Text, Figures, Table]


def test_faithfulness_shows_every_area_beside_its_controls(recorded, filled):
    asked = comparison.faithfulness(recorded.store, ["tiles-test_resnet"], comparison.Options(num=2))
    table, figures = only(filled["faithfulness"], Table), only(filled["faithfulness"], Figures)
    assert [row[3] for row in table.rows] == [asked.interval(0, test, "own").text() for test in asked.tests]
    assert [row[4] for row in table.rows] == [asked.interval(0, test, "random").text() for test in asked.tests]
    assert len(figures.legend) == len(comparison.MAPS) and len(figures.figures) == 3
    assert only(filled["faithfulness"], Text).text == asked.verdict(0)


def test_sanity_shows_the_likeness_after_each_block_and_the_verdict(recorded, filled):
    asked = comparison.sanity(recorded.store, ["tiles-test_resnet"], comparison.Options(num=2))
    table = only(filled["sanity"], Table)
    blocks = asked.blocks(0)
    assert [row[1:3] for row in table.rows[: len(blocks)]] == [
        (block, asked.after(0, "spearman", block).text()) for block in blocks
    ]
    assert only(filled["sanity"], Text).text == asked.verdict(0)


def test_stability_puts_noise_beside_what_training_still_changed(recorded, filled):
    settling = comparison.through_training(recorded.runs[0].run)
    (row,) = only(filled["stability"], Table).rows
    steady = comparison.stability(recorded.store, ["tiles-test_resnet"], comparison.Options(num=2))
    assert row[1] == steady.interval("max_sensitivity", 0).text()
    assert row[2] == settling.interval("spearman", 0).text()
    assert row[4] == settling.interval("spearman", EPOCHS - 1).text()


def test_maps_on_masks_stand_beside_chance_also_by_epoch(recorded, filled):
    (part,) = recorded.parts
    masks = np.asarray(part.samples.split.masks[:32])
    assert part.mask_share() == masks.mean() == pytest.approx(16 / 256)
    with np.load(recorded.runs[0].run.folder / "film" / "0001.npz") as frame:
        maps = np.abs(frame["attribution"]).max(axis=1)
    mass = (maps * masks).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    np.testing.assert_allclose(part.settling(recorded.runs[0]).on_mask["mass"][1], mass, rtol=1e-5)
    table, figures = only(filled["localization"], Table), only(filled["localization"], Figures)
    assert table.rows[-1][:3] == ("chance", "0.06", "0.06")
    assert "chance" in figures.legend[-1][1] and len(figures.figures) == 2


def test_without_masks_there_is_no_section_of_localization(store):
    found = read_store.read(store, num=4, num_often=0)
    dots = [part for part in found.parts if part.dataset == "dots"]
    assert dots[0].samples.split.masks is None and np.isnan(dots[0].mask_share())
    page = html.render(found, fill.fill(found, only=("localization",)))
    assert '<section id="localization">' in page and "<h3>dots" not in page
