"""The two pictures of a sweep: places on the axes by hand, importances on a function whose shares are known."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from cvx.sweeps import plots
from cvx.sweeps.search_space import parameter
from cvx.sweeps.sweep_file import Metric

UP = Metric("val/acc1", maximize=True, target=None)


def places(given, values):
    return plots.axis(parameter("x", given), values).positions.tolist()


@pytest.mark.parametrize(
    ("given", "values", "expected"),
    [
        ({"min": 0.0, "max": 4.0}, [0.0, 1.0, 4.0], [0, 0.25, 1]),
        ({"min": 0, "max": 4}, [2], [0.5]),
        ({"distribution": "log_uniform_values", "min": 0.01, "max": 1.0}, [0.01, 0.1, 1.0], [0, 0.5, 1]),
        ({"distribution": "log_uniform", "min": -2.0, "max": 2.0}, [1.0, math.e], [0.5, 0.75]),
        ({"distribution": "inv_log_uniform", "min": 0.0, "max": 2.0}, [1.0, math.exp(-1), math.exp(-2)], [1, 0.5, 0]),
        ({"distribution": "normal"}, [-1.0, 0.0, 3.0], [0, 0.25, 1]),
        ({"distribution": "normal"}, [2.0, 2.0], [0.5, 0.5]),
        ({"values": ["a", "b", True]}, [True, "a", "b"], [1, 0, 0.5]),
        ({"value": 3}, [3, 3], [0.5, 0.5]),
    ],
)
def test_values_stand_where_they_belong(given, values, expected):
    assert places(given, values) == pytest.approx(expected)


def test_a_logarithmic_axis_is_labelled_with_values_not_exponents():
    one = plots.axis(parameter("lr", {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0}), [0.1])
    assert [label for _, label in one.ticks] == ["0.0001", "0.001", "0.01", "0.1", "1"]


def axes(num=60, seed=0):
    random = np.random.default_rng(seed)
    drawn = random.random((3, num))
    number, other = (
        plots.axis(parameter(n, {"min": 0.0, "max": 1.0}), d.tolist()) for n, d in zip("ab", drawn, strict=False)
    )
    words = ["low" if value < 0.5 else "high" for value in drawn[2]]
    return [number, other, plots.axis(parameter("c", {"values": ["high", "low"]}), words)]


def test_importance_finds_what_the_score_was_made_of():
    number, other, choice = axes()
    scores = -3 * number.positions + 1.0 * choice.positions
    found = {one.name: one for one in plots.importance([number, other, choice], scores)}
    # variances: 9/12 for a, 1/4 for c, nothing for b
    assert found["a"].share == pytest.approx(0.75, abs=0.12) and found["c"].share == pytest.approx(0.25, abs=0.12)
    assert found["b"].share < 0.06 and sum(one.share for one in found.values()) == pytest.approx(1)
    assert found["a"].correlation < -0.7 and abs(found["b"].correlation) < 0.35 and found["c"].correlation is None


def test_nothing_is_said_of_few_or_equal_scores_or_of_what_did_not_move():
    all_axes = axes()
    assert plots.importance(all_axes, np.ones(60)) is None
    few = [plots.axis(parameter("a", {"min": 0.0, "max": 1.0}), [0.1, 0.2])]
    assert plots.importance(few, np.array([1.0, 2.0])) is None
    still = plots.axis(parameter("d", {"value": 1}), [1] * 60)
    found = plots.importance([*all_axes, still], all_axes[0].positions)
    assert found[-1].name in "bcd" and next(one.share for one in found if one.name == "d") == 0


@pytest.mark.parametrize("full", [np.ones(60, bool), np.arange(60) % 2 == 0, np.zeros(60, bool)])
def test_pictures_are_drawn(full):
    all_axes = axes()
    scores = all_axes[0].positions
    for picture in (
        plots.parallel_coordinates(all_axes, scores, full, UP),
        plots.parallel_coordinates(all_axes, np.zeros(60), full, UP),
        plots.importance_figure(plots.importance(all_axes, scores), 60, "val/acc1"),
    ):
        with Image.open(io.BytesIO(picture)) as image:
            assert image.format == "PNG" and min(image.size) > 200


def test_the_best_line_is_the_best_finished_trial():
    scores = np.array([0.9, 0.5, 0.7])
    assert plots._best(scores, np.array([False, True, True]), UP) == 2
    assert plots._best(scores, np.array([True, True, True]), Metric("loss", False, None)) == 1
    assert plots._best(scores, np.zeros(3, bool), UP) == 0
