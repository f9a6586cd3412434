"""Take training steps: weights, their moving average, optimizer and schedule."""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cvx.config import TrainConfig
from cvx.distributed import Ranks
from cvx.models import Classifier
from cvx.models.precision import arithmetic, pick_precision
from cvx.training.schedule import make_schedule


@dataclasses.dataclass
class Learner:
    """A model in training."""

    config: TrainConfig
    classifier: Classifier
    forward: nn.Module
    """The classifier as steps call it: compiled, and wrapped where several ranks share it."""
    ema: Any
    """timm's ModelEmaV3, or None."""
    optimizer: torch.optim.Optimizer
    schedule: Any
    """timm's scheduler, set by the step alone, so that it needs no state."""
    precision: torch.dtype
    step: int = 0
    _norm: Tensor | None = None

    @property
    def eval_model(self) -> Classifier:
        """Return the weights that are evaluated, mapped and stored: the moving average where it is on."""
        return self.ema.module if self.ema else self.classifier

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules of a saved state by name."""
        modules: dict[str, nn.Module] = {"model": self.classifier}
        if self.ema:
            modules["ema"] = self.ema.module
        return modules

    def train_step(
        self, inputs: Float[Tensor, "n c h w"], targets: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Take one optimizer step and return loss and accuracy of the batch, without waiting for the device."""
        # Forward: the loss in float32, whatever the arithmetic of the model
        with arithmetic(inputs.device.type, self.precision, compiled=self.config.compile):
            logits = self.forward(inputs)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.config.label_smoothing)

        # Backward
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.max_grad_norm:
            self._norm = nn.utils.clip_grad_norm_(self.classifier.parameters(), self.config.max_grad_norm)

        # Step: weights, learning rate, moving average
        self.optimizer.step()
        self.step += 1
        self.schedule.step_update(self.step)
        if self.ema:
            self.ema.update(self.classifier, step=self.step)

        accuracy = (logits.detach().argmax(1) == targets.argmax(1)).float().mean()
        return loss.detach(), accuracy

    def resume_at(self, step: int) -> None:
        """Take up the schedule where a saved state left off."""
        self.step = step
        self.schedule.step_update(step)

    def grad_norm(self) -> float:
        """Return the norm of the newest step's gradients, before clipping."""
        if self._norm is not None:
            return float(self._norm)
        grads = [p.grad for p in self.classifier.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(grads))


def make_learner(config: TrainConfig, classifier: Classifier, ranks: Ranks, steps_per_epoch: int) -> Learner:
    """Set a model up for training on this rank."""
    from timm.optim import create_optimizer_v2
    from timm.utils import ModelEmaV3

    classifier.to(ranks.device)
    if config.channels_last:
        classifier.to(memory_format=torch.channels_last)
    classifier.train()
    try:
        optimizer = create_optimizer_v2(
            classifier.net,
            opt=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            **_fused(config.optimizer, ranks.device),
        )
    except (ValueError, AssertionError, TypeError) as error:
        raise ValueError(_unknown_optimizer(config.optimizer, error)) from None
    schedule = make_schedule(config, optimizer, steps_per_epoch)
    ema = ModelEmaV3(classifier, decay=config.ema, use_warmup=True) if config.ema else None
    forward = _wrap(classifier, config, ranks)
    precision = pick_precision(config.precision, classifier, ranks.device)
    return Learner(config, classifier, forward, ema, optimizer, schedule, precision)


def _fused(name: str, device: torch.device) -> dict[str, Any]:
    """Let torch's own optimizers change all of a weight's state in one sweep through memory."""
    from timm.optim import get_optimizer_class

    try:
        kind = get_optimizer_class(name, bind_defaults=False)
    except ValueError:  # unknown: said where the optimizer is made
        return {}
    fusible = kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
    return {"fused": True} if fusible and device.type in ("cpu", "cuda") else {}


def _unknown_optimizer(name: str, error: Exception) -> str:
    import difflib

    from timm.optim import list_optimizers

    known = [str(optimizer) for optimizer in list_optimizers()]
    if name in known:
        return f"optimizer {name!r} cannot be set up: {error}"
    near = ", ".join(difflib.get_close_matches(name, known, n=3)) or "sgd, adamw"
    return f"unknown optimizer {name!r}; nearest in timm: {near}"


def _wrap(classifier: Classifier, config: TrainConfig, ranks: Ranks) -> nn.Module:
    forward: nn.Module = classifier
    if ranks.world > 1:
        if ranks.device.type == "cuda":
            forward = nn.SyncBatchNorm.convert_sync_batchnorm(forward)
        forward = nn.parallel.DistributedDataParallel(forward)
    return torch.compile(forward) if config.compile else forward  # type: ignore[return-value]
