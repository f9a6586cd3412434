"""Take presets through training, testing and maps; skip what is done, continue what was interrupted."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvx import data
from cvx.config import RunOptions, TrainConfig, parse
from cvx.processes import ROOT
from cvx.store import Store, runs
from cvx.tracking import Once, wandb_sinks
from cvx.training.loop import InterruptedTraining, train


@dataclasses.dataclass(frozen=True)
class PresetOutcome:
    """The outcome of one preset."""

    label: str
    status: str
    """trained, already done, or failed."""
    summary: dict[str, Any] | None = None
    error: str = ""


def run_preset(
    file: Path,
    flags: list[str],
    options: RunOptions,
    then: Callable[[str], object] | None = None,
    once: Once | None = None,
) -> PresetOutcome:
    """Take one preset through training, and its best model through `then`; an error becomes a failed outcome.

    Training itself tests the best weights and projects their logits; a finished run of the same config is not
    repeated, and an interrupted one is continued from its saved state.

    Args:
        once: Shared by presets, so that what holds for all of their runs is said once.
    """
    try:
        config = parse([f"--config={file}", *flags])[0]
        known = finished(config, options)
        summary = known or _train(config, _resumable(config, options), once or Once())
        if then is not None and "best" in summary:
            then(summary["best"])
    except InterruptedTraining as stop:
        stop.args = (f"{stop}, or with the command you just gave",)
        raise
    except (ValueError, OSError, RuntimeError) as error:
        return PresetOutcome(file.stem, "failed", error=str(error))
    return PresetOutcome(file.stem, "already done" if known else "trained", summary)


def _train(config: TrainConfig, options: RunOptions, once: Once) -> dict[str, Any]:
    with wandb_sinks(options.wandb, options.project, page_of, once) as sinks:
        return train(config, options, sinks)


def page_of(folder: Path) -> bytes:
    """Draw a finished run's own page, for W&B."""
    from cvx.report import run_page

    return run_page(Store(runs.Run(folder).store_root), runs.Run(folder), dataclasses.asdict(TrainConfig()))


def finished(config: TrainConfig, options: RunOptions) -> dict[str, Any] | None:
    """Return the summary of a finished run of exactly this config and data whose model is still stored, or None."""
    for run in reversed(runs.list_runs(options.artifacts)):
        try:
            summary = run.summary
            if summary and summary["key"] == config.key and _is_its_data(run, config, options):
                Store(options.artifacts).resolve(summary["best"])
                return summary
        except (ValueError, KeyError):
            continue
    return None


def _resumable(config: TrainConfig, options: RunOptions) -> RunOptions:
    """Continue an unfinished run of exactly this config where there is one with a saved state."""
    for run in reversed(runs.list_runs(options.artifacts)):
        try:
            unfinished = run.summary is None and run.config["key"] == config.key and _is_its_data(run, config, options)
        except (ValueError, KeyError):
            continue
        if unfinished and any(run.state.glob("state.*")):
            return dataclasses.replace(options, resume=run.name)
    return options


def _is_its_data(run: runs.Run, config: TrainConfig, options: RunOptions) -> bool:
    """Tell whether a folder holds what a run was trained on: one path may lead to others. What has a name is itself."""
    known = run.config.get("source")
    if not known or not config.dataset.startswith("folder:"):
        return True
    try:
        return bool(data.load(config.dataset, options.data, config.image_size, config.val_fraction).source == known)
    except (ValueError, OSError):  # it is not here any more: what was trained on it is
        return True


PRESETS = ("digits_resnet18", "digits_vit", "shapes32_resnet18", "shapes32_vit")


def presets() -> list[Path]:
    """Return the starter presets of the checkout that cvx runs from.

    Raises:
        FileNotFoundError: If cvx was installed without its configs.
    """
    folder = ROOT / "configs"
    files = [folder / f"{name}.yaml" for name in PRESETS]
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"needs presets that an installed cvx lacks ({', '.join(missing)} in {folder}); call it in the top"
            " folder of a checkout of cvx, or train with `python -m cvx train` and flags or presets of your own"
        )
    return files
