"""A row of maps as a file to take home: a picture, the arrays, or the numbers."""

import base64
import csv
import io
import json
import secrets

import numpy as np

from cvx.attribution import to_heatmap
from cvx.attribution.options import METHOD_WORDS, REDUCTION_WORDS, SCORE_WORDS, unit
from cvx.plotting import colors, panels
from cvx.store.provenance import provenance
from demo.backend.lru_cache import LRUCache
from demo.backend.map_rows import Cell, MapRow, beside, largest, norm
from demo.components.map_grid.map_grid import CHOSEN_WORDS
from demo.state.selection import Choice

KINDS = {"png": "image/png", "npz": "application/octet-stream", "csv": "text/csv;charset=utf-8"}
"""What a row can be saved as, with its media type."""
Drawn = tuple[MapRow, Choice, str]
"""A row, how it was drawn, and the link that leads back to it."""

_kept: LRUCache[Drawn] = LRUCache(2**28)


def keep(drawn: Drawn) -> str:
    """Keep a row until newer ones take its place, and return a name that only the page which shows it knows."""
    explanations = [cell.explanation for cell in drawn[0].cells if cell.explanation is not None]
    name, size = (
        secrets.token_urlsafe(12),
        sum(explanation.attribution.nbytes + explanation.images.nbytes for explanation in explanations),
    )
    _kept.get(name, lambda: (drawn, size + 1))
    return name


def save(name: str, kind: str) -> dict[str, str]:
    """Return a kept row as what the browser saves: file name, media type and content in base64.

    Raises:
        ValueError: If the row is no longer kept, or cannot be saved so; the message says what to do.
    """
    drawn = _kept.find(name)
    if drawn is None:
        raise ValueError("this row is no longer kept; press Refresh and try again")
    file, content = file_of(drawn, kind)
    return {"name": file, "type": KINDS[kind], "content": base64.b64encode(content).decode("ascii")}


def file_of(drawn: Drawn, kind: str) -> tuple[str, bytes]:
    """Return name and content of a row as a file.

    Raises:
        ValueError: If there is no such kind of file.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of file {kind!r}; known: {', '.join(KINDS)}")
    map_row, choice, link = drawn
    able = [cell for cell in map_row.cells if cell.explanation is not None and cell.scaled is not None]
    if not able:
        raise ValueError("no model of this row has answered, so there is nothing to save")
    make = {"png": _picture, "npz": _arrays, "csv": _table}[kind]
    return f"cvx-{map_row.dataset.name}.{kind}", make(able, map_row, choice, link)


def facts_of(cell: Cell, map_row: MapRow, choice: Choice) -> dict[str, str | float]:
    """List the numbers of one cell, and what a reader must know to get them again."""
    explanation, scaled = cell.explanation, cell.scaled
    assert explanation is not None and scaled is not None
    target, pred, held = int(explanation.targets[0]), int(explanation.preds[0]), beside(cell, map_row, choice)
    return {
        **_image_facts(map_row),
        "model": explanation.reference,
        "weights_sha256": explanation.card.sha256,
        "prediction": explanation.card.classes[pred],
        "prediction_probability": float(explanation.probs[0, pred]),
        "target": explanation.card.classes[target],
        "target_logit": float(explanation.logits[0, target]),
        "target_probability": float(explanation.probs[0, target]),
        "explained": choice.target,
        "score": explanation.score,
        "method": explanation.method,
        "reduction": choice.reduction,
        "unit": unit(explanation.score, explanation.method),
        "scale_limit": float(scaled.limit),
        "clipped_share": float(scaled.clipped),
        "l2_norm": norm(explanation),
        "largest": largest(explanation),
        "spearman_with": held.first,
        "spearman": _known(held.spearman),
        "mass_on_mask": _known(held.mass_on_mask),
        "mask_share": _known(held.mask_share),
    }


def _image_facts(map_row: MapRow) -> dict[str, str | float]:
    source = map_row.query.source if map_row.query else {}
    return {
        "dataset": map_row.dataset.name,
        "image": map_row.query.caption if map_row.query else "",
        **{name: source.get(name, "") for name in ("samples_fingerprint", "sample_index", "sample_id", "file_sha256")},
        "label": map_row.label,
    }


def _known(value: float | None) -> float | str:
    """Leave a place empty where there is no number."""
    return "" if value is None or np.isnan(value) else value


def _table(cells: list[Cell], map_row: MapRow, choice: Choice, link: str) -> bytes:
    rows = [facts_of(cell, map_row, choice) | {"link": f"?{link}"} for cell in cells]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows({key: _inert(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8-sig")


def _inert(value: str | float) -> str | float:
    """Keep a spreadsheet from taking a name for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _arrays(cells: list[Cell], map_row: MapRow, choice: Choice, link: str) -> bytes:
    """Save what was computed, nothing scaled; arrays of the k-th model end in `_k`."""
    about = {
        "models": [facts_of(cell, map_row, choice) for cell in cells],
        "link": f"?{link}",
        "provenance": provenance(),
    }
    arrays: dict[str, np.ndarray] = {"about": np.array(json.dumps(about))}
    for k, cell in enumerate(cells):
        assert cell.explanation is not None
        arrays[f"attribution_{k}"] = cell.explanation.attribution[0]
        arrays[f"map_{k}"] = to_heatmap(cell.explanation.attribution, choice.reduction)[0]
        arrays[f"image_{k}"] = cell.explanation.images[0]
        arrays[f"logits_{k}"] = cell.explanation.logits[0]
        arrays[f"target_{k}"] = cell.explanation.targets[0]
        arrays[f"classes_{k}"] = np.array(cell.explanation.card.classes)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _picture(cells: list[Cell], map_row: MapRow, choice: Choice, link: str) -> bytes:
    """Put a panel per model below each other, with scale and small print."""
    drawn = [_panel(cell, map_row, choice, link) for cell in cells]
    width = max(panel.shape[1] for panel in drawn)
    padded = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in drawn]
    return colors.png_bytes(np.concatenate(padded))


