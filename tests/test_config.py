"""Flags and presets become one config; what is wrong is named."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from cvx.config import RunOptions, TrainConfig, parse, preset


def test_flags_arrive_as_a_wandb_agent_sends_them():
    config, _ = parse(["--lr=1e-05", "--augment=False", "--pretrained=True", "--epochs=3"])
    assert (config.lr, config.augment, config.pretrained, config.epochs) == (1e-5, False, True, 3)


def test_a_flag_wins_over_a_preset_wherever_it_stands(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("lr: 1e-3\nepochs: 7\n")
    for argv in (
        ["--lr=0.5", f"--config={file}"],
        [f"--config={file}", "--lr=0.5"],
        ["--config", str(file), "--lr", "0.5"],
    ):
        config, _ = parse(argv)
        assert (config.lr, config.epochs) == (0.5, 7)


def test_of_two_presets_the_later_wins(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 1e-3\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("lr: 2e-3\n")
    config, _ = parse([f"--config={tmp_path / 'a.yaml'}", f"--config={tmp_path / 'b.yaml'}"])
    assert (config.lr, config.seed) == (2e-3, 1)


def test_a_number_without_a_dot_in_a_preset_is_a_number(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 1e-3\n")  # YAML 1.1 reads this as the string '1e-3'
    assert parse([f"--config={tmp_path / 'a.yaml'}"])[0].lr == 1e-3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate: 0.1\n", "unknown field 'learning_rate'"),
        ("lr: fast\n", "--lr"),
        ("lr: -1\n", "lr must be positive, got -1"),
        ("epochs: [1, 2]\n", "epochs must be one plain value"),
        ("seed: null\n", "seed must be one plain value"),
        ("- lr\n", "expected lines `field: value`, got list"),
        ("lr: [\n", "not readable as YAML"),
        ("stem: fancy\n", "--stem"),
        ("artifacts: here\n", "unknown field 'artifacts'"),
        ("lr: !!python/object/apply:os.system ['true']\n", "not readable as YAML"),
    ],
)
def test_a_wrong_preset_is_an_error_that_names_the_file(tmp_path, text, said):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        preset(file)
    assert str(file) in str(caught.value) and said in str(caught.value)


def test_a_missing_preset_names_those_beside_it(tmp_path):
    (tmp_path / "digits_resnet18.yaml").write_text("lr: 0.1\n")
    with pytest.raises(FileNotFoundError, match=r"no preset .*digits_resnet\.yaml.*digits_resnet18\.yaml"):
        preset(tmp_path / "digits_resnet.yaml")


@pytest.mark.parametrize("flag", ["--epoch=3", "--weight=0.1", "--nonsense=1"])
def test_abbreviations_and_unknown_flags_are_refused(flag, capsys):
    with pytest.raises(SystemExit) as caught:
        parse([flag])
    assert caught.value.code == 2
    assert flag.split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0.0),
        ("epochs", 0),
        ("batch_size", 0),
        ("val_fraction", 0.95),
        ("ema", 1.0),
        ("seed", -1),
        ("lr", float("nan")),
    ],
)
def test_values_out_of_range_are_refused_with_what_was_got(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*got"):
        TrainConfig(**{field: value})


def test_no_field_may_be_none_since_a_sweep_cannot_send_it():
    assert all(value is not None for value in dataclasses.asdict(TrainConfig()).values())


def test_the_key_is_the_same_for_the_same_config_and_differs_for_every_field():
    base = TrainConfig()
    changed = {
        bool: lambda x: not x,
        int: lambda x: x + 1,
        float: lambda x: x + 0.001,
        str: lambda x: {"auto": "fp32"}.get(x, x + "x"),
    }
    keys = {base.key}
    for field in dataclasses.fields(TrainConfig):
        value = getattr(base, field.name)
        other = "timm" if field.name == "stem" else changed[type(value)](value)
        keys.add(dataclasses.replace(base, **{field.name: other}).key)
    assert len(keys) == 1 + len(dataclasses.fields(TrainConfig))
    assert TrainConfig().key == base.key


def test_run_options_are_no_part_of_the_key(tmp_path):
    a, _ = parse(["--artifacts=a"])
    b, options = parse([f"--artifacts={tmp_path}", "--tags", "x", "y", "--notes=why"])
    assert a.key == b.key
    assert (options.artifacts, options.tags, options.notes) == (tmp_path, ("x", "y"), "why")


def test_the_environment_sets_the_default_folders(monkeypatch):
    monkeypatch.setenv("CVX_ARTIFACTS", "/tmp/store")
    monkeypatch.setenv("CVX_DATA", "~/data")
    assert RunOptions().artifacts == Path("/tmp/store")
    assert RunOptions().data == Path("~/data").expanduser()


def test_the_flags_are_these_and_no_others():
    fields = {field.name for kind in (TrainConfig, RunOptions) for field in dataclasses.fields(kind)}
    assert fields == {
        "dataset",
        "image_size",
        "val_fraction",
        "model",
        "stem",
        "patch_size",
        "pretrained",
        "drop_path",
        "epochs",
        "batch_size",
        "optimizer",
        "lr",
        "momentum",
        "weight_decay",
        "warmup_epochs",
        "label_smoothing",
        "mixup",
        "cutmix",
        "augment",
        "erase",
        "ema",
        "max_grad_norm",
        "precision",
        "channels_last",
        "compile",
        "seed",
        "artifacts",
        "data",
        "device",
        "name",
        "tags",
        "group",
        "notes",
        "resume",
        "save",
        "wandb",
        "project",
    }


PRESETS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_every_shipped_preset_parses_and_says_how_to_run_it(file):
    config, _ = parse([f"--config={file}"])
    text = file.read_text()
    assert text.startswith("# ") and f"python -m cvx train --config=configs/{file.name}" in text
    assert "easured" in text, "a preset says what was measured with it, or that nothing was yet"
    assert set(yaml.safe_load(text)) >= {"dataset", "model", "epochs", "lr"}
    assert config.dataset.replace("tiny_imagenet", "tiny") in file.stem


def test_the_preset_grid_is_complete():
    wanted = {
        f"{d}_{m}"
        for d in ("cifar10", "cifar100", "tiny")
        for m in ("resnet18", "resnet50", "vit_tiny", "vit_small", "vit_base")
    }
    names = {file.stem for file in PRESETS}
    assert wanted <= names
    for dataset in ("fashion_mnist", "digits", "shapes32", "shapes64"):
        assert any(name.startswith(f"{dataset}_resnet") for name in names)
        assert any(name.startswith(f"{dataset}_vit") for name in names)
