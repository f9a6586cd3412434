"""The tab Through training: how the maps of a few images came to be, run beside run."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from demo.backend.loader import BackgroundLoader
from demo.components.controls import MAX_COLUMNS, QUIET, REDUCTIONS, newest_of_each_model, script_of
from demo.state.tab_link import TabLink

SCALES = [
    ("One for all runs and epochs", "film"),
    ("One for each run", "run"),
    ("One for each epoch", "epoch"),
    ("Each map its own", "each"),
]


class FilmTab:
    """Components and events of the tab."""

    def __init__(self, opening: BackgroundLoader):
        self._opening = opening
        self.index = gr.State(0)
        with gr.Row(elem_id="cvx-through", elem_classes="cvx-split"):
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
        self.asked = [self.index, self.dataset, self.runs, self.scale, self.reduction]
        self.outputs = self.kept = self.asked
        self.drawn = [self.picker, self.stage]
        self._wire()

    def _wire(self) -> None:
        quiet = {**QUIET, "show_progress_on": self.stage}
        self.dataset.input(self.change_dataset, self.dataset, [self.index, self.runs], **quiet).then(
            self.draw, self.asked, self.drawn, **quiet
        )
        for control in (self.runs, self.scale, self.reduction):
            control.input(self.draw, self.asked, self.drawn, **quiet)
        self.picker.pick(self.pick, self.asked, [self.index, *self.drawn], **quiet)

    def fill(self, link: TabLink) -> list[Any]:
        """Bring the controls up to the runs as they are now, as a link says."""
        chronicle = self._opening.history.chronicle()
        dataset = link.one("dataset", chronicle.datasets)
        runs = chronicle.of(dataset) if dataset else []
        chosen = link.some("run", [past.name for past in runs]) or newest_of_each_model(runs)
        return [
            link.number("image"),
            gr.update(choices=chronicle.datasets, value=dataset),
            gr.update(choices=[(past.label, past.name) for past in reversed(runs)], value=chosen),
            link.one("scale", [value for _, value in SCALES]),
            link.one("reduction", [value for _, value in REDUCTIONS]),
        ]

    def change_dataset(self, dataset: str) -> list[Any]:
        """Offer the runs of another dataset."""
        found = self.fill(TabLink("film", [("film.dataset", dataset)]))
        return [0, found[2]]

    def link(self, index: int, dataset: str | None, runs: Sequence[str], scale: str, reduction: str) -> str:
        """Write down what was chosen."""
        said = {"dataset": dataset, "run": list(runs), "image": index, "scale": scale, "reduction": reduction}
        return TabLink.write("film", said, {"image": 0, "scale": "film", "reduction": "max"})

    def pick(self, event: gr.EventData, index: int, *values: Any) -> list[Any]:
        """Hear which image was clicked, and show its film."""
        value = str(event._data.get("value", ""))
        index = int(value) if value.isdecimal() and event._data.get("action") == "image" else index
        return [index, *self.draw(index, *values)]

    def draw(self, index: int, dataset: str | None, runs: Sequence[str], scale: str, reduction: str) -> list[str]:
        """Draw the strip of images and the film."""
        from demo.components.film_player import film_player
        from demo.components.image_picker import image_picker

        chronicle = self._opening.history.chronicle()
        shown = self._opening.shelf.listing().datasets.get(dataset or "")
        chosen = [past for past in chronicle.named(runs) if past.dataset == dataset][:MAX_COLUMNS]
        link = self.link(index, dataset, runs, scale, reduction)
        strip = image_picker.film_strip(shown, index) if shown else ""
        return [strip, film_player.film(self._opening.history, shown, chosen, index, scale, reduction, link)]
