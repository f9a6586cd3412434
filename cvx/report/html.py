"""Render the page: one template, one file, nothing fetched from elsewhere."""

import statistics
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import jinja2
from markupsafe import Markup

from cvx.files import whole_file
from cvx.plotting.colors import data_uri
from cvx.plotting.labels import percent
from cvx.report.blocks import Text
from cvx.report.fill import Filled
from cvx.report.snapshot import DatasetResults, StoreSnapshot
from cvx.store.layout import StoreLayout
from cvx.store.store import NAME

HERE = Path(__file__).parent / "templates"
TITLE = "What image classifiers look at"


def write(root: Path, page: str, name: str = "report") -> Path:
    """Write a page into the store.

    Raises:
        ValueError: As `page_path`.
    """
    path = page_path(root, name)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def page_path(root: Path, name: str) -> Path:
    """Return `reports/<name>.html` in the store.

    Raises:
        ValueError: If the name cannot be a file's.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"a report's name has letters, digits, `_ . -` only, got {name!r}")
    return StoreLayout(root).reports_root / f"{name}.html"


def render(study: StoreSnapshot, filled: Sequence[Filled], title: str = "") -> str:
    """Draw the page; sections without blocks are left out."""
    return _template().render(
        title=title or TITLE,
        summary=summary(study),
        findings=findings(study),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        filled=[one for one in filled if one.blocks],
        ramps=ramps(),
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
    )


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html")


def ramps() -> dict[str, str]:
    """Return the colors of magnitudes and of signed maps as pictures, for color bars."""
    import numpy as np

    from cvx.plotting.colors import colorize

    unit = np.linspace(0, 1, 128, dtype=np.float32)[None]
    return {"magnitude": data_uri(colorize(unit)), "signed": data_uri(colorize(2 * unit - 1, signed=True))}


def summary(study: StoreSnapshot) -> str:
    """Say in one sentence what the report is about."""
    models = {one.card.model for part in study.parts for one in part.lookers}
    models |= {recipe.model for part in study.parts for recipe in part.recipes}
    runs, seeds = study.runs, {past.seed for past in study.runs}
    told = [_count(len(models), "architecture"), _count(len(study.parts), "dataset")]
    told += [_count(len(runs), "run")] if runs else []
    if len(seeds) > 1:
        told.append(_count(len(seeds), "seed"))
    names = ", ".join(part.dataset for part in study.parts)
    return f"{', '.join(told)}. Datasets: {names}. Maps are vanilla gradients of the true class's logit."


def _count(num: int, what: str) -> str:
    return f"{num} {what}{'s' * (num != 1)}"


def findings(study: StoreSnapshot) -> list[Text]:
    """Say per dataset which model did best, and whether that is more than seeds make."""
    return [Text(text, "finding") for part in study.parts if (text := _finding(part))]


def _finding(part: DatasetResults) -> str:
    own = [recipe for model in sorted({one.model for one in part.recipes}) if (recipe := part.best_recipe(model))]
    values = {one.model: [past.number("test/acc1") for past in one.finished()] for one in own}
    values = {model: found for model, found in values.items() if found and all(value == value for value in found)}
    if not values:
        return ""
    ranked = sorted(values, key=lambda model: -statistics.mean(values[model]))
    first = ranked[0]
    told = f"{part.dataset}: {first} recognizes {percent(statistics.mean(values[first]))} of the test images"
    if len(ranked) == 1:
        return f"{told}."
    second = ranked[1]
    apart = min(values[first]) > max(values[second])
    several = min(len(values[first]), len(values[second])) > 1
    worth = "more than the seeds differ" if apart else "within what seeds make of it"
    told += f", {second} {percent(statistics.mean(values[second]))}"
    return f"{told}: {worth}." if several else f"{told} (one seed: a small difference may be chance)."
