"""Logits in two dimensions by PCA, t-SNE and UMAP, and how far to trust the picture."""

import warnings

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

METHODS = ("pca", "tsne", "umap")
NUM_NEIGHBORS = 10
"""Neighbors that the trust numbers look at."""
MIN_POINTS = 4
"""Fewer points have no neighborhoods: t-SNE and UMAP return their PCA."""
CHUNK = 256
"""Rows of the distance matrix held at once."""


def project(logits: Float[np.ndarray, "n k"], method: str, seed: int = 0) -> Float32[np.ndarray, "n 2"]:
    """Lay logits out in the plane; the same input gives the same output, also in another process.

    t-SNE (van der Maaten and Hinton, 2008) and UMAP (McInnes et al., 2018, arXiv:1802.03426) start from PCA: far
    groups then keep their places, or of few points their mirror image (Kobak and Linderman, 2021,
    doi:10.1038/s41587-020-00809-z), pictures of one network's epochs resemble each other, and UMAP needs no spectral
    solver, which fails on separate groups. With
    that start t-SNE has no randomness left, so `seed` moves UMAP alone. All work is done by one thread, because
    sums over several depend on their number. Fewer than `MIN_POINTS` points, or points that are all the same, are
    returned as PCA sees them: the latter as zeros.

    Raises:
        ValueError: If the method is unknown or a logit is not finite.
    """
    from threadpoolctl import threadpool_limits

    if method not in METHODS:
        raise ValueError(f"unknown projection {method!r}; known: {', '.join(METHODS)}")
    if not np.isfinite(logits).all():
        raise ValueError("cannot project logits that are NaN or infinite")
    with threadpool_limits(1):
        principal = _pca(logits)
        if method == "pca" or len(logits) < MIN_POINTS or not principal.any():
            return principal.astype(np.float32)
        layout = _tsne if method == "tsne" else _umap
        return layout(logits.astype(np.float32), _start(principal, seed), seed)


def separability(
    logits: Float[np.ndarray, "n k"], embedding: Float[np.ndarray, "n 2"], labels: Int64[np.ndarray, "n"]
) -> dict[str, float]:
    """Measure how well a layout separates the classes, and how true it is to the logits.

    Returns:
        silhouette: In [-1, 1], of the classes in the layout (Rousseeuw, 1987); nan unless there are at least two
            classes, one of them with two points.
        knn: Share of points whose class has the most votes among their 10 neighbors in the layout, the point itself
            left out; nan for one class, or fewer than 11 points.
        trustworthiness: In [0, 1]; how far neighbors in the layout are neighbors in logits (Venna and Kaski, 2001);
            nan for fewer than 21 points.
        All three are nan for a layout that is one point. All points count, none are sampled.
    """
    spread = len(embedding) > 0 and bool(np.ptp(embedding, axis=0).any())
    num_classes = len(np.unique(labels))
    return {
        "silhouette": _silhouette(embedding, labels) if spread and 2 <= num_classes < len(labels) else np.nan,
        "knn": _knn(embedding, labels) if spread and num_classes > 1 and len(labels) > NUM_NEIGHBORS else np.nan,
        "trustworthiness": _trust(logits, embedding) if spread and len(labels) > 2 * NUM_NEIGHBORS else np.nan,
    }


def _pca(logits: Float[np.ndarray, "n k"]) -> Float64[np.ndarray, "n 2"]:
    """Return the first two principal components; the first of an axis's largest loadings is positive.

    A component whose variance is within the rounding of float32 is zero.
    """
    found = np.zeros((len(logits), 2))
    if len(logits) == 0:
        return found
    exact = logits.astype(np.float64)
    centered = exact - exact.mean(axis=0)
    variances, axes = np.linalg.eigh(centered.T @ centered)
    axes = axes[:, ::-1][:, :2]
    sizes = np.abs(axes)
    leading = np.argmax(sizes > 0.999 * sizes.max(axis=0), axis=0)
    signs = np.sign(np.take_along_axis(axes, leading[None], axis=0))
    real = variances[::-1][:2] > 1e-14 * np.square(exact).sum()
    found[:, : axes.shape[1]] = centered @ (axes * signs) * real
    return found


def _start(principal: Float64[np.ndarray, "n 2"], seed: int) -> Float32[np.ndarray, "n 2"]:
    """Scale to unit deviation; points on a line would never leave it, so they get a little of a second axis."""
    start = principal / principal[:, 0].std()
    if not start[:, 1].any():
        start[:, 1] = 1e-2 * np.random.default_rng(seed).standard_normal(len(start))
    return start.astype(np.float32)


