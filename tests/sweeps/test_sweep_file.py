"""Sweep files: the repository's own are right, and wrong ones are refused before a trial starts."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from small_store import ROOT

from cvx.config import TrainConfig, parse
from cvx.sweeps import command
from cvx.sweeps.hyperband import Hyperband, hyperband
from cvx.sweeps.sweep_file import PLACES, differences, read

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
GOOD = {
    "program": "cvx/__main__.py",
    "command": ["${env}", "${interpreter}", "-m", "cvx", "train", "${args}"],
    "method": "random",
    "metric": {"name": "val/acc1", "goal": "maximize"},
    "parameters": {"lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}},
}


def write(folder, **changes):
    file = folder / "sweep.yaml"
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_sweeps_that_the_readme_promises_are_there():
    assert {"vit_lr", "resnet18_recipe", "architectures", "starter_lr"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_sweep_file_of_the_repository_is_right_and_training_takes_its_trials(file):
    sweep = read(file)
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert sweep.trains and sweep.metric.name.startswith("val/")
    assert {one.name for one in sweep.parameters} <= fields | set(PLACES)
    ends = {one.name: (one.extremes()[0], one.extremes()[-1]) for one in sweep.parameters}
    for end in (0, 1):
        line = command.expand(sweep.command, sweep.program, {k: v[end] for k, v in ends.items()}, Path("x"), {})
        config, place = parse(line[line.index("train") + 1 :])
        for name in fields & set(ends):
            assert getattr(config, name) == ends[name][end]
        assert place.save in ("best", "none")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_sweep_file_opens_with_what_it_is_for_and_both_commands(file):
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert any(f"wandb sweep sweeps/{file.name}" in line for line in head)
    assert any(f"python -m cvx sweep sweeps/{file.name}" in line for line in head)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methd": "grid"}, "unknown key 'methd'; did you mean 'method'?"),
        ({"method": "genetic"}, "method must be one of grid, random, bayes"),
        ({"job": "x"}, "W&B's own scheduler"),
        ({"metric": {"name": "val/acc"}}, "not recorded by training; did you mean 'val/acc1'"),
        ({"metric": {"name": "test/acc1"}}, "nothing is chosen by test"),
        ({"metric": {"goal": "maximize"}}, "metric must have a name"),
        ({"metric": {"name": "val/acc1", "goal": "maximise"}}, "minimize or maximize"),
        ({"metric": {"name": "val/acc1", "gaol": "maximize"}}, "did you mean 'goal'"),
        ({"metric": None, "method": "bayes"}, "method bayes needs a metric"),
        ({"metric": None, "early_terminate": {"type": "hyperband", "min_iter": 1}}, "needs a metric"),
        ({"run_cap": 0}, "run_cap must be a whole number of at least 1"),
        ({"parameters": {}}, "at least one field"),
        ({"parameters": {"learning_rate": {"value": 0.1}}}, "unknown field 'learning_rate'"),
        ({"parameters": {"bach_size": {"value": 1}}}, "did you mean 'batch_size'"),
        ({"parameters": {"artifacts": {"value": "x"}}}, "set by the sweep itself"),
        ({"parameters": {"lr": {"values": [0.1, "1e-3"]}}}, "write a decimal point"),
        ({"parameters": {"lr": {"values": [0.1, 0]}}}, "lr must be positive"),
        ({"parameters": {"mixup": {"min": -1.0, "max": 1.0}}}, "mixup must be between"),
        ({"parameters": {"batch_size": {"min": 1.0, "max": 9.0}}}, "take int_uniform"),
        ({"parameters": {"precision": {"values": ["fp16"]}}}, "one of auto, bf16, fp32"),
        ({"parameters": {"augment": {"values": [1]}}}, "of type bool"),
        ({"parameters": {"config": {"value": "configs/nothing.yaml"}}}, "no preset configs/nothing.yaml"),
        ({"parameters": {"lr": {"min": 0.1, "max": 1.0}}, "method": "grid"}, "method grid needs values"),
        ({"parameters": {"lr": {"values": [1.0], "probabilities": [1]}}, "method": "bayes"}, "for method random only"),
        ({"command": ["cvx", "train", "--artefacts=x"]}, "unknown field 'artefacts'"),
        ({"command": ["${interpreter}", "${arg}"]}, "unknown macro ${arg}"),
        ({"command": ["x", "--all=${args}"]}, "must stand alone"),
        ({"command": "python train.py"}, "command must be a list"),
        ({"command": None, "program": None}, "program is missing"),
        ({"early_terminate": {"type": "envelope"}}, "must be hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "min_iter, or max_iter and s"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9}}, "min_iter, or max_iter and s"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1.5}}, "whole number"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}}, "above 1"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 2}}, "below 1"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "stricht": True}}, "unknown key 'stricht'"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": float("nan")}}, "above 1"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": float("inf")}}, "above 1"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9, "min_iter": 1}}, "got min_iter, max_iter"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9, "s": 2.5}}, "s must be a whole number"),
        ({"run_cap": 1.5}, "run_cap must be a whole number"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 10**400, "s": 1}}, "from 1 to 1,000,000"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9, "s": 10**12}}, "from 1 to 1,000,000"),
        ({"metric": {"name": "val/acc1", "target": float("nan")}}, "metric.target must be a number, got nan"),
        ({"command": ["python", ["-m", "cvx"]]}, "every item is one word or number, got ['-m', 'cvx']"),
        ({"parameters": {"lr": {"distribution": ["normal"]}}}, "unknown distribution ['normal']"),
        ({"parameters": {"lr": {"min": 0.1, "max": 10**400}}}, "got [0.1, 1000"),
        ({"parameters": {"lr": {"distribution": "normal", "mu": 10**400}}}, "mu must be a number"),
        ({"parameters": {"lr": {"distribution": "log_normal", "mu": 1000}}}, "beyond the largest number"),
        ({"parameters": {"lr": {"min": -1e308, "max": 1e308}}}, "beyond the largest number"),
        ({"parameters": {"lr": {"distribution": "q_normal", "q": 5e-324}}}, "beyond the largest number"),
        ({"parameters": {"seed": {"min": 0, "max": 10**30}}, "method": "grid"}, "is no grid"),
        (
            {"parameters": {"lr": {"distribution": "q_uniform", "min": 1, "max": 2, "q": 1e-13}}, "method": "grid"},
            "no grid",
        ),
        ({"parameters": {"tags": {"values": [["a", "b"]]}}}, "of type str, got ['a', 'b']"),
        ({"parameters": {"save": {"values": ["worst"]}}}, "one of best_last, best, none, got 'worst'"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_it(changes, said, tmp_path):
    file = write(tmp_path, **changes)
    with pytest.raises((ValueError, OSError)) as error:
        read(file)
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1
    assert str(file) in str(error.value)


def test_a_missing_file_names_those_beside_it_and_no_yaml_is_said(tmp_path):
    file = write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no sweep file .*nothing.yaml.*sweep.yaml"):
        read(tmp_path / "nothing.yaml")
    file.write_text("method: [")
    with pytest.raises(ValueError, match="not readable as YAML"):
        read(file)
    file.write_text("- 1")
    with pytest.raises(ValueError, match="expected keys such as"):
        read(file)


def test_keys_that_only_the_server_uses_are_taken_and_named(tmp_path):
    metric = {**GOOD["metric"], "impute": "best"}
    sweep = read(write(tmp_path, metric=metric, project="p", entity="e", name="n", description="d"))
    assert sweep.ignored == ("metric.impute",)


def test_another_program_may_have_any_parameter_and_metric(tmp_path):
    sweep = read(
        write(tmp_path, program="mine.py", command=None, metric={"name": "loss"}, parameters={"x": {"value": 1}})
    )
    assert not sweep.trains and not sweep.metric.maximize


def test_the_files_fingerprint_tells_which_part_changed(tmp_path):
    before = read(write(tmp_path)).fingerprint()
    same = read(write(tmp_path, run_cap=3, description="other")).fingerprint()
    other = read(write(tmp_path, parameters={"lr": {"value": 0.1}}, method="grid")).fingerprint()
    assert not differences(before, same) and set(differences(before, other)) == {"method", "parameters.lr"}


VALUES = {"lr": 1e-05, "on": True, "off": False, "name": "a b"}


@pytest.mark.parametrize(
    ("macro", "written"),
    [
        ("${args}", ["--lr=1e-05", "--on=True", "--off=False", "--name=a b"]),
        ("${args_no_hyphens}", ["lr=1e-05", "on=True", "off=False", "name=a b"]),
        ("${args_no_boolean_flags}", ["--lr=1e-05", "--on", "--name=a b"]),
        ("${args_no_equals}", ["--lr", "1e-05", "--on", "True", "--off", "False", "--name", "a b"]),
        ("${args_json}", ['{"lr": 1e-05, "on": true, "off": false, "name": "a b"}']),
        ("${program}", ["train.py"]),
        ("${interpreter}", [sys.executable]),
        ("${env}", ["/usr/bin/env"]),
        ("--root=${envvar:PLACE}/x", ["--root=here/x"]),
        ("plain", ["plain"]),
    ],
)
def test_macros_are_replaced_as_the_agent_does(macro, written):
    assert command.expand([macro], "train.py", VALUES, Path("unused"), {"PLACE": "here"}) == written


def test_the_macros_agree_with_wandbs_own_agent():
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    theirs = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in VALUES.items()}})
    for macro, ours in command.ARGUMENTS.items():
        assert ours(VALUES) == theirs[macro[2:-1]]
    assert list(command.DEFAULT) == utils.DEFAULT_SWEEP_COMMAND


def test_args_json_file_holds_the_values(tmp_path):
    path = tmp_path / "args" / "one.json"
    assert command.expand(["${args_json_file}"], "", VALUES, path, {}) == [str(path)]
    assert json.loads(path.read_text()) == VALUES


def test_an_unset_variable_is_said():
    with pytest.raises(ValueError, match="environment variable NOWHERE is not set"):
        command.expand(["${envvar:NOWHERE}"], "", {}, Path("x"), {})


@pytest.mark.parametrize(
    ("line", "program", "yes"),
    [
        ("${interpreter} -m cvx train ${args}", "", True),
        ("${interpreter} ${program} train ${args}", "cvx/__main__.py", True),
        ("${interpreter} ${program} ${args}", "train.py", False),
        ("python -m cvx evaluate", "", False),
    ],
)
def test_training_is_recognized(line, program, yes):
    assert command.trains(line.split(), program) == yes


def test_the_command_is_shown_as_a_person_types_it():
    assert shlex.join(command.shown(["/usr/bin/env", sys.executable, "-m", "cvx"])) == "python -m cvx"


@pytest.mark.parametrize(
    ("given", "bands"),
    [
        ({"max_iter": 27, "s": 2}, (3, 9)),
        ({"max_iter": 27.0, "s": 2.0}, (3, 9)),
        ({"max_iter": 27, "s": 2, "min_iter": 5}, (3, 9)),
        ({"max_iter": 10, "s": 9, "eta": 2}, (1, 2, 5)),
        ({"min_iter": 3, "eta": 1000}, (3, 3000)),
        ({"min_iter": 10, "s": 2, "eta": 100}, (10, 1000, 100_000)),
        ({"min_iter": 10, "s": 2.5, "eta": 1e308}, (10,)),
        ({"min_iter": 10, "eta": 1.001}, (10, 11)),
    ],
)
def test_the_bands_are_those_of_wandbs_public_controller(given, bands):
    assert hyperband({"type": "hyperband", **given}).bands == bands


def test_eta_however_near_to_one_makes_no_endless_list_of_bands():
    for given in ({"min_iter": 1}, {"max_iter": 1_000_000, "s": 1_000_000}):
        rule = hyperband({"type": "hyperband", "eta": 1 + 2**-52, **given})
        assert len(rule.bands) < 3
        assert not rule.stops([1.0], [[1.0]] * 1025, maximize=False)


def test_the_value_at_a_band_is_as_many_recorded_values_in():
    at_two = [[9, 3], [9, 4], [0, 5, 0], [9, 6, 0]]
    rule = hyperband({"type": "hyperband", "min_iter": 2, "eta": 2})
    assert rule.strict, "the public schema's default since April 2024"
    assert [rule.stops(one, at_two, maximize=False) for one in at_two] == [False, False, False, True]
    assert not rule.stops([9], [*at_two, [9]], maximize=False), "its first value is the untrained model's"


def test_hyperband_stops_what_is_not_among_the_best_at_its_band():
    rule = Hyperband((1, 2), eta=2, strict=False)
    histories = [[10, 9], [10, 10], [10, 8, 8], [10, 7, 7], [10, 6, 6]]
    assert [rule.stops(one, histories, maximize=False) for one in histories] == [True, True, False, False, False]
    turned = [[-value for value in one] for one in histories]
    assert [rule.stops(one, turned, maximize=True) for one in turned] == [True, True, False, False, False]


def test_one_bad_epoch_is_forgiven_unless_strict():
    histories = [[1, 9], [5, 5], [6, 6]]
    assert not Hyperband((2,), eta=2, strict=False).stops(histories[0], histories, maximize=False)
    assert Hyperband((2,), eta=2, strict=True).stops(histories[0], histories, maximize=False)


def test_a_lone_trial_and_one_before_its_first_band_go_on():
    rule = Hyperband((2,), eta=3, strict=True)
    assert not rule.stops([5, 5, 5], [[5, 5, 5]], maximize=False)
    assert not rule.stops([9], [[9], [1, 1, 1]], maximize=False)


def test_aliases_and_merge_keys_are_read(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "method: random\nrun_cap: 4.0\nmetric: {name: val/loss}\n"
        "parameters:\n  lr: &range {min: 0.1, max: 0.5}\n  weight_decay: *range\n  ema: {<<: *range, max: 0.9}\n"
        "command: [python, -m, cvx, train]\n"
    )
    sweep = read(file)
    assert sweep.run_cap == 4
    specs = {one.name: dict(one.spec) for one in sweep.parameters}
    half = {"min": 0.1, "max": 0.5}
    assert specs == {"lr": half, "weight_decay": half, "ema": {"min": 0.1, "max": 0.9}}
