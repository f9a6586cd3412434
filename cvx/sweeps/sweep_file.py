"""Read and check a W&B sweep file: what is wrong is said before a trial starts."""

import dataclasses
import difflib
import hashlib
import json
import os
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvx import config
from cvx.config import RunOptions, TrainConfig
from cvx.files import read_yaml
from cvx.sweeps import command, search_space
from cvx.sweeps.hyperband import Hyperband, hyperband
from cvx.sweeps.search_space import Parameter

METHODS = ("grid", "random", "bayes")
KEYS = (
    *("program", "command", "method", "metric", "parameters", "early_terminate", "run_cap"),
    *("name", "description", "project", "entity", "apiVersion", "kind"),
)
METRIC_KEYS = ("name", "goal", "target")
W_AND_B_ONLY = ("job", "image_uri", "scheduler", "metrics", "controller")
LOGGED = (
    *("train/loss", "train/acc1", "train/grad_norm", "lr", "time/images_per_s"),
    *("val/loss", "val/acc1", "val/acc5", "val/ece"),
    *("maps/spearman_to_previous", "maps/ssim_to_previous"),
)
"""What training records while it runs, and a sweep can therefore look at."""
LOGGED_WITH_MASKS = ("maps/pointing", "maps/mass_on_mask", "maps/mask_share")
"""What it records besides of a dataset that knows which pixels decide the class."""
PLACES = ("config", "data", "device", "tags", "group", "notes", "wandb", "project", "save")
"""Flags of a place that a sweep may set; where the records lie and what is resumed is its own business."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a sweep looks at."""

    name: str
    maximize: bool
    target: float | None

    def better(self, a: float, b: float) -> bool:
        """Say whether a is better than b."""
        return a > b if self.maximize else a < b

    def best(self, values: Iterable[float]) -> float | None:
        """Return the best of some values, or None if there are none."""
        return (max if self.maximize else min)(values, default=None)

    def reached(self, value: float | None) -> bool:
        """Say whether a value is as good as the sweep's target, if it has one."""
        return self.target is not None and value is not None and not self.better(self.target, value)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep file's content."""

    file: Path
    method: str
    parameters: tuple[Parameter, ...]
    metric: Metric | None
    early_stop: Hyperband | None
    run_cap: int | None
    program: str
    command: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    """Keys that only mean something to W&B's own server."""

    @property
    def varied(self) -> tuple[Parameter, ...]:
        """Return the parameters that can take more than one value."""
        return tuple(
            parameter for parameter in self.parameters if parameter.choices is None or len(parameter.choices) > 1
        )

    @property
    def trains(self) -> bool:
        """Say whether the command is cvx's own training."""
        return command.trains(self.command, self.program)

    def fingerprint(self) -> dict[str, str]:
        """Return one hash per part that decides which trials there are and what they mean."""
        parts: dict[str, Any] = {
            "method": self.method,
            "metric": dataclasses.astuple(self.metric)[:2] if self.metric else None,
            "program": self.program,
            "command": self.command,
            **{
                f"parameters.{parameter.name}": [parameter.distribution, dict(parameter.spec)]
                for parameter in self.parameters
            },
        }
        return {name: _digest(part) for name, part in parts.items()}


def _digest(part: object) -> str:
    return hashlib.sha256(json.dumps(part, default=str).encode()).hexdigest()[:12]


