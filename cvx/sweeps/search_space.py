"""Distributions that a sweep file can draw a parameter from: W&B's names, W&B's meanings.

Every continuous distribution is written as its quantile function. A search then sees a number in (0, 1), in which
the file's distribution is the uniform one; so one sampler serves them all.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from statistics import NormalDist
from typing import Any

Spec = Mapping[str, Any]
Quantile = Callable[[float, Spec], float]

EDGE = 1e-9
"""The outermost quantile that is drawn of a distribution without ends; beyond lie infinities."""
LARGEST_EXPONENT = 700
"""e to the power of more is no float."""
MAX_POINTS = 100_000
"""Values of one parameter that a grid holds at most."""


def is_number(value: object) -> bool:
    """Tell a number that a float can hold from anything else, such as nan, a truth value or ten to the power of 400."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def whole(value: object) -> int | None:
    """Return a whole number, which JSON's schemas let be written 2.0 as well as 2; None for anything else."""
    return int(value) if is_number(value) and value == int(value) else None  # type: ignore[call-overload]


def _between(u: float, low: float, high: float) -> float:
    return low + u * (high - low)


def _uniform(u: float, spec: Spec) -> float:
    return _between(u, spec["min"], spec["max"])


def _log_uniform(u: float, spec: Spec) -> float:
    return math.exp(_uniform(u, spec))


def _log_uniform_values(u: float, spec: Spec) -> float:
    value = math.exp(_between(u, math.log(spec["min"]), math.log(spec["max"])))
    return min(max(value, spec["min"]), spec["max"])


def _inv_log_uniform(u: float, spec: Spec) -> float:
    return math.exp(-_uniform(1 - u, spec))


def _normal(u: float, spec: Spec) -> float:
    return spec["mu"] + spec["sigma"] * NormalDist().inv_cdf(u)


def _log_normal(u: float, spec: Spec) -> float:
    return math.exp(_normal(u, spec))


def _beta(u: float, spec: Spec) -> float:
    from scipy.special import betaincinv

    return float(betaincinv(spec["a"], spec["b"], u))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A distribution's keys, and its quantile function where it is continuous."""

    needs: tuple[str, ...]
    defaults: Mapping[str, float] = dataclasses.field(default_factory=dict)
    quantile: Quantile | None = None


