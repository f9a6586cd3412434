"""Trainings at once: one alone and two side by side, by how torch's threads wait for each other."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from measuring import Row

from cvx.processes import WAITING, spin_less

SECONDS, TURNS = 4.0, 4
AS_TORCH_HAS_IT = {"GOMP_SPINCOUNT": "300000"}
"""What libgomp does by itself; said aloud, cvx leaves it."""


class Training:
    """A process that takes training steps for so long as it is told, and sleeps between."""

    def __init__(self, model: str, environ: dict[str, str]) -> None:
        plain = {name: value for name, value in os.environ.items() if name not in WAITING}
        command = [sys.executable, __file__, model]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=plain | environ, stdin=pipe, stdout=pipe, text=True)
        self.answer()  # it is ready

    def begin(self) -> None:
        """Let it train."""
        print(SECONDS, file=self._process.stdin, flush=True)

    def answer(self) -> float:
        """Wait until it has trained, and return its images per second."""
        return float(self._process.stdout.readline())

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def rows() -> Iterator[Row]:
    """Measure one alone and two at once in turns, each as cvx has them wait and as torch does by itself."""
    name = "vit_mini"
    with ExitStack() as stack:
        own, plain = (
            [stack.enter_context(Training(name, environ)) for _ in range(2)] for environ in ({}, AS_TORCH_HAS_IT)
        )
        asked = {"alone": own[:1], "both": own, "plain alone": plain[:1], "plain both": plain}
        best = dict.fromkeys(asked, 0.0)
        for _ in range(TURNS):
            for key, trainings in asked.items():
                best[key] = max(best[key], _together(trainings))
    for what, against, aim in (
        ("alone", "plain alone", "≥ 0.95"),
        ("both", "alone", "≥ 0.95"),
        ("plain both", "plain alone", ""),
    ):
        yield Row(
            f"{name}: {SAID[what]}",
            f"{best[what]:.0f} images/s",
            f"{SAID[against]} {best[against]:.0f}",
            f"{best[what] / best[against]:.2f}",
            aim,
        )


SAID = {
    "alone": "one training alone",
    "both": "two at once, together",
    "plain alone": "one alone, threads spin as torch has them",
    "plain both": "two at once, threads spin as torch has them",
}


def _together(trainings: list[Training]) -> float:
    for one in trainings:
        one.begin()
    return sum(one.answer() for one in trainings)


def train(name: str) -> None:
    """Take steps for the seconds that each line of the standard input names, and print the images per second."""
    import torch
    from loop import Bare

    from cvx import models
    from cvx.config import TrainConfig
    from cvx.distributed import Ranks
    from cvx.training.step import make_learner

    torch.manual_seed(0)
    config = TrainConfig(dataset="shapes32", model=name, epochs=1, batch_size=128, warmup_epochs=0)
    bare = Bare(make_learner(config, models.build(name, 10, 32), Ranks(), 100), config.batch_size, 10)
    for _ in range(3):
        bare.step()
    print(0, flush=True)
    for line in sys.stdin:
        num, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < float(line):
            bare.step()
            num += config.batch_size
        print(num / (time.perf_counter() - begun), flush=True)


if __name__ == "__main__":
    spin_less()
    train(sys.argv[1])
