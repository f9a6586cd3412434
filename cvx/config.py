"""Flags and preset files: what decides a run's result (`TrainConfig`), where and how it happens (`RunOptions`)."""

import contextlib
import dataclasses
import difflib
import hashlib
import io
import itertools
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from cvx.files import read_yaml
from cvx.processes import PROGRAM


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the result of one run; one name in flag, preset, sweep and W&B."""

    dataset: str = "digits"
    """digits, shapes32, shapes64, fashion_mnist, cifar10, cifar100, tiny_imagenet, folder:PATH or hub:ORG/NAME."""
    image_size: int = 0
    """Side of the square images in pixels; 0 takes the dataset's own."""
    val_fraction: float = 0.1
    """Share of the training images kept for validation, where the dataset brings no validation split."""
    model: str = "resnet18"
    """Any name timm knows, or vit_tiny, vit_small, vit_base."""
    stem: Literal["auto", "timm"] = "auto"
    """auto: a 3x3 stem with stride 1 and no pooling at 64 pixels or less; timm: the stem as timm has it."""
    patch_size: int = 0
    """Side of a ViT's patches in pixels; 0 fits it to the image size."""
    pretrained: bool = False
    """Start from timm's pretrained weights."""
    drop_path: float = 0.0
    """Highest stochastic-depth rate (Huang et al., 2016, arXiv:1603.09382)."""
    epochs: int = 10
    """Passes over the training split."""
    batch_size: int = 128
    """Images per optimizer step, over all ranks."""
    optimizer: str = "adamw"
    """Any name timm.optim knows: sgd (with Nesterov momentum), adamw, lamb, …"""
    lr: float = 1e-3
    """Peak learning rate; cosine to zero after the warm-up."""
    momentum: float = 0.9
    """Momentum of the optimizers that have one: sgd, rmsprop, muon, …"""
    weight_decay: float = 0.05
    """Decay of weights; biases, norms and position embeddings have none."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up; fractions are fine."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes (Szegedy et al., 2016, arXiv:1512.00567)."""
    mixup: float = 0.0
    """Alpha of mixup (Zhang et al., 2017, arXiv:1710.09412); 0 is off."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun et al., 2019, arXiv:1905.04899); 0 is off."""
    augment: bool = True
    """Pad-and-crop, and flips where the dataset's classes survive them."""
    erase: float = 0.0
    """Probability of erasing a rectangle (Zhong et al., 2017, arXiv:1708.04896)."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights per step; 0 is off."""
    max_grad_norm: float = 0.0
    """Gradients are clipped to this norm; 0 is off."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of training steps; auto is bf16 where the processor computes in it. Maps are always float32."""
    channels_last: bool = True
    """Memory format that convolutions are fast in."""
    compile: bool = False
    """Compile the model with torch.compile: slower to start, faster steps on CUDA."""
    seed: int = 0
    """Seed of weights, order and augmentation. The validation split does not depend on it."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive, got {self.lr}")

    @property
    def key(self) -> str:
        """Return 12 hex digits that two configs share exactly if they ask for the same result."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("image_size", 0, 4096),
    ("val_fraction", 0.0, 0.9),
    ("patch_size", 0, 1024),
    ("drop_path", 0.0, 0.99),
    ("epochs", 1, 100_000),
    ("batch_size", 1, 1_000_000),
    ("momentum", 0.0, 0.9999),
    ("weight_decay", 0.0, 100.0),
    ("warmup_epochs", 0.0, 100_000),
    ("label_smoothing", 0.0, 0.99),
    ("mixup", 0.0, 100.0),
    ("cutmix", 0.0, 100.0),
    ("erase", 0.0, 1.0),
    ("ema", 0.0, 0.999999),
    ("max_grad_norm", 0.0, 1e9),
    ("seed", 0, 2**31 - 1),
)


def default_artifacts() -> Path:
    """Return the store's folder: CVX_ARTIFACTS, or `artifacts`."""
    return Path(os.environ.get("CVX_ARTIFACTS", "artifacts"))