_RANGE, _BELL, _SHAPE = ("min", "max"), {"mu": 0.0, "sigma": 1.0}, {"a": 1.0, "b": 1.0}
_CONTINUOUS = {
    "uniform": Kind(_RANGE, quantile=_uniform),
    "log_uniform": Kind(_RANGE, quantile=_log_uniform),
    "log_uniform_values": Kind(_RANGE, quantile=_log_uniform_values),
    "inv_log_uniform": Kind(_RANGE, quantile=_inv_log_uniform),
    # log(1/x) uniform between log(1/max) and log(1/min) is log(x) uniform between log(min) and log(max)
    "inv_log_uniform_values": Kind(_RANGE, quantile=_log_uniform_values),
    "normal": Kind((), _BELL, _normal),
    "log_normal": Kind((), _BELL, _log_normal),
    "beta": Kind((), _SHAPE, _beta),
}
KINDS: dict[str, Kind] = {
    "constant": Kind(("value",)),
    "categorical": Kind(("values",)),
    "categorical_w_probabilities": Kind(("values", "probabilities")),
    "int_uniform": Kind(_RANGE),
    **_CONTINUOUS,
    **{
        f"q_{name}": Kind(kind.needs, {**kind.defaults, "q": 1}, kind.quantile)
        for name, kind in _CONTINUOUS.items()
        if not name.startswith("inv_")
    },
}
"""Every distribution that W&B documents, by its name there."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a sweep: its name, its distribution and the distribution's numbers."""

    name: str
    distribution: str
    spec: Spec

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """Return the values it chooses from, or None if it draws numbers."""
        if self.distribution == "constant":
            return (self.spec["value"],)
        return tuple(self.spec["values"]) if "values" in self.spec else None

    def value(self, drawn: float) -> Any:
        """Turn what a search drew into the parameter's value.

        Args:
            drawn: The choice's position, or the quantile in [0, 1].
        """
        if self.choices is not None:
            return self.choices[int(drawn)]
        if self.distribution == "int_uniform":
            count = self.spec["max"] - self.spec["min"] + 1
            return self.spec["min"] + min(int(drawn * count), count - 1)
        quantile = KINDS[self.distribution].quantile
        assert quantile is not None
        drawn = drawn if "min" in self.spec else min(max(drawn, EDGE), 1 - EDGE)
        value = quantile(drawn, self.spec)
        return _quantized(value, self.spec["q"]) if "q" in self.spec else value

    def at(self, u: float) -> float:
        """Return what `value` takes for a uniform number: weighted choices fall out by their probabilities."""
        if self.choices is None:
            return u
        weights = self.spec.get("probabilities") or [1 / len(self.choices)] * len(self.choices)
        passed = 0.0
        for position, weight in enumerate(weights):
            passed += weight
            if u < passed:
                return position
        return max(position for position, weight in enumerate(weights) if weight > 0)

    def grid(self) -> tuple[Any, ...]:
        """Return the values that a grid search visits, in order, each once.

        Raises:
            ValueError: If the distribution has no countable values.
        """
        if self.distribution in ("constant", "categorical"):
            values: Iterable[Any] = self.choices or ()
        elif self.distribution == "int_uniform":
            low = self.spec["min"]
            values = range(low, low + self._counted(self.spec["max"] - low + 1))
        elif self.distribution == "q_uniform":
            q, low, high = self.spec["q"], self.spec["min"], self.spec["max"]
            places = range(self._counted(int((high - low) / q + 1e-9) + 1))
            values = [_quantized(low + i * q, q) for i in places]
        else:
            raise ValueError(
                f"parameters.{self.name}: method grid needs values, value, int_uniform or q_uniform,"
                f" got {self.distribution}; list `values` or take method random or bayes"
            )
        return tuple({repr(value): value for value in values}.values())

    def _counted(self, num: int) -> int:
        """Refuse more points than a grid holds before they are made."""
        if num > MAX_POINTS:
            raise ValueError(f"parameters.{self.name}: a grid of {num} values is no grid; take method random")
        return num

    def extremes(self) -> tuple[Any, ...]:
        """Return the values whose being allowed makes all others allowed: every choice, or both ends of a range."""
        if self.choices is not None:
            return self.choices
        return (self.value(0.0), self.value(1.0)) if "min" in self.spec else ()


def _quantized(value: float, q: float) -> float:
    """Round to a multiple of q; whole if q is, and without the tail that binary fractions leave."""
    rounded = round(value / q) * q
    return rounded if isinstance(q, int) else float(f"{rounded:.12g}")


def parameter(name: str, given: object) -> Parameter:
    """Read one entry below `parameters`.

    A distribution that is not named is inferred as W&B does: `value` is a constant, `values` a categorical (with
    `probabilities`, a weighted one), whole `min` and `max` an int_uniform, others a uniform.

    Raises:
        ValueError: If keys or numbers do not make a distribution; the message names the parameter.
    """
    where = f"parameters.{name}"
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected `value`, `values`, or `min` and `max`, got {given!r}")
    if "parameters" in given:
        raise ValueError(f"{where}: nested parameters are not supported, the fields are flat; write them one level up")
    distribution = _distribution(where, given)
    kind = KINDS[distribution]
    spec = {**kind.defaults, **{key: value for key, value in given.items() if key != "distribution"}}
    allowed = [*kind.needs, *kind.defaults]
    for key in spec:
        if key not in allowed:
            raise ValueError(f"{where}: {key!r} is no key of {distribution}; its keys: {', '.join(allowed)}")
    if missing := [key for key in kind.needs if key not in spec]:
        raise ValueError(f"{where}: {distribution} needs {' and '.join(missing)}")
    _check(where, distribution, spec)
    parameter = Parameter(name, distribution, spec)
    if parameter.choices is None:
        _check_reach(where, parameter)
    return parameter


