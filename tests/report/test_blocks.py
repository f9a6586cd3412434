"""The parts a report is made of, each by itself: numbers, commands, drawings, maps of known strength."""

import dataclasses
import json
import math
import shlex
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from small_store import pixels
from torch import nn

from cvx import config
from cvx.attribution import vanilla_gradient
from cvx.maps.explanation import Explanation
from cvx.models import Classifier
from cvx.plotting.colors import colorize
from cvx.report import charts, snapshot
from cvx.report.blocks import Command, Table, Text
from cvx.report.markdown import markdown
from cvx.report.sections import gradient_step_by_step, maps, reproduce, sweeps, training_results
from cvx.report.snapshot import DatasetResults, ExplainedModel, RunRecord
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import Card
from cvx.store.runs import Run


def test_mean_and_range_of_known_numbers():
    assert training_results.spread([0.25, 0.75]) == "50.00 % [25.00, 75.00]"
    assert training_results.spread([math.nan, 0.5]) == "50.00 %"
    assert training_results.spread([math.nan]) == training_results.spread([]) == "–"


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
    view = Explanation(name, card, images, logits, np.zeros(num, np.int64), attribution, "logit", "gradient")
    entry = ModelEntry(name, 0, Store("nowhere").root, card=card)
    return ExplainedModel(entry, card, view)


def test_on_one_scale_a_map_of_half_the_strength_has_the_color_of_one_half():
    full = np.zeros((2, 1, 8, 8), np.float32)
    full[:, 0, 3, 3] = [1.0, -1.0]
    part = DatasetResults("d", None, (), (looker("strong", full), looker("weak", full / 2)))
    grid = maps.map_grid(part, [0, 1], "g")
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


def test_of_a_linear_model_the_gradient_foretells_every_change_exactly():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    model = Classifier(net, {"name": "linear", "image_size": 4, "in_chans": 1, "mean": [0.5], "std": [0.25]}).eval()
    inputs = torch.zeros(1, 1, 4, 4)
    _, gradient = vanilla_gradient(model, inputs, torch.zeros(1, dtype=torch.int64))
    found = gradient_step_by_step.trials(model, looker("linear", gradient.numpy()), 0)
    assert len(found) == 6 and all(one.foretold > 0 for one in found)
    assert [one.measured for one in found] == pytest.approx([one.foretold for one in found], rel=1e-5)
    strongest = float(gradient.abs().max())
    assert found[0].foretold == pytest.approx(strongest / 255) and found[2].foretold == pytest.approx(
        strongest * 32 / 255
    )
    assert found[4].foretold == pytest.approx(float(gradient.abs().sum()) / 255)


def past(**changed):
    full = dataclasses.asdict(config.TrainConfig(**changed))
    return RunRecord(Run(Path("nowhere")), full, {}, None, ())


@pytest.mark.parametrize(
    "changed",
    [
        {"dataset": "digits", "model": "resnet18"},
        {"dataset": "shapes32", "model": "vit_mini", "lr": 1.25e-05, "augment": False, "seed": 7, "epochs": 3},
    ],
)
def test_the_command_that_reproduces_a_run_parses_back_into_its_config(changed):
    one = past(**changed)
    line = shlex.split(reproduce.command(one, dataclasses.asdict(config.TrainConfig())))
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
    blocks = sweeps.sweeps(snapshot.StoreSnapshot(Store(tmp_path), (), (), 1, torch.device("cpu"), {}))
    assert [block.text for block in blocks if isinstance(block, Command)] == ["python -m cvx train --lr=0.01"]
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert [row[0] for row in table.rows] == ["0", "1"]  # the best first


def test_a_drawing_is_xml_whose_ink_follows_the_page_and_whose_names_stay_as_they_are():
    line = charts.Curve(*(np.arange(3.0) for _ in range(4)), color=1)
    drawn = charts.curves([line], r"$\alpha <b> & </svg>", "one")
    texts = [element.text for element in ElementTree.fromstring(drawn).iter() if element.tag.endswith("text")]
    assert r"$\alpha <b> & </svg>" in texts
    assert "var(--c1)" in drawn and "var(--soft)" in drawn and "#0400" not in drawn and "#02020" not in drawn
    again, other = charts.curves([line], "x", "one"), charts.curves([line], "x", "two")
    assert drawn == charts.curves([line], r"$\alpha <b> & </svg>", "one") and again != other


def test_markdown_escapes_names_and_fences_code():
    table = Table(("a|b",), (("<i>*x*|y",),))
    (text,) = markdown([table])
    assert text.splitlines()[0] == r"| a\|b |" and text.splitlines()[2] == r"| \<i\>\*x\*\|y |"
    (code,) = markdown([Command("echo ```")])
    assert code.startswith("````\n")
    assert list(markdown([Text("a\nb", "finding")])) == ["> a b"]
