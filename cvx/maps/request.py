"""A request for maps: score, method, target, images. Imports nothing heavy, so that flags are listed at once."""

from dataclasses import dataclass

from cvx.attribution.options import METHOD_NAMES, PRECISION_NAMES, REDUCTIONS, SCORES, SPLITS, check_choices


@dataclass(frozen=True, kw_only=True)
class Request:
    """The images and the score that both maps and comparisons ask every model about."""

    split: str = "samples"
    """samples (the store's fixed test images; they need no dataset), test, val or train."""
    samples: str = ""
    """NAME or NAME:v3 of samples in the store, of any dataset, whatever the models were trained on; default: each
    model's own."""
    num: int = 1000
    """Images, from the front of the split, which is in a fixed, stratified order."""
    score: str = "logit"
    """logit, logprob, or margin (the logit less the mean of all)."""
    method: str = "gradient"
    """gradient, smoothgrad or integrated_gradients."""

    def __post_init__(self) -> None:
        check_choices(self, {"split": SPLITS, "score": SCORES, "method": METHOD_NAMES})


@dataclass(frozen=True, kw_only=True)
class Question(Request):
    """What is asked for maps; the defaults are what a folder named like its model answers."""

    targets: str = "label"
    """label, pred, or the name of a class: whose score is explained; all draws a sheet of every class per image
    (in the store only: W&B gets none)."""
    num: int = 1000
    """Images looked at, from the front of the split, which is in a fixed, stratified order; 0 takes all."""
    per_class: int = 8
    """Images of each class that get a figure and raw maps, with targets=all images in all; 0 takes all."""
    reduction: str = "max"
    """How channels become one: max or sum of their magnitudes, or signed (their sum)."""
    precision: str = "fp32"
    """fp32, or bf16: sooner, rounded, and said how far off; its maps get a folder of their own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, {"reduction": REDUCTIONS, "precision": PRECISION_NAMES})
        for name in ("num", "per_class"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 (all) or more, got {getattr(self, name)}")
