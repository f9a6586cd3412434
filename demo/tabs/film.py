"""The tab Training film: the maps of a few images, epoch by epoch, run beside run."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gradio as gr

from demo.backend.background_loader import BackgroundLoader
from demo.components.controls import MAX_COLUMNS, QUIET, REDUCTIONS, event_data, newest_of_each_model, script_of
from demo.serving.fair_queue import MAP_QUEUE
from demo.state.tab_link import TabLink

SCALES = [
    ("One for all runs and epochs", "film"),
    ("One for each run", "run"),
    ("One for each epoch", "epoch"),
    ("Each map its own", "each"),
]


class FilmTab:
    """Components and events of the tab."""

    name: ClassVar[str] = "film"
    title: ClassVar[str] = "Training film"
    queue = MAP_QUEUE
    image_source = None

    def __init__(self, loader: BackgroundLoader):
        self._loader = loader
        self.index = gr.State(0)
        with gr.Row(elem_id="cvx-film", elem_classes="cvx-split"):
            with gr.Column(elem_classes="cvx-rail"):
                self.dataset = gr.Dropdown(label="Dataset")
                self.runs = gr.CheckboxGroup(label="Runs", elem_classes="cvx-ticks cvx-many")
                self.scale = gr.Dropdown(SCALES, value="film", label="Scale")
                self.reduction = gr.Dropdown(REDUCTIONS, value="max", label="Channels")
                self.picker = gr.HTML(
                    js_on_load=script_of("image_picker/image_picker.js"),
                    apply_default_css=False,
                    elem_classes="cvx-picker",
                )
            with gr.Column(elem_classes="cvx-stage"):
                self.stage = gr.HTML(js_on_load=script_of("film_player/film_player.js"), apply_default_css=False)
        self.draw_inputs = [self.index, self.dataset, self.runs, self.scale, self.reduction]
        self.fill_outputs = self.link_inputs = self.draw_inputs
        self.draw_outputs = [self.picker, self.stage]
        self._wire()

    def _wire(self) -> None:
        quiet = {**QUIET, "show_progress_on": self.stage}
        self.dataset.input(self.change_dataset, self.dataset, [self.index, self.runs], **quiet).then(
            self.draw, self.draw_inputs, self.draw_outputs, **quiet
        )
        for control in (self.runs, self.scale, self.reduction):
            control.input(self.draw, self.draw_inputs, self.draw_outputs, **quiet)
        self.picker.pick(self.pick, self.draw_inputs, [self.index, *self.draw_outputs], **quiet)

    def fill(self, link: TabLink) -> list[Any]:
        """Bring the controls up to the runs as they are now, as a link says."""
        run_list = self._loader.run_history.run_list()
        dataset = link.one("dataset", run_list.datasets)
        runs = run_list.of(dataset) if dataset else []
        chosen = link.some("run", [run.name for run in runs]) or newest_of_each_model(runs)
        return [
            link.number("image"),
            gr.update(choices=run_list.datasets, value=dataset),
            gr.update(choices=[(run.label, run.name) for run in reversed(runs)], value=chosen),
            link.one("scale", [value for _, value in SCALES]),
            link.one("reduction", [value for _, value in REDUCTIONS]),
        ]

    def change_dataset(self, dataset: str) -> list[Any]:
        """Offer the runs of another dataset."""
        return [0, self.fill(TabLink(self.name, [(f"{self.name}.dataset", dataset)]))[2]]

    def link(self, index: int, dataset: str | None, runs: Sequence[str], scale: str, reduction: str) -> str:
        """Write down what was chosen."""
        said = {"dataset": dataset, "run": list(runs), "image": index, "scale": scale, "reduction": reduction}
        return TabLink.write(self.name, said, {"image": 0, "scale": "film", "reduction": "max"})

    def pick(self, event: gr.EventData, index: int, *values: Any) -> list[Any]:
        """Hear which image was clicked, and show its film."""
        data = event_data(event)
        value = str(data.get("value", ""))
        index = int(value) if value.isdecimal() and data.get("action") == "image" else index
        return [index, *self.draw(index, *values)]

    def draw(self, index: int, dataset: str | None, runs: Sequence[str], scale: str, reduction: str) -> list[str]:
        """Draw the strip of images and the film."""
        from demo.components.film_player import film_player
        from demo.components.image_picker import image_picker

        run_list = self._loader.run_history.run_list()
        dataset_entry = self._loader.service.catalog().datasets.get(dataset or "")
        chosen = [run for run in run_list.named(runs) if run.dataset == dataset][:MAX_COLUMNS]
        link = self.link(index, dataset, runs, scale, reduction)
        strip = image_picker.film_strip(dataset_entry, index) if dataset_entry else ""
        return [strip, film_player.page(self._loader.run_history, dataset_entry, chosen, index, scale, reduction, link)]
