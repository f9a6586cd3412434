"""Define the flags that several commands share."""

import dataclasses
import shlex
from pathlib import Path
from typing import Literal

from cvx import config


@dataclasses.dataclass(frozen=True, kw_only=True)
class InStore:
    """The flag that names the store."""

    artifacts: str = ""
    """The store; default: CVX_ARTIFACTS or artifacts."""

    @property
    def root(self) -> Path:
        """Return the store's folder."""
        return Path(self.artifacts or config.default_artifacts())


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnDevice(InStore):
    """The flags that name the store and the device that its models compute on."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithData(InStore):
    """The flags that name the store and the folder of datasets."""

    data: str = ""
    """The data root; the split samples needs none; default: CVX_DATA or ~/.cache/cvx."""

    @property
    def data_root(self) -> Path:
        """Return the folder of archives and array caches."""
        return Path(self.data) if self.data else config.default_data()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToWandb:
    """The flags that say whether results go to W&B, and to which project."""

    wandb: Literal["auto", "on", "off"] = "auto"
    """Log what is found to W&B, as a run that uses the models' artifacts: where there is an account, always, never."""
    project: str = ""
    """[ENTITY/]PROJECT of W&B; default: WANDB_PROJECT, or cvx."""


def store_flag(artifacts: str | Path) -> str:
    """Write the flag by which the next command finds this store, a space before it; none where none was given."""
    return "" if str(artifacts) in ("", "artifacts") else f" {shlex.quote(f'--artifacts={artifacts}')}"