def _check_reach(where: str, parameter: Parameter) -> None:
    """Refuse a distribution whose outermost values are beyond what a float can hold."""
    try:
        reach = [parameter.value(drawn) for drawn in (0.0, 1.0)]
    except OverflowError:
        reach = [math.inf]
    if not all(map(is_number, reach)):
        numbers = ", ".join(f"{key} {value}" for key, value in parameter.spec.items())
        raise ValueError(
            f"{where}: {parameter.distribution} with {numbers} reaches beyond the largest number; take less"
        )


def _distribution(where: str, given: Mapping[str, Any]) -> str:
    named = given.get("distribution")
    if named is None:
        return _inferred(where, given)
    if not isinstance(named, str) or named not in KINDS:
        import difflib

        near = difflib.get_close_matches(str(named), KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{where}: unknown distribution {named!r}{hint} Known: {', '.join(KINDS)}")
    return "categorical_w_probabilities" if named == "categorical" and "probabilities" in given else named


def _inferred(where: str, given: Mapping[str, Any]) -> str:
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical_w_probabilities" if "probabilities" in given else "categorical"
    if not {"min", "max"} & set(given):
        raise ValueError(
            f"{where}: expected `value`, `values`, `min` and `max`, or a `distribution`, got {dict(given)}"
        )
    ends = [given[key] for key in ("min", "max") if key in given]
    whole = [isinstance(end, int) and not isinstance(end, bool) for end in ends]
    if any(whole) and not all(whole):
        if not all(map(is_number, ends)):
            raise ValueError(f"{where}: {_not_a_number('min and max', ends)}")
        raise ValueError(
            f"{where}: min {ends[0]!r} and max {ends[1]!r} are not both whole or both decimal; write {float(ends[0])}"
            f" and {float(ends[1])} for a uniform distribution"
        )
    return "int_uniform" if all(whole) else "uniform"


def _check(where: str, distribution: str, spec: Spec) -> None:
    if "values" in spec or "value" in spec:
        return _check_choices(where, spec)
    for key, value in spec.items():
        whole = distribution == "int_uniform"
        if not is_number(value) or (whole and not isinstance(value, int)):
            wanted = "a whole number" if whole else "a number"
            raise ValueError(f"{where}: {key} must be {wanted}, {_not_a_number(key, value)}")
    if "min" in spec and not spec["min"] <= spec["max"]:
        raise ValueError(f"{where}: min must not be above max, got min {spec['min']} and max {spec['max']}")
    if distribution.endswith("_values") and spec["min"] <= 0:
        raise ValueError(f"{where}: {distribution} needs a min above 0, got {spec['min']}")
    for key in ("q", "a", "b"):
        if key in spec and spec[key] <= 0:
            raise ValueError(f"{where}: {key} must be above 0, got {spec[key]}")
    if spec.get("sigma", 0) < 0:
        raise ValueError(f"{where}: sigma must not be negative, got {spec['sigma']}")
    _check_exponents(where, distribution, spec)
    return None


def _not_a_number(key: str, value: object) -> str:
    hint = ""
    if isinstance(value, str) and "e" in value.lower():
        hint = f"; YAML takes {value} for text: write a decimal point, as in 1.0e-3"
    return f"got {value!r}{hint}"


def _check_exponents(where: str, distribution: str, spec: Spec) -> None:
    exponents = distribution in ("log_uniform", "q_log_uniform", "inv_log_uniform")
    if exponents and max(abs(spec["min"]), abs(spec["max"])) > LARGEST_EXPONENT:
        raise ValueError(
            f"{where}: min and max of {distribution} are exponents of e, got {spec['min']} and {spec['max']};"
            f" {distribution}_values takes the values themselves"
        )


def _check_choices(where: str, spec: Spec) -> None:
    if "value" in spec:
        return
    values = spec["values"]
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where}: values must be a list of at least one value, got {values!r}")
    if "probabilities" not in spec:
        return
    weights = spec["probabilities"]
    if not isinstance(weights, list) or len(weights) != len(values):
        raise ValueError(f"{where}: probabilities must be a list as long as values ({len(values)}), got {weights!r}")
    fine = all(isinstance(weight, int | float) and weight >= 0 for weight in weights)
    if not fine or not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ValueError(f"{where}: probabilities must be at least 0 and sum to 1, got {weights}")
