"""Save the sections to W&B as a workspace and a report."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cvx.files import read_json, write_json
from cvx.report.fill import Filled
from cvx.report.html import TITLE
from cvx.report.markdown import escape, markdown
from cvx.report.wandb_panels import (
    Bars,
    Chart,
    Comparer,
    Grid,
    ImportancePanel,
    Lines,
    Media,
    Panel,
    Parallel,
    ScatterPanel,
    of_comparisons,
)
from cvx.report.wandb_project import Trained, trained_of, with_runs
from cvx.store.layout import StoreLayout
from cvx.tracking import account

WIDTH = 24
"""Columns of W&B's layout."""
COMPARED = "Compared by python -m cvx compare"
MAX_RUNS = 5_000
"""Runs of a project that are asked which dataset and model they are of."""
GROUPED = (Lines, Bars)
"""Panels that show a model's runs as one, mean and range; the others show run by run."""


def save(root: Path, filled: Sequence[Filled], project: str, name: str = "report", title: str = "") -> dict[str, str]:
    """Save workspace and report, those of an earlier call anew, and return their addresses.

    Args:
        root: The store, which may be empty: then the numbers are those of the project's own runs.
        project: `[ENTITY/]PROJECT` that holds runs.
        name: Where the addresses are kept: `reports/<name>.json` in the store.

    Raises:
        OSError: If there is no account, or W&B does not answer.
        ValueError: If the project holds no runs.
    """
    where, trained = _project(project)
    filled = [with_runs(one, trained) for one in filled]
    datasets = list(dict.fromkeys(one.dataset for one in trained))
    kept = StoreLayout(root).reports_root / f"{name}.json"
    known = _known(kept, where)
    title = title or TITLE
    with account.as_oserror("W&B did not take the report", also=()):
        saved = {"report": _save_report(datasets, filled, where, known.get("report", ""), title)}
        saved["workspace"] = _save_workspace(filled, where, known.get("workspace", ""), title)
    write_json(kept, {"project": f"{where.entity}/{where.project}", **saved})
    return saved


def _project(text: str) -> tuple[account.Target, list[Trained]]:
    """Fill in the entity, and list the trainings; there must be something to report."""
    where, api = account.target(text), account.api()
    try:
        with account.as_oserror(""):
            where = account.Target(where.entity or api.default_entity, where.project)
            found = islice(api.runs(f"{where.entity}/{where.project}", per_page=100), MAX_RUNS)
            trained = [one for run in found if (one := trained_of(run)) is not None]
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({account.one_line(error)}); {_publish(where)}") from None
    if not trained:
        raise ValueError(f"{where} holds no runs; {_publish(where)}")
    return where, sorted(trained, key=lambda one: (one.dataset, one.model))


def _publish(where: account.Target) -> str:
    return f"send this store's runs there first: python -m cvx publish --project={where}"


def _known(kept: Path, where: account.Target) -> dict[str, Any]:
    """Read what an earlier call saved in the same project."""
    if not kept.is_file():
        return {}
    content = read_json(kept)
    return content if content.get("project") == f"{where.entity}/{where.project}" else {}


def _save_workspace(filled: Sequence[Filled], where: account.Target, url: str, title: str) -> str:
    import wandb_workspaces.workspaces as ws

    view = _reopen(ws.Workspace, url) or ws.Workspace(entity=where.entity, project=where.project, name=title)
    view.name, view.sections = title, [_workspace_section(one) for one in filled]
    return str(view.save().url)