def default_data() -> Path:
    """Return the data root: CVX_DATA, or `~/.cache/cvx`."""
    return Path(os.environ.get("CVX_DATA", "~/.cache/cvx")).expanduser()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how a run happens; nothing of it decides the result."""

    artifacts: Path = dataclasses.field(default_factory=default_artifacts)
    """The store: runs, models, samples and maps."""
    data: Path = dataclasses.field(default_factory=default_data)
    """Where dataset archives are looked for and the array cache is kept."""
    device: str = "auto"
    """auto (CUDA, then Apple's mps, then the CPU), or a torch device such as cpu or cuda:1."""
    name: str = ""
    """A name of your own at the end of the run's folder name."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""
    group: str = ""
    """Runs that belong together."""
    notes: str = ""
    """A sentence on why the run was made."""
    resume: str = ""
    """Continue this run from its last saved state; its own config is used."""
    save: Literal["best_last", "best", "none"] = "best_last"
    """Which weights the store keeps at the end."""
    wandb: Literal["auto", "on", "off"] = "auto"
    """auto: stream to W&B if you are logged in, else record locally; on: insist on an account; off: never."""
    project: str = ""
    """The W&B project as [ENTITY/]PROJECT; empty takes WANDB_PROJECT, or cvx."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Flags:
    result: TrainConfig
    run: RunOptions


def parse(argv: Sequence[str], prog: str = f"{PROGRAM} train") -> tuple[TrainConfig, RunOptions]:
    """Turn flags and the preset files they name into a config and the options of a run.

    Presets give the values that flags change, so a flag wins wherever it stands; of two presets the later wins.

    Raises:
        ValueError: If a preset or a value is wrong; the message names the file or field.
        SystemExit: If a flag is wrong (tyro prints which, and the flags that were perhaps meant), or for --help.
    """
    files, flags = _split_presets(argv)
    config = TrainConfig()
    for file in files:
        config = preset(file, config)
    parsed = tyro.cli(
        _Flags,
        args=flags,
        default=_Flags(result=config, run=RunOptions()),
        prog=prog,
        description="--config=FILE  a preset such as configs/cifar10_resnet18.yaml; repeatable, flags win.",
        config=_TYRO,
        use_underscores=True,
    )
    return parsed.result, parsed.run


_TYRO = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff)


def _split_presets(argv: Sequence[str]) -> tuple[list[Path], list[str]]:
    files, flags, rest = [], [], iter(argv)
    for argument in rest:
        if argument == "--config":
            value = next(rest, "")
        elif argument.startswith("--config="):
            value = argument.removeprefix("--config=")
        else:
            flags.append(argument)
            continue
        if not value:
            raise ValueError("--config needs a file, for example --config=configs/digits_resnet18.yaml")
        files.append(Path(value))
    return files, flags


def preset(file: Path, base: TrainConfig | None = None) -> TrainConfig:
    """Return a config with the values of a preset file; fields that it leaves out are those of the base.

    Raises:
        ValueError: If it is no YAML mapping of TrainConfig's fields to plain values; the message names the file.
        FileNotFoundError: If it does not exist; the message names the presets beside it.
    """
    if not file.is_file():
        beside = ", ".join(sorted(path.name for path in file.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"no preset {file}; presets in {file.parent}: {beside}")
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected lines `field: value`, got {type(content).__name__}")
    flags = [_preset_flag(file, key, value) for key, value in content.items()]
    return _parse_preset(file, flags, base or TrainConfig())


def _preset_flag(file: Path, key: object, value: object) -> str:
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    if key not in known:
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{file}: unknown field {key!r}{hint or '.'} Known: {', '.join(known)}")
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"{file}: {key} must be one plain value, got {value!r}")
    return f"--{key}={value}"


def _parse_preset(file: Path, flags: list[str], base: TrainConfig) -> TrainConfig:
    """Parse one file's values alone, so that a complaint can name the file."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            return tyro.cli(TrainConfig, args=flags, default=base, config=_TYRO, use_underscores=True)
    except SystemExit:
        raise ValueError(f"{file}: {_reason(output.getvalue())}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _reason(box: str) -> str:
    """Take the sentence out of the box that tyro draws around a complaint: what stands between its first rules."""
    lines = [line.strip(" │|") for line in box.splitlines()]
    body = lines[2:] if len(lines) > 2 else lines
    sentence = itertools.takewhile(lambda line: not re.fullmatch(r"[─-]{3,}", line), body)
    return " ".join(line for line in sentence if line) or "a value that does not fit its field"
