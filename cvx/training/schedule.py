"""The learning-rate schedule: linear warm-up, then cosine to zero."""

from typing import Any

import torch

from cvx.config import TrainConfig


def make_schedule(config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Any:
    """Rise in a line, then fall as a cosine to zero (Loshchilov and Hutter, 2016, arXiv:1608.03983), by step."""
    from timm.scheduler import CosineLRScheduler

    warmup = round(config.warmup_epochs * steps_per_epoch)
    total = config.epochs * steps_per_epoch
    if warmup >= total:
        raise ValueError(f"warmup_epochs must be less than epochs ({config.epochs}), got {config.warmup_epochs}")
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=total - warmup,
        warmup_t=warmup,
        warmup_lr_init=config.lr / max(warmup, 1),
        warmup_prefix=True,
        t_in_epochs=False,
    )
    schedule.step_update(0)
    return schedule
