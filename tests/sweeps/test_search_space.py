"""Every distribution that W&B documents draws what its name says, judged by scipy and by hand."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from cvx.sweeps.search_space import KINDS, parameter

LOW, HIGH = 0.01, 10.0
CONTINUOUS = {
    "uniform": ({"min": -1.0, "max": 3.0}, stats.uniform(-1, 4)),
    "log_uniform": ({"min": -2.0, "max": 1.0}, stats.loguniform(math.exp(-2), math.exp(1))),
    "log_uniform_values": ({"min": LOW, "max": HIGH}, stats.loguniform(LOW, HIGH)),
    "inv_log_uniform": ({"min": -2.0, "max": 1.0}, stats.loguniform(math.exp(-1), math.exp(2))),
    "inv_log_uniform_values": ({"min": LOW, "max": HIGH}, stats.loguniform(LOW, HIGH)),
    "normal": ({"mu": 2.0, "sigma": 0.5}, stats.norm(2, 0.5)),
    "log_normal": ({"mu": -1.0, "sigma": 0.7}, stats.lognorm(0.7, scale=math.exp(-1))),
    "beta": ({"a": 2.0, "b": 5.0}, stats.beta(2, 5)),
}


def draws(given, num=4000):
    one, source = parameter("x", given), random.Random(0)
    return [one.value(one.at(source.random())) for _ in range(num)]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_continuous_distribution_is_what_scipy_calls_by_that_name(name):
    spec, oracle = CONTINUOUS[name]
    assert stats.kstest(draws({"distribution": name, **spec}), oracle.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", [name for name in CONTINUOUS if not name.startswith("inv_")])
@pytest.mark.parametrize("q", [0.25, 1])
def test_a_quantized_distribution_has_the_mass_of_each_cell_at_its_middle(name, q):
    spec, oracle = CONTINUOUS[name]
    drawn = draws({"distribution": f"q_{name}", "q": q, **spec}, num=8000)
    assert all(isinstance(value, int) for value in drawn) == isinstance(q, int)
    cells, counts = np.unique(np.round(np.array(drawn) / q), return_counts=True)
    assert np.allclose(np.array(drawn) / q, np.round(np.array(drawn) / q), atol=1e-9)
    expected = oracle.cdf((cells + 0.5) * q) - oracle.cdf((cells - 0.5) * q)
    assert np.abs(counts / len(drawn) - expected).max() < 0.03 and expected.sum() > 0.99


def test_all_documented_distributions_are_known_and_tested():
    continuous = set(CONTINUOUS) | {f"q_{name}" for name in CONTINUOUS if not name.startswith("inv_")}
    assert set(KINDS) == continuous | {"constant", "categorical", "categorical_w_probabilities", "int_uniform"}


def test_int_uniform_draws_both_ends_and_each_number_alike():
    drawn = draws({"min": 3, "max": 6})
    assert set(drawn) == {3, 4, 5, 6} and all(type(value) is int for value in drawn)
    assert stats.chisquare(np.unique(drawn, return_counts=True)[1]).pvalue > 0.01


def test_choices_are_drawn_alike_or_by_their_probabilities():
    assert stats.chisquare(np.unique(draws({"values": [1, 2, 3]}), return_counts=True)[1]).pvalue > 0.01
    drawn = draws({"values": ["a", "b", "c"], "probabilities": [0.5, 0.0, 0.5]})
    assert set(drawn) == {"a", "c"} and abs(drawn.count("a") / len(drawn) - 0.5) < 0.03
    assert draws({"distribution": "categorical", "values": [1, 2], "probabilities": [0, 1]}, 50) == [2] * 50


def test_a_choice_keeps_its_type():
    assert [parameter("x", {"values": [True, 1, 1.0, "1"]}).value(i) for i in range(4)] == [True, 1, 1.0, "1"]
    assert type(parameter("x", {"value": 0.5}).value(0)) is float


@pytest.mark.parametrize(
    ("given", "inferred"),
    [
        ({"value": 1}, "constant"),
        ({"values": [1]}, "categorical"),
        ({"values": [1], "probabilities": [1]}, "categorical_w_probabilities"),
        ({"min": 1, "max": 2}, "int_uniform"),
        ({"min": 1.0, "max": 2.0}, "uniform"),
    ],
)
def test_a_distribution_that_is_not_named_is_inferred(given, inferred):
    assert parameter("x", given).distribution == inferred


@pytest.mark.parametrize("name", ["normal", "log_normal", "beta"])
def test_the_outermost_quantiles_are_finite(name):
    one = parameter("x", {"distribution": name})
    assert all(math.isfinite(one.value(u)) for u in (0.0, 1.0))


def test_values_drawn_stay_inside_min_and_max():
    one = parameter("x", {"distribution": "log_uniform_values", "min": 1e-5, "max": 0.1})
    assert one.value(0.0) >= 1e-5 and one.value(1.0) <= 0.1


def test_a_grid_visits_every_value_once_and_in_order():
    assert parameter("x", {"values": [3, 1, 3]}).grid() == (3, 1)
    assert parameter("x", {"min": 1, "max": 4}).grid() == (1, 2, 3, 4)
    assert parameter("x", {"distribution": "q_uniform", "min": 0, "max": 0.3, "q": 0.1}).grid() == (0, 0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "expected `value`"),
        ({}, "or a `distribution`"),
        ({"parameters": {"lr": {"value": 1}}}, "nested parameters are not supported"),
        ({"distribution": "log_unifrom", "min": 1, "max": 2}, "did you mean 'log_uniform'"),
        ({"values": [1], "min": 2}, "'min' is no key of categorical"),
        ({"min": 1.0}, "uniform needs max"),
        ({"min": 1, "max": 2.5}, "write 1.0 and 2.5"),
        ({"min": 3.0, "max": 2.0}, "min must not be above max"),
        ({"min": "1e-5", "max": 0.1}, "write a decimal point"),
        ({"distribution": "log_uniform_values", "min": 0.0, "max": 1.0}, "needs a min above 0"),
        ({"distribution": "log_uniform_values", "min": "1e-5", "max": 1.0}, "YAML takes 1e-5 for text"),
        ({"distribution": "log_uniform", "min": 1.0, "max": 1000.0}, "exponents of e"),
        ({"distribution": "int_uniform", "min": 1, "max": 2.5}, "must be a whole number"),
        ({"distribution": "q_normal", "q": 0}, "q must be above 0"),
        ({"distribution": "normal", "sigma": -1}, "sigma must not be negative"),
        ({"values": []}, "at least one value"),
        ({"values": [1, 2], "probabilities": [1.0]}, "as long as values"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "sum to 1"),
    ],
)
def test_what_is_no_distribution_is_refused_in_words(given, said):
    with pytest.raises(ValueError, match=r"parameters\.x: ") as error:
        parameter("x", given)
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("given", [{"min": 0.0, "max": 1.0}, {"distribution": "normal"}, {"min": 0, "max": 10**9}])
def test_a_grid_of_uncountable_values_is_refused(given):
    with pytest.raises(ValueError, match="method random"):
        parameter("x", given).grid()
