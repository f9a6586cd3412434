"""Numbers that judge a classifier's logits against labels."""

import numpy as np
from jaxtyping import Bool, Float, Int64

NUM_BINS = 15


def summarize(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"]) -> dict[str, float]:
    """Return loss, acc1, acc5 and ece.

    Raises:
        ValueError: If there is no image, or a logit is not finite.
    """
    return {
        "loss": nll(logits, labels),
        "acc1": acc1(logits, labels),
        "acc5": acc5(logits, labels),
        "ece": ece(logits, labels),
    }


def acc1(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"]) -> float:
    """Return the share of images whose label has the largest logit; of equal logits the first one counts."""
    return _top_accuracy(logits, labels, 1)


def acc5(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"]) -> float:
    """Return the share of images whose label is among the five largest logits; 1 for up to five classes."""
    return _top_accuracy(logits, labels, 5)


def nll(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"]) -> float:
    """Return the mean negative log-likelihood of the labels, in nats."""
    _check(logits)
    return float(-_log_probs(logits)[np.arange(len(labels)), labels].mean())


def ece(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"], num_bins: int = NUM_BINS) -> float:
    """Return the expected calibration error (Guo et al., 2017, section 2, arXiv:1706.04599).

    Confidence falls into equal bins (a, b] of [0, 1]; a bin weighs as much as it holds, so an empty one is 0.
    """
    _check(logits)
    confidence = np.exp(_log_probs(logits).max(axis=1))
    bins = np.digitize(confidence, np.linspace(0, 1, num_bins + 1)[1:-1], right=True)
    gaps = np.bincount(bins, weights=(logits.argmax(axis=1) == labels) - confidence)
    return float(np.abs(gaps).sum() / len(labels))


def confusion(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "k k"]:
    """Count images by label (row) and prediction (column)."""
    _check(logits)
    num_classes = logits.shape[1]
    cells = labels * num_classes + logits.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_accuracy(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"]) -> Float[np.ndarray, "k"]:
    """Return the share of each class's images that are predicted as it; nan for a class without images."""
    counts = confusion(logits, labels)
    totals = counts.sum(axis=1)
    return np.where(totals > 0, np.diag(counts) / np.maximum(totals, 1), np.nan)


def _top_accuracy(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"], num: int) -> float:
    _check(logits)
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    return float((rank < num).mean())


def _log_probs(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _check(logits: Float[np.ndarray, "n k"]) -> None:
    if len(logits) == 0:
        raise ValueError("there are no images to judge")
    bad = int((~np.isfinite(logits).all(axis=1)).sum())
    if bad:
        raise ValueError(f"logits must be finite, got NaN or infinity for {bad} of {len(logits)} images")


CalibrationBin = tuple[float, float, int, float, float]
"""Lower and upper confidence, images, mean confidence, accuracy; the last two 0 where there is no image."""


def calibration_bins(logits: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, "n"]) -> list[CalibrationBin]:
    """Count images by confidence in the bins of the ECE (Guo et al., 2017, arXiv:1706.04599)."""
    confidence, right = softmax(logits.astype(np.float64)).max(axis=1), logits.argmax(axis=1) == labels
    edges = np.linspace(0, 1, NUM_BINS + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    return [_bin(edges[i], edges[i + 1], confidence[place == i], right[place == i]) for i in range(NUM_BINS)]


def _bin(low: float, high: float, confidence: Float[np.ndarray, "m"], right: Bool[np.ndarray, "m"]) -> CalibrationBin:
    num = len(confidence)
    return float(low), float(high), num, float(confidence.mean()) if num else 0.0, float(right.mean()) if num else 0.0


def softmax(logits: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n k"]:
    """Return the classes' probabilities, which add up to 1, in the precision of the logits."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
