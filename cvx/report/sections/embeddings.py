"""Report section on 2-D embeddings of the logits."""

import numpy as np

from cvx.metrics.embedding import METHODS, align
from cvx.plotting.colors import class_colors, png_uri
from cvx.report import charts
from cvx.report.blocks import Block, Figure, Figures, Heading, Text
from cvx.report.snapshot import DatasetResults, RunRecord, StoreSnapshot, placeless
from cvx.store.npz import read_frame

LAYOUT_WORDS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def embeddings(study: StoreSnapshot) -> list[Block]:
    """Draw the test images' logits by PCA, t-SNE and UMAP, with the numbers that say how far to trust it."""
    blocks: list[Block] = []
    for part in study.parts:
        found: list[Figure] = []
        problems: list[Block] = []
        first: dict[str, np.ndarray] = {}
        for name, past in _embedded(part):
            try:
                arrays = read_frame(past.run.final_embeddings, ("ids", "labels", "logits", *METHODS))
                first = first or arrays
                found += _planes(name, past, _aligned(arrays, first))
            except (ValueError, OSError) as error:
                told = placeless(f"the embeddings of {past.run.name} cannot be shown: {error}", study.store)
                problems.append(Text(told, "problem"))
        if found:
            names = part.samples.classes if part.samples else ()
            legend = tuple(zip(class_colors(len(names)), names, strict=True))[:30]
            blocks += [Heading(part.dataset), Figures(tuple(found), (*legend, ("", "× misclassified")))]
        blocks += problems
    return blocks or [Text("No finished run of this store has embeddings.", "note")]


def _embedded(part: DatasetResults) -> list[tuple[str, RunRecord]]:
    return [(name, past) for name, past in part.judged() if past.run.final_embeddings.is_file()]


def _aligned(arrays: dict[str, np.ndarray], first: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn, mirror and scale layouts onto the first model's, so that the eye can compare them; their shape stays."""
    if arrays is first or not np.array_equal(arrays["ids"], first["ids"]):
        return arrays
    return arrays | {one: align(arrays[one], first[one]) for one in METHODS}


def _planes(name: str, past: RunRecord, arrays: dict[str, np.ndarray]) -> list[Figure]:
    numbers = (past.summary or {}).get("separability", {})
    labels, wrong = arrays["labels"], arrays["logits"].argmax(axis=1) != arrays["labels"]
    colors = class_colors(arrays["logits"].shape[1])
    figures = []
    for method in METHODS:
        told = [
            f"{words} {value:.2f}"
            for key, words in (("silhouette", "silhouette"), ("knn", "kNN"), ("trustworthiness", "trust"))
            if (value := numbers.get(f"{method}/{key}")) is not None
        ]
        uri = png_uri(charts.scatter(arrays[method], labels, colors, wrong))
        figures.append(Figure(f"{name} · {LAYOUT_WORDS[method]}", note=", ".join(told), uri=uri))
    return figures
