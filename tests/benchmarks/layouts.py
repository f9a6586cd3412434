"""5,000 logits laid out in the plane: ours against openTSNE and UMAP as it comes, in time and in truth."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from measuring import Row

from cvx.metrics import embedding

NUM, NUM_CLASSES = 5_000, 10


def logits_of_a_classifier(num: int = NUM, num_classes: int = NUM_CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Draw logits as a classifier of about 90 % has them: the class's is higher, a similar class's somewhat."""
    random = np.random.default_rng(0)
    labels = random.integers(0, num_classes, num)
    centers = 3 * np.eye(num_classes) + 1.5 * np.roll(np.eye(num_classes), 1, axis=1)
    sure = random.gamma(4, 0.5, (num, 1))
    return (sure * centers[labels] + random.standard_normal((num, num_classes))).astype(np.float32), labels


def rows() -> Iterator[Row]:
    """Measure each layout once, after what it compiles is compiled; then the compilation, in fresh processes."""
    logits, labels = logits_of_a_classifier()
    embedding.project(logits[:100], "umap")
    ours = {name: _timed(lambda name=name: embedding.project(logits, name)) for name in ("tsne", "umap")}
    yield _row("t-SNE, scikit-learn's, exact neighbors, PCA start", ours["tsne"], logits, labels, "–", None, "5 s")
    if importlib.util.find_spec("openTSNE") is None:
        print("openTSNE is not installed, so it is not compared: pip install openTSNE", file=sys.stderr)
    else:
        for name, options in {"openTSNE, FFT": {"negative_gradient_method": "fft"}, "openTSNE": {}}.items():
            theirs = _timed(lambda options=options: _open_tsne(logits, **options))
            yield _row(f"t-SNE, {name}", theirs, logits, labels, "scikit-learn's", ours["tsne"][0], "0.5")
    theirs = _timed(lambda: _plain_umap(logits))
    yield _row("UMAP, exact neighbors, PCA start", ours["umap"], logits, labels, "UMAP as it comes", theirs[0], "0.7")
    yield _row("UMAP as it comes", theirs, logits, labels, "–", None, "–")
    yield from _compilation()


def _timed(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    begun = time.perf_counter()
    found = function()
    return time.perf_counter() - begun, found


def _row(
    what: str, timed: tuple[float, np.ndarray], logits: np.ndarray, labels: np.ndarray, against: str,
    other: float | None, predicted: str,
) -> Row:  # fmt: skip
    seconds, layout = timed
    truth = embedding.separability(logits, layout, labels)
    said = f"{seconds:.1f} s, knn {truth['knn']:.3f}, trustworthiness {truth['trustworthiness']:.3f}"
    if other is None:
        return Row(what, said, against, "–", predicted)
    return Row(what, said, f"{against} {other:.1f} s", f"{seconds / other:.2f}", predicted)


def _open_tsne(logits: np.ndarray, **options: str) -> np.ndarray:
    from openTSNE import TSNE

    start = embedding.project(logits, "pca")
    start = (1e-4 * start / start[:, 0].std()).astype(np.float64)
    return np.asarray(TSNE(perplexity=30, initialization=start, n_jobs=1, random_state=0, **options).fit(logits))


def _plain_umap(logits: np.ndarray) -> np.ndarray:
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(umap.UMAP(random_state=0, n_jobs=1).fit_transform(logits))


CODE = "import numpy as np; from cvx.metrics.embedding import project; project(np.random.default_rng(0).random((200, 9)), 'umap')"


def _compilation() -> Iterator[Row]:
    """Lay out 200 points in three fresh processes that share a cache of compiled functions, empty at first."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "NUMBA_CACHE_DIR": folder}
        took = []
        for _ in range(3):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", CODE], env=environ, check=True, stderr=subprocess.DEVNULL)
            took.append(time.perf_counter() - begun)
    first, later = took[0], min(took[1:])
    what = "UMAP of 200 points in a new process, imports and all"
    yield Row(what, f"{later:.1f} s", f"the machine's first time {first:.1f} s", f"{later / first:.2f}", "0.3")
