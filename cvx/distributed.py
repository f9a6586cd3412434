"""Share one job among the ranks that torchrun started, or do it alone."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process's place among the processes that share one job."""

    rank: int = 0
    world: int = 1
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Tell whether this is the one process that writes and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.world > 1:
            dist.barrier()

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Average a tensor over the ranks, in place."""
        if self.world > 1:
            dist.all_reduce(value)
            value /= self.world
        return value

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is true on any rank."""
        if self.world == 1:
            return flag
        num_true = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(num_true)
        return bool(num_true.item())

    def gather(self, value: T) -> list[T]:
        """Hand rank 0 the values of all ranks, in their order; the others get an empty list."""
        if self.world == 1:
            return [value]
        values: list[T] | None = [value] * self.world if self.is_main else None
        dist.gather_object(value, values)
        return values or []

    @contextlib.contextmanager
    def raise_on_all_ranks(self) -> Iterator[None]:
        """Fail on every rank if the block fails on any: otherwise the other ranks would deadlock.

        Raises:
            ValueError, OSError: What the block raised here, or in the words of the first rank that failed.
        """
        failed: ValueError | OSError | None = None
        try:
            yield
        except (ValueError, OSError) as error:
            failed = error
        own = str(failed) or type(failed).__name__ if failed else ""
        reasons = [own] * self.world
        if self.world > 1:
            dist.all_gather_object(reasons, own)
        if failed:
            raise failed
        if reason := next(filter(None, reasons), ""):
            raise ValueError(reason)


def pick_device(name: str) -> torch.device:
    """Turn a device name into a device; auto is CUDA, then mps, then the CPU.

    Raises:
        ValueError: If torch knows no such device or cannot use it here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here ({reason}); give auto or cpu") from None
    return device


@contextlib.contextmanager
def open_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Join the job that torchrun started, or be its only process."""
    chosen = pick_device(device)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Ranks(device=chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()
