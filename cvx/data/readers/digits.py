"""Scanned digits, 8 x 8 gray, from scikit-learn; nothing is downloaded."""

import hashlib
from pathlib import Path

import numpy as np

from cvx.data.dataset_types import Info, Part, Source

INFO = Info(
    title="Optical Recognition of Handwritten Digits (scikit-learn's 1,797)",
    licence="CC BY 4.0",
    citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
    "1998, doi:10.24432/C50P49",
    flip=False,
    note="No test set comes with these images: one fixed, stratified fifth is the test split. "
    "The 13 writers are not kept apart between the splits.",
)


def source(root: Path) -> Source:
    """Read the digits, their values 0…16 stretched to 0…255; `root` is not looked at."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    fingerprint = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return Source({"train": Part(images, labels)}, tuple("0123456789"), fingerprint, 8, INFO)
