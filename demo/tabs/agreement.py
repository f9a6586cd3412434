"""The tab Agreement: a matrix of how similar models' maps are, and the images on which two differ most."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gradio as gr

from demo.backend.background_loader import BackgroundLoader
from demo.components.controls import MAX_COLUMNS, QUIET, columns_of, event_data, script_of
from demo.serving.fair_queue import AGREEMENT_QUEUE
from demo.state.tab_link import TabLink

MEASURES = [
    ("Spearman, magnitude", "spearman"),
    ("Spearman, signed", "spearman_signed"),
    ("Cosine", "cosine"),
    ("Top 10 %", "topk"),
    ("SSIM", "ssim"),
    ("HOG", "hog"),
]
CONDITIONS = [("All images", "all"), ("Both right", "both_right"), ("They disagree", "disagree")]
DEFAULTS = {"measure": "spearman", "condition": "all", "num": 200}


class AgreementTab:
    """Components and events of the tab."""

    name: ClassVar[str] = "agreement"
    title: ClassVar[str] = "Agreement"
    queue = AGREEMENT_QUEUE

    def __init__(self, loader: BackgroundLoader):
        self._loader = loader
        self.pair = gr.State([])
        with gr.Row(elem_id="cvx-agreement", elem_classes="cvx-split"):
            with gr.Column(elem_classes="cvx-rail"):
                self.dataset = gr.Dropdown(label="Dataset")
                self.models = gr.CheckboxGroup(label="Models", elem_classes="cvx-ticks cvx-many")
                self.measure = gr.Dropdown(MEASURES, value="spearman", label="Measure")
                self.condition = gr.Radio(CONDITIONS, value="all", label="Images", elem_classes="cvx-segments")
                self.num = gr.Slider(50, 1000, 200, step=50, label="Images, at most", buttons=[])
            with gr.Column(elem_classes="cvx-stage"):
                self.stage = gr.HTML(
                    js_on_load=script_of("agreement_matrix/agreement_matrix.js"), apply_default_css=False
                )
        self.draw_inputs = [self.pair, self.dataset, self.models, self.measure, self.condition, self.num]
        self.fill_outputs = self.link_inputs = self.draw_inputs
        self.draw_outputs = [self.stage]
        self.image_source = self.stage
        self._wire()

    def _wire(self) -> None:
        quiet = {**QUIET, **self.queue, "show_progress_on": self.stage}
        self.dataset.input(self.change_dataset, self.dataset, [self.pair, self.models], **quiet).then(
            self.draw, self.draw_inputs, self.draw_outputs, **quiet
        )
        for control in (self.models, self.measure, self.condition):
            control.input(self.draw, self.draw_inputs, self.draw_outputs, **quiet)
        self.num.release(self.draw, self.draw_inputs, self.draw_outputs, **quiet)
        self.stage.pair(self.choose, self.draw_inputs, [self.pair, *self.draw_outputs], **quiet)

    def fill(self, link: TabLink) -> list[Any]:
        """Bring the controls up to the store as it is now, as a link says."""
        catalog = self._loader.service.catalog()
        name = link.one("dataset", list(catalog.datasets))
        offered = columns_of(catalog, [name]) if name else []
        models = link.some("model", offered) or [name for name in offered if ":" not in name][:MAX_COLUMNS]
        if len(models) < 2:
            models = offered[:2]
        return [
            link.some("pair", models)[:2],
            gr.update(choices=list(catalog.datasets), value=name),
            gr.update(choices=offered, value=models),
            link.one("measure", [value for _, value in MEASURES]),
            link.one("condition", [value for _, value in CONDITIONS]),
            min(1000, max(50, link.number("num", 200))),
        ]

    def change_dataset(self, dataset: str) -> list[Any]:
        """Offer the models of another dataset."""
        pair, _, models, *_ = self.fill(TabLink(self.name, [(f"{self.name}.dataset", dataset)]))
        return [pair, models]

    def link(self, pair: Sequence[str], dataset: str | None, models: Sequence[str], *rest: Any) -> str:
        """Write down what was chosen."""
        measure, condition, num = rest
        said = {"dataset": dataset, "model": list(models), "pair": list(pair)}
        numbers = {"measure": measure, "condition": condition, "num": int(num)}
        return TabLink.write(self.name, {**said, **numbers}, DEFAULTS)

    def choose(self, event: gr.EventData, pair: Sequence[str], *rest: Any) -> list[Any]:
        """Show where the two models of a cell differ."""
        data = event_data(event)
        chosen = [str(data.get(name, "")) for name in ("first", "second")]
        return [chosen, *self.draw(chosen, *rest)]

    def draw(
        self,
        pair: Sequence[str],
        dataset: str | None,
        models: Sequence[str],
        measure: str,
        condition: str,
        num: float,
    ) -> list[str]:
        """Draw the matrix, and the images on which two models differ most."""
        from demo.components.agreement_matrix import agreement_matrix
        from demo.components.markup import notice

        dataset_entry = self._loader.service.catalog().datasets.get(dataset or "")
        if dataset_entry is None:
            return [notice("Choose a dataset")]
        known = [name for name in models if name in dataset_entry.columns]
        if len(known) < 2:
            return [notice("Choose two models", "Agreement is between models: tick two or more of this dataset.")]
        link = self.link(pair, dataset, known, measure, condition, num)
        return [
            agreement_matrix.page(self._loader.service, dataset_entry, known, pair, measure, condition, int(num), link)
        ]
