"""Figures say what was asked, of whom, and on what scale."""

import numpy as np
import pytest
from small_images import holds
from small_looks import maps, spot, view_of

from cvx.attribution import options
from cvx.maps import figures
from cvx.maps.class_summary import summarize_class
from cvx.plotting import labels
from cvx.plotting.colors import colorize, enlarge


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (1e-9, "0.1 %"), (0.99999, "99.9 %"), (0.5, "50.0 %"), (0.1234, "12.3 %")],
)
def test_only_a_true_zero_or_one_reads_as_such(share, text):
    assert labels.percent(share) == text


def test_every_score_method_and_reduction_has_words():
    from cvx.attribution import METHODS, REDUCTIONS, SCORES

    assert set(options.SCORE_WORDS) == set(SCORES)
    assert set(options.METHOD_WORDS) == set(METHODS)
    assert set(options.REDUCTION_WORDS) == set(REDUCTIONS)


def test_a_slope_is_per_unit_pixel_and_a_share_of_the_score_is_not():
    assert options.unit("logit", "gradient") == "logit per unit pixel"
    assert options.unit("logprob", "smoothgrad") == "log-probability per unit pixel"
    assert options.unit("margin", "integrated_gradients") == "centered logit"


def test_a_title_names_label_prediction_probability_and_the_score_that_is_explained():
    view = view_of(np.ones((1, 1, 4, 4)), [[0.0, np.log(3), -50.0]], np.array([0]))
    assert figures._title(view, 0, "cat") == ["✗ label cat", "predicted dog, 75.0 %", "a:v0: logit of cat, 25.0 %"]
    view = view_of(np.ones((1, 1, 4, 4)), [[0.0, np.log(3), -50.0]], np.array([1]))
    assert figures._title(view, 0, "dog") == ["✓ label dog", "predicted dog, 75.0 %", "a:v0: logit of dog"]


@pytest.mark.parametrize("reduction", ["max", "signed"])
def test_a_figure_shows_the_map_on_its_own_scale(reduction):
    attribution = np.array([[0.0, 3.0], [-1.5, 6.0]])[None, None]
    figure = figures.image_figure(view_of(attribution), 0, "cat", reduction)
    drawn = attribution[0, 0] / 6 if reduction == "signed" else np.abs(attribution[0, 0]) / 6
    colors = colorize(drawn.astype(np.float32), reduction == "signed")
    assert holds(figure, enlarge(colors, 192))


def test_mean_maps_of_a_page_are_on_one_scale_in_multiples_of_a_uniform_map():
    sharp = summarize_class(view_of(maps(spot(4, (1, 1)))), np.arange(1), "cat")
    flat = summarize_class(view_of(maps(np.ones((4, 4)))), np.arange(1), "cat")
    page = figures.class_page([sharp, flat], "pets")
    factor = 196 // 4
    for expected in (spot(4, (1, 1)), np.full((4, 4), 1 / 16)):
        colors = colorize(expected.astype(np.float32))
        assert holds(page, colors.repeat(factor, 0).repeat(factor, 1))


def test_a_page_of_zero_maps_is_drawn():
    views = [
        summarize_class(view_of(np.zeros((2, 1, 4, 4))), np.arange(2), "cat", reduction=name)
        for name in ("max", "signed")
    ]
    for view in views:
        assert figures.class_page([view], "pets").shape[2] == 3
