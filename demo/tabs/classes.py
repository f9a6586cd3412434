"""The tab Class view: each model's mean map of a class, with numbers and examples."""

from typing import Any, ClassVar

import gradio as gr

from demo.backend.background_loader import BackgroundLoader
from demo.components.controls import MAX_COLUMNS, METHODS, QUIET, REDUCTIONS, SCORES, columns_of, script_of
from demo.serving.fair_queue import MAP_QUEUE
from demo.state.selection import CHOICES
from demo.state.tab_link import TabLink

DEFAULTS = {"num": 50, "reduction": "max", "score": "logit", "method": "gradient"}


class ClassesTab:
    """Components and events of the tab."""

    name: ClassVar[str] = "classes"
    title: ClassVar[str] = "Class view"
    queue = MAP_QUEUE
    image_source = None

    def __init__(self, loader: BackgroundLoader):
        self._loader = loader
        with gr.Row(elem_id="cvx-classes", elem_classes="cvx-split"):
            with gr.Column(elem_classes="cvx-rail"):
                self.dataset = gr.Dropdown(label="Dataset")
                self.class_name = gr.Dropdown(label="Class")
                self.models = gr.CheckboxGroup(label="Models", elem_classes="cvx-ticks cvx-many")
                self.num = gr.Slider(5, 200, 50, step=5, label="Images of the class, at most", buttons=[])
                self.reduction = gr.Dropdown(REDUCTIONS, value="max", label="Channels")
                self.score = gr.Dropdown(SCORES, value="logit", label="Score")
                self.method = gr.Dropdown(METHODS, value="gradient", label="Method")
            with gr.Column(elem_classes="cvx-stage"):
                self.cards = gr.HTML(js_on_load=script_of("class_cards/class_cards.js"), apply_default_css=False)
        self.draw_inputs = [
            self.dataset,
            self.class_name,
            self.models,
            self.num,
            self.reduction,
            self.score,
            self.method,
        ]
        self.fill_outputs = self.link_inputs = self.draw_inputs
        self.draw_outputs = [self.cards]
        self._wire()

    def _wire(self) -> None:
        quiet = {**QUIET, "show_progress_on": self.cards}
        self.dataset.input(self.change_dataset, self.dataset, self.fill_outputs[1:3], **quiet).then(
            self.draw, self.draw_inputs, self.cards, **quiet
        )
        for control in (self.class_name, self.models, self.reduction, self.score, self.method):
            control.input(self.draw, self.draw_inputs, self.cards, **quiet)
        self.num.release(self.draw, self.draw_inputs, self.cards, **quiet)

    def fill(self, link: TabLink) -> list[Any]:
        """Bring the controls up to the store as it is now, keeping what still exists."""
        catalog = self._loader.service.catalog()
        name = link.one("dataset", list(catalog.datasets))
        classes = list(catalog.datasets[name].classes) if name else []
        offered = columns_of(catalog, [name]) if name else []
        models = (
            link.some("model", offered) or [name for name in offered if ":" not in name][:MAX_COLUMNS] or offered[:1]
        )
        return [
            gr.update(choices=list(catalog.datasets), value=name),
            gr.update(choices=classes, value=link.one("class", classes)),
            gr.update(choices=offered, value=models),
            min(200, max(5, link.number("num", 50))),
            *(link.one(field, CHOICES[field]) for field in ("reduction", "score", "method")),
        ]

    def link(self, *values: Any) -> str:
        """Write down what was chosen."""
        fields = ("dataset", "class", "model", "num", "reduction", "score", "method")
        return TabLink.write(self.name, dict(zip(fields, values, strict=True)), DEFAULTS)

    def change_dataset(self, dataset: str) -> list[Any]:
        """Offer the classes and models of another dataset."""
        return self.fill(TabLink(self.name, [(f"{self.name}.dataset", dataset)]))[1:3]

    def draw(
        self,
        dataset: str | None,
        class_name: str | None,
        models: list[str],
        num: float,
        reduction: str,
        score: str,
        method: str,
    ) -> list[str]:
        """Draw one card per model."""
        from demo.components.class_cards.class_cards import cards
        from demo.components.markup import notice

        dataset_entry = self._loader.service.catalog().datasets.get(dataset or "")
        if dataset_entry is None or not class_name:
            return [notice("Choose a dataset and a class")]
        if not models:
            return [notice("Choose a model", "Tick one or more models.")]
        link = self.link(dataset, class_name, models, int(num), reduction, score, method)
        return [
            cards(self._loader.service, dataset_entry, class_name, models, int(num), reduction, score, method, link)
        ]