def read(file: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        FileNotFoundError: If it does not exist; the message names those beside it.
        ValueError: If it is no sweep that can run here; the message names file and key, and says what to do.
    """
    if not file.is_file():
        beside = ", ".join(sorted(path.name for path in file.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"no sweep file {file}; files in {file.parent}: {beside}")
    content = read_yaml(file)
    try:
        if not isinstance(content, dict):
            raise ValueError(f"expected keys such as method and parameters, got {type(content).__name__}")
        sweep = _sweep(file, content)
        check(sweep)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return sweep


def _sweep(file: Path, content: Mapping[str, Any]) -> Sweep:
    _check_keys(content)
    method = content.get("method")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    metric = _metric(content.get("metric"))
    early_stop = hyperband(content["early_terminate"]) if content.get("early_terminate") is not None else None
    if metric is None and (method == "bayes" or early_stop):
        asking = "method bayes" if method == "bayes" else "early_terminate"
        raise ValueError(f"{asking} needs a metric with name and goal")
    return Sweep(
        file=file,
        method=method,
        parameters=_parameters(content.get("parameters"), method),
        metric=metric,
        early_stop=early_stop,
        run_cap=_run_cap(content.get("run_cap")),
        program=str(content.get("program", "")),
        command=command.items(content.get("command"), content.get("program")),
        ignored=tuple(f"metric.{key}" for key in content.get("metric") or () if key not in METRIC_KEYS),
    )


def _run_cap(given: object) -> int | None:
    cap = search_space.whole(given)
    if given is not None and (cap is None or cap < 1):
        raise ValueError(f"run_cap must be a whole number of at least 1, got {given!r}")
    return cap


def _check_keys(content: Mapping[str, Any]) -> None:
    for key in content:
        if key in W_AND_B_ONLY:
            raise ValueError(
                f"{key!r} needs W&B's own scheduler; a sweep that also runs here has `program` or `command`"
            )
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r}{near(key, KEYS)}")


def near(word: object, known: Iterable[str]) -> str:
    """Say which known word was perhaps meant, and which there are."""
    known = list(known)
    likeness = {candidate: difflib.SequenceMatcher(None, str(word), candidate).ratio() for candidate in known}
    nearest = max(known, key=lambda candidate: likeness[candidate])
    hint = f"; did you mean {nearest!r}?" if likeness[nearest] >= 0.6 else ";"
    return f"{hint} known: {', '.join(known)}"


def _metric(given: object) -> Metric | None:
    if given is None:
        return None
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ValueError(f"metric must have a name, for example `name: val/acc1`, got {given!r}")
    for key in given:
        if key not in (*METRIC_KEYS, "impute", "impute_while_running"):
            raise ValueError(f"metric: unknown key {key!r}{near(key, METRIC_KEYS)}")
    goal, target = given.get("goal", "minimize"), given.get("target")
    if goal not in ("minimize", "maximize"):
        raise ValueError(f"metric.goal must be minimize or maximize, got {goal!r}")
    if target is not None and not search_space.is_number(target):
        raise ValueError(f"metric.target must be a number, got {target!r}")
    return Metric(given["name"], goal == "maximize", target)


def _parameters(given: object, method: str) -> tuple[Parameter, ...]:
    if not isinstance(given, dict) or not given:
        raise ValueError(f"parameters must name at least one field, got {given!r}")
    parameters = tuple(search_space.parameter(str(name), spec) for name, spec in given.items())
    for parameter in parameters:
        if method == "grid":
            parameter.grid()
        if method == "bayes" and "probabilities" in parameter.spec:
            raise ValueError(
                f"parameters.{parameter.name}: probabilities hold for method random only; bayes weighs by itself"
            )
    return parameters


def check(sweep: Sweep) -> None:
    """Check what only cvx's own training can tell: field names, their values, and the metric's name.

    Raises:
        ValueError: If training would not take a parameter or does not record the metric.
    """
    if not sweep.trains:
        return
    if sweep.metric and sweep.metric.name not in (*LOGGED, *LOGGED_WITH_MASKS):
        raise ValueError(_unlogged(sweep.metric.name))
    for flag in sweep.command:
        if flag.startswith("--") and (name := flag[2:].partition("=")[0]) not in (*_fields(), *PLACES):
            raise ValueError(f"command: {_refusal(name)}")
    for parameter in sweep.parameters:
        if parameter.name not in _fields() and parameter.name not in PLACES:
            raise ValueError(f"parameters: {_refusal(parameter.name)}")
        for value in parameter.extremes():
            _check_value(parameter, value)


def _unlogged(name: str) -> str:
    if name.startswith("test/"):
        return f"metric.name {name!r}: nothing is chosen by test; take {name.replace('test/', 'val/', 1)!r}"
    return f"metric.name {name!r} is not recorded by training{near(name, LOGGED)}"


def _refusal(name: str) -> str:
    if name in {field.name for field in dataclasses.fields(RunOptions)}:
        return f"{name!r} is set by the sweep itself; leave it out"
    return f"unknown field {name!r}{near(name, [*_fields(), *PLACES])}"


def _fields() -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(TrainConfig)}


_PLACE_TYPES = {field.name: field.type for field in dataclasses.fields(RunOptions) if field.name in ("save", "wandb")}
"""Of the flags of a place that take few words; the others take one text."""


def _check_value(parameter: Parameter, value: object) -> None:
    where = f"parameters.{parameter.name}"
    if parameter.name == "config":
        try:
            config.preset(Path(str(value)))
        except OSError as error:
            raise ValueError(f"{where}: {error}") from None
        return
    kind: Any = _fields().get(parameter.name) or _PLACE_TYPES.get(parameter.name, str)
    if not _fits(value, kind):
        names = typing.get_args(kind)
        wanted = f"one of {', '.join(map(str, names))}" if names else f"of type {kind.__name__}"
        hint = "; write a decimal point, as in 1.0e-3" if isinstance(value, str) and kind is float else ""
        hint = "; take int_uniform, q_uniform or values" if kind is int and isinstance(value, float) else hint
        raise ValueError(f"{where}: a value must be {wanted}, got {value!r}{hint}")
    if parameter.name in PLACES:
        return
    try:
        TrainConfig(**{parameter.name: value})  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _fits(value: object, kind: Any) -> bool:
    if names := typing.get_args(kind):
        return value in names
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def argv(sweep: Sweep, values: Mapping[str, Any], json_file: Path) -> list[str]:
    """Return the command line of one trial."""
    return command.expand(sweep.command, sweep.program, values, json_file, os.environ)


def differences(known: Mapping[str, str], now: Mapping[str, str]) -> Sequence[str]:
    """Name the parts of two fingerprints that differ."""
    return [name for name in dict.fromkeys([*known, *now]) if known.get(name) != now.get(name)]
