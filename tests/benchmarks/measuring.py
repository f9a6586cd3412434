"""What every benchmark shares: times taken in turns, rows of the table, and the machine's description."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    result: str
    against: str
    ratio: str
    """Result over what it is held against, or time over the time allowed."""
    predicted: str
    """What was expected before it was measured, or is aimed at."""


def in_turns(functions: dict[str, Callable[[], object]], rounds: int = 4) -> dict[str, float]:
    """Run functions A, B, C, A, B, C … and return each one's best seconds: a slow spell then hits all alike."""
    for function in functions.values():
        function()
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            begun = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def product_peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Return the floating-point operations per second of a large matrix product, by the library that is sooner."""
    one, other = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    images, kernels = one.view(8, 1, -1, size).permute(0, 3, 1, 2), other[:, :, None, None]
    return (
        2 * size**3 / min(in_turns({"mm": lambda: one @ other, "conv": lambda: F.conv2d(images, kernels)}, 6).values())
    )


def machine() -> str:
    """Describe the machine in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    found = {}
    if info.is_file():
        lines = (line.partition(":") for line in info.read_text(encoding="utf-8").splitlines())
        found = {key.strip(): value.strip() for key, _, value in lines}
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if kind in found.get("flags", "").split()]
    name = found.get("model name", name)
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    software = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{name} ({', '.join(kinds) or 'no vector extensions known'}), {threads}; {software}"