def _tsne(
    logits: Float32[np.ndarray, "n k"], start: Float32[np.ndarray, "n 2"], seed: int
) -> Float32[np.ndarray, "n 2"]:
    """Run scikit-learn's: openTSNE's layout is as true and takes three quarters of the time (`make bench
    TOPIC=layouts`), too little for another compiled library to be installed by everybody.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(logits) - 1) / 3)
    return TSNE(init=1e-4 * start, perplexity=perplexity, random_state=seed).fit_transform(logits)


def _umap(
    logits: Float32[np.ndarray, "n k"], start: Float32[np.ndarray, "n 2"], seed: int
) -> Float32[np.ndarray, "n 2"]:
    """Run UMAP on exact neighbors: finding approximate ones costs a process 40 s of compilation."""
    from sklearn.neighbors import NearestNeighbors

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        import umap
    _keep_compiled()
    num = min(15, len(logits) - 1)
    distances, neighbors = NearestNeighbors(n_neighbors=num).fit(logits).kneighbors(logits)
    known = (neighbors.astype(np.int32), distances.astype(np.float32))
    with warnings.catch_warnings():
        # without a search index it cannot place new points, which nobody asks for
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]", category=UserWarning)
        layout = umap.UMAP(
            n_neighbors=num, init=start, random_state=seed, n_jobs=1, precomputed_knn=known
        ).fit_transform(logits)
    return np.asarray(layout, dtype=np.float32)


def _keep_compiled() -> None:
    """Let numba keep on disk what UMAP compiles but does not mark as worth keeping; the next process loads it."""
    from numba.core.dispatcher import Dispatcher
    from umap import layouts, umap_

    names = ("smooth_knn_dist", "compute_membership_strengths", "_nb_optimize_layout_euclidean_single_epoch")
    for function in (vars(module).get(name) for module in (umap_, layouts) for name in names):
        if isinstance(function, Dispatcher):
            function.enable_caching()


def _silhouette(embedding: Float[np.ndarray, "n 2"], labels: Int64[np.ndarray, "n"]) -> float:
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(embedding, labels))


def _neighbors(embedding: Float[np.ndarray, "n 2"]) -> Int64[np.ndarray, "n m"]:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=NUM_NEIGHBORS).fit(embedding).kneighbors(return_distance=False)


def _knn(embedding: Float[np.ndarray, "n 2"], labels: Int64[np.ndarray, "n"]) -> float:
    classes, own = np.unique(labels, return_inverse=True)
    votes = np.zeros((len(labels), len(classes)), dtype=np.int64)
    np.add.at(votes, (np.arange(len(labels))[:, None], own[_neighbors(embedding)]), 1)
    return float((votes.argmax(axis=1) == own).mean())


def _trust(logits: Float[np.ndarray, "n k"], embedding: Float[np.ndarray, "n 2"]) -> float:
    """Return trustworthiness as scikit-learn defines it, with no n × n matrix and no sorting of its rows.

    A neighbor's rank among a point's logits is the number of points that are nearer, plus one.
    """
    from sklearn.metrics import euclidean_distances

    exact, neighbors, penalty = logits.astype(np.float64), _neighbors(embedding), 0
    for first in range(0, len(exact), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(exact)))
        distances = euclidean_distances(exact[rows], exact, squared=True)
        distances[np.arange(len(rows)), rows] = -1  # a point is its own nearest
        for near in neighbors[rows].T:
            own = distances[np.arange(len(rows)), near]
            ranks = (distances < own[:, None]).sum(axis=1)
            penalty += int(np.maximum(ranks - NUM_NEIGHBORS, 0).sum())
    n, m = len(exact), NUM_NEIGHBORS
    return 1 - penalty * 2 / (n * m * (2 * n - 3 * m - 1))


def cka(logits: Float[np.ndarray, "n k"], others: Float[np.ndarray, "m j"]) -> float:
    """Return how alike two models arrange the same images: linear CKA (Kornblith et al., 2019, arXiv:1905.00414).

    Returns:
        In [0, 1]: 1 where the one's logits are the other's turned, mirrored, moved or scaled; nan where all of a
        model's logits are the same. With fewer images than twice the classes it is high by chance.

    Raises:
        ValueError: If the two are not of the same images.
    """
    if len(logits) != len(others):
        raise ValueError(f"expected logits of the same images, got {len(logits)} and {len(others)} rows")
    a, b = (rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0) for rows in (logits, others))
    own = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(b.T @ a) ** 2 / own) if own > 0 else np.nan


def likeness(embedding: Float[np.ndarray, "n 2"], other: Float[np.ndarray, "m 2"]) -> float:
    """Return how alike two layouts of the same images are once one is aligned with the other.

    Returns:
        In [0, 1], the same both ways: the share of a layout's spread that the other explains, 1 less the disparity of
        Procrustes analysis; 1 where one is the other turned, mirrored, moved or scaled; nan where one is one point.

    Raises:
        ValueError: If the two are not of the same images.
    """
    own, goal = _same_images(embedding, other)
    spread = np.square(own).sum() * np.square(goal).sum()
    stretch = np.linalg.svd(own.T @ goal, compute_uv=False).sum()
    return float(stretch**2 / spread) if spread > 0 else np.nan


def _same_images(
    embedding: Float[np.ndarray, "n 2"], other: Float[np.ndarray, "m 2"]
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2"]]:
    """Center two layouts of the same images."""
    if len(embedding) != len(other):
        raise ValueError(f"expected layouts of the same images, got {len(embedding)} and {len(other)} points")
    here, there = (one.astype(np.float64) for one in (embedding, other))
    return here - here.mean(axis=0), there - there.mean(axis=0)


def align(embedding: Float[np.ndarray, "n 2"], reference: Float[np.ndarray, "m 2"]) -> Float32[np.ndarray, "n 2"]:
    """Turn, mirror, scale and move a layout onto another of the same images, so that the two can be seen as one.

    Orthogonal Procrustes (Schönemann, 1966): distances within the layout keep their ratios. A layout that is one
    point is moved to the reference's mean.

    Raises:
        ValueError: If the two are not of the same images.
    """
    own, goal = _same_images(embedding, reference)
    left, stretch, right = np.linalg.svd(own.T @ goal)
    size = np.square(own).sum()
    scale = stretch.sum() / size if size > 0 else 0.0
    return (scale * own @ (left @ right) + reference.mean(axis=0, dtype=np.float64)).astype(np.float32)