def _panel(cell: Cell, map_row: MapRow, choice: Choice, link: str) -> np.ndarray:
    explanation, scaled = cell.explanation, cell.scaled
    assert explanation is not None and scaled is not None
    facts, where = facts_of(cell, map_row, choice), map_row.query.caption if map_row.query else ""
    asked = f"{SCORE_WORDS[explanation.score]} of {facts['target']} ({CHOSEN_WORDS[choice.target]})"
    drawn = "zero everywhere" if scaled.zero else f"{choice.scale} scale, {100 * float(scaled.clipped):.1f} % beyond"
    how = f"{METHOD_WORDS[explanation.method]}, {REDUCTION_WORDS[choice.reduction]}"
    commit = str(provenance()["git_commit"])[:12] or "not of a git checkout"
    return panels.panel(
        explanation.images[0],
        scaled.values,
        title=[explanation.reference, f"label {map_row.label or 'unknown'}, predicted {facts['prediction']}", asked],
        notes=[
            f"{map_row.dataset.title}, {where}. {how[0].upper()}{how[1:]}; {drawn}.",
            *_held(facts),
            f"{_which(facts)}; weights sha256 {explanation.card.sha256[:16]}; cvx {commit}; ?{link}",
        ],
        limit=float(scaled.limit),
        unit=unit(explanation.score, explanation.method),
        signed=choice.reduction == "signed",
        opacity=choice.opacity / 100,
    )


def _held(facts: dict[str, str | float]) -> list[str]:
    said = []
    if facts["spearman_with"]:
        said.append(f"Spearman correlation with {facts['spearman_with']}: {_digits(facts['spearman'], 2)}.")
    if facts["mask_share"] != "":
        said.append(
            f"Mass on the mask {_digits(facts['mass_on_mask'], 3)}, by chance {_digits(facts['mask_share'], 3)}."
        )
    return [" ".join(said)] if said else []


def _digits(value: str | float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") if isinstance(value, float) else "–"


def _which(facts: dict[str, str | float]) -> str:
    if facts["file_sha256"]:
        return f"file sha256 {str(facts['file_sha256'])[:16]}"
    return f"samples {str(facts['samples_fingerprint'])[:16]}, id {facts['sample_id']}"
