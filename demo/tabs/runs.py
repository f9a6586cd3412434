"""The tab Runs: learning curves, hyperparameters and results of the store's runs."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gradio as gr

from demo.backend.background_loader import BackgroundLoader
from demo.components.controls import QUIET, script_of
from demo.serving.fair_queue import MAP_QUEUE
from demo.state.tab_link import TabLink

X_AXES = [("Epoch", "epoch"), ("Step", "step"), ("Time", "time")]
LOGS = [("Logarithmic x", "x"), ("Logarithmic y", "y")]
COLORS = [("Run", "run"), ("Model", "model"), ("Dataset", "dataset"), ("Sweep", "group")]
NO_GROUP = "(none)"
DEFAULTS = {"metric": "val/acc1", "x": "epoch", "smoothing": 0, "log": [], "group": [], "color": "run"}


class RunsTab:
    """Components and events of the tab."""

    name: ClassVar[str] = "runs"
    title: ClassVar[str] = "Runs"
    queue = MAP_QUEUE
    image_source = None

    def __init__(self, loader: BackgroundLoader):
        self._loader = loader
        with gr.Row(elem_id="cvx-runs", elem_classes="cvx-split"):
            with gr.Column(elem_classes="cvx-rail"):
                self.datasets = gr.CheckboxGroup(label="Datasets", elem_classes="cvx-ticks")
                self.models = gr.CheckboxGroup(label="Models", elem_classes="cvx-ticks cvx-many")
                self.groups = gr.CheckboxGroup(
                    label="Sweeps and groups", elem_classes="cvx-ticks cvx-many", visible=False
                )
                self.metric = gr.Dropdown(["val/acc1"], value="val/acc1", label="Metric")
                self.x = gr.Radio(X_AXES, value="epoch", label="Along", elem_classes="cvx-segments")
                self.smoothing = gr.Slider(0, 99, 0, step=1, label="Smoothing, %", buttons=[])
                self.log = gr.CheckboxGroup(LOGS, label="Axes", elem_classes="cvx-ticks")
                self.color = gr.Radio(COLORS, value="run", label="One color for each", elem_classes="cvx-segments")
            with gr.Column(elem_classes="cvx-stage"):
                self.stage = gr.HTML(js_on_load=script_of("run_charts/run_charts.js"), apply_default_css=False)
        chosen = [self.datasets, self.models, self.groups]
        self.draw_inputs = [*chosen, self.metric, self.x, self.smoothing, self.log, self.color]
        self.fill_outputs = self.link_inputs = self.draw_inputs
        self.draw_outputs = [self.stage]
        self._wire()

    def _wire(self) -> None:
        quiet = {**QUIET, "show_progress_on": self.stage}
        self.datasets.input(self.change_datasets, self.draw_inputs, self.fill_outputs[1:4], **quiet).then(
            self.draw, self.draw_inputs, self.draw_outputs, **quiet
        )
        for control in (self.models, self.groups, self.metric, self.x, self.log, self.color):
            control.input(self.draw, self.draw_inputs, self.draw_outputs, **quiet)
        self.smoothing.release(self.draw, self.draw_inputs, self.draw_outputs, **quiet)

    def fill(self, link: TabLink) -> list[Any]:
        """Bring the controls up to the runs as they are now, as a link says."""
        from demo.components.run_charts.run_charts import metrics_of

        run_list = self._loader.run_history.run_list()
        datasets = link.some("dataset", run_list.datasets) or run_list.datasets[:1]
        runs = [run for run in run_list.runs if run.dataset in datasets]
        models = sorted({run.model for run in runs})
        groups = sorted({run.group or NO_GROUP for run in runs})
        metrics = metrics_of(self._loader.run_history, runs) or ["val/acc1"]
        preferred = [name for name in ("val/acc1", *metrics) if name in metrics]
        return [
            gr.update(choices=run_list.datasets, value=datasets),
            gr.update(choices=models, value=link.some("model", models) or models),
            gr.update(choices=groups, value=link.some("group", groups) or groups, visible=groups != [NO_GROUP]),
            gr.update(choices=metrics, value=link.one("metric", preferred)),
            link.one("x", [value for _, value in X_AXES]),
            link.number("smoothing", most=99),
            link.some("log", ["x", "y"]),
            link.one("color", [value for _, value in COLORS]),
        ]

    def change_datasets(self, datasets: list[str], _: list[str], __: list[str], metric: str, *___: Any) -> list[Any]:
        """Offer the models, sweeps and metrics of other datasets, all of the models and sweeps ticked."""
        pairs = [("runs.dataset", dataset) for dataset in datasets] + [("runs.metric", metric)]
        return self.fill(TabLink(self.name, pairs))[1:4]

    def link(
        self,
        datasets: Sequence[str],
        models: Sequence[str],
        groups: Sequence[str],
        metric: str,
        x: str,
        smoothing: float,
        log: list[str],
        color: str,
    ) -> str:
        """Write down what was chosen."""
        said = {"dataset": list(datasets), "model": list(models), "group": self._few(datasets, groups)}
        drawn = {"metric": metric, "x": x, "smoothing": int(smoothing), "log": log, "color": color}
        return TabLink.write(self.name, {**said, **drawn}, DEFAULTS)

    def _few(self, datasets: Sequence[str], groups: Sequence[str]) -> list[str]:
        """Leave all of the groups out of a link: it then means those that will come, too."""
        runs = [run for run in self._loader.run_history.run_list().runs if run.dataset in datasets]
        return [] if {run.group or NO_GROUP for run in runs} <= set(groups) else list(groups)

    def draw(
        self,
        datasets: Sequence[str],
        models: Sequence[str],
        groups: Sequence[str],
        metric: str,
        x: str,
        smoothing: float,
        log: list[str],
        color: str,
    ) -> list[str]:
        """Draw curves and tables."""
        from demo.components.markup import notice
        from demo.components.run_charts import run_charts

        run_list = self._loader.run_history.run_list()
        runs = [p for p in run_list.runs if p.dataset in datasets and p.model in models]
        runs = [run for run in runs if (run.group or NO_GROUP) in groups]
        axes = {"log_x": "x" in log, "log_y": "y" in log}
        drawn = run_charts.Drawn(metric=metric, x=x, smoothing=smoothing / 100, color=color, **axes)
        link = self.link(datasets, models, groups, metric, x, smoothing, log, color)
        broken = "".join(notice(f"{name} cannot be read", why, "error") for name, why in run_list.broken.items())
        return [broken + run_charts.page(self._loader.run_history, runs, drawn, link)]