def _workspace_section(one: Filled) -> Any:
    """Open with what is said in words and numbers; the panels follow."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    words = wr.MarkdownPanel(markdown="\n\n".join([*map(escape, one.section.text), *markdown(one.blocks)]))
    panels = [words, *(panel_of(panel) for panel in one.section.panels)]
    return ws.Section(name=one.section.title, panels=panels, is_open=True)


def _save_report(datasets: Sequence[str], filled: Sequence[Filled], where: account.Target, url: str, title: str) -> str:
    import wandb_workspaces.reports.v2 as wr

    report = _reopen(wr.Report, url) or wr.Report(entity=where.entity, project=where.project, title=title)
    blocks: list[Any] = [wr.TableOfContents()]
    for one in filled:
        blocks += [wr.H1(one.section.title), *(wr.P(text) for text in one.section.text)]
        blocks += [wr.MarkdownBlock(text=text) for text in markdown(one.blocks)]
        of_runs = [panel for panel in one.section.panels if not of_comparisons(panel)]
        for dataset in datasets if of_runs else ():
            blocks += [wr.H2(dataset), *_grids(where, dataset, of_runs)]
        compared = [panel for panel in one.section.panels if of_comparisons(panel)]
        blocks += [wr.H2(COMPARED), _compared_grid(where, compared)] if compared else []
    report.title, report.blocks = title, blocks
    report.description = "Made by `python -m cvx report`; running it again updates this report."
    report.width = "fluid"
    return str(report.save().url)


def _reopen(kind: Any, url: str) -> Any | None:
    """Open what an earlier call saved, or nothing if it was deleted since."""
    if not url:
        return None
    try:
        with account.as_oserror(""):
            return kind.from_url(url)
    except (OSError, TypeError, KeyError, IndexError):  # each of its readers says it differently
        return None


def _grids(where: account.Target, dataset: str, panels: Sequence[Panel]) -> list[Any]:
    """Lay panels out, those over models apart from those over single runs: a run set is grouped or it is not."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    grids = []
    for grouped in (True, False):
        own = [panel for panel in panels if isinstance(panel, GROUPED) == grouped]
        if own:
            only = expr.And(expr.Config("dataset") == dataset)
            runset = wr.Runset(where.entity, where.project, dataset, filters=only)
            runset.groupby = ["config.dataset", "config.model"] if grouped else []
            grids.append(wr.PanelGrid(runsets=[runset], panels=[_laid_out(panel, grouped) for panel in own]))
    return grids


def _compared_grid(where: account.Target, panels: Sequence[Panel]) -> Any:
    """Lay out what `python -m cvx compare` logged, whatever models it was of."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    only = expr.And(expr.Metric("JobType") == "compare")
    runset = wr.Runset(where.entity, where.project, COMPARED, filters=only)
    return wr.PanelGrid(runsets=[runset], panels=[_laid_out(panel, grouped=False) for panel in panels])


def _laid_out(panel: Panel, grouped: bool) -> Any:
    import wandb_workspaces.reports.v2 as wr

    made = panel_of(panel)
    made.layout = wr.Layout(w=WIDTH // 3, h=7) if grouped else wr.Layout(w=WIDTH, h=14)
    return made


def panel_of(panel: Panel) -> Any:
    """Return W&B's panel for one of ours; hyperparameters must be `Config`, bare names would be taken for metrics."""
    import wandb_workspaces.reports.v2 as wr

    over: dict[str, Any] = {"groupby": wr.Config("model"), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    if isinstance(panel, Lines):
        return wr.LinePlot(title=panel.title, x=panel.x, y=[panel.y], **over)
    if isinstance(panel, Bars):
        return wr.BarPlot(title=panel.title, metrics=[panel.metric], **over)
    if isinstance(panel, Media):
        axes: dict[str, Any] = {"mode": "grid", "grid_x_axis": "index", "grid_y_axis": "run"}
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.keys), num_columns=panel.columns, **axes)
    return _of_runs(panel)


def _of_runs(panel: Panel) -> Any:
    import wandb_workspaces.reports.v2 as wr

    if isinstance(panel, ScatterPanel):
        places: dict[str, Any] = {"x": wr.Config(panel.parameter), "y": wr.SummaryMetric(panel.metric)}
        return wr.ScatterPlot(title=panel.title, log_x=True, **places)
    if isinstance(panel, Parallel):
        metrics: list[Any] = [*(wr.Config(name) for name in panel.parameters), wr.SummaryMetric(panel.metric)]
        columns = [wr.ParallelCoordinatesPlotColumn(metric=metric) for metric in metrics]
        return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)
    if isinstance(panel, ImportancePanel):
        return wr.ParameterImportancePlot(with_respect_to=panel.metric)
    if isinstance(panel, Comparer):
        return wr.RunComparer(diff_only="split")
    if isinstance(panel, Grid):
        return wr.WeavePanelSummaryTable(table_name=panel.key)
    if isinstance(panel, Chart):
        return _chart(panel)
    raise TypeError(f"no panel for {panel}")


def _chart(panel: Chart) -> Any:
    import wandb_workspaces.reports.v2 as wr

    fields = {"label": panel.label, "value": panel.value}
    chart = wr.CustomChart.from_table(panel.key, chart_fields=fields, chart_strings={"title": panel.title})
    chart.chart_name = "wandb/bar/v0"
    return chart
