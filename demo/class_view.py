"""The tab Class view: what region each model draws a class on."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from demo.compare import MAX_COLUMNS, METHODS, QUIET, REDUCTIONS, SCORES, columns_of
from demo.opening import Opening

if TYPE_CHECKING:
    from demo.shelf import Listing


class ClassTab:
    """Components and events of the tab."""

    def __init__(self, opening: Opening):
        self._opening = opening
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
                self.cards = gr.HTML(apply_default_css=False)
        self._asked = [
            self.dataset,
            self.class_name,
            self.models,
            self.num,
            self.reduction,
            self.score,
            self.method,
        ]
        self.outputs = [self.dataset, self.class_name, self.models]
        self._wire()

    def _wire(self) -> None:
        quiet = {**QUIET, "show_progress_on": self.cards}
        self.dataset.input(self.change_dataset, self.dataset, self.outputs[1:], **quiet).then(
            self.draw, self._asked, self.cards, **quiet
        )
        for control in (self.class_name, self.models, self.reduction, self.score, self.method):
            control.input(self.draw, self._asked, self.cards, **quiet)
        self.num.release(self.draw, self._asked, self.cards, **quiet)

    def open(self, tab: gr.Tab) -> None:
        """Draw when the tab is opened: a class takes longer than an image, so not before it is looked at."""
        tab.select(self.draw, self._asked, self.cards, **QUIET)

    def fill(self, listing: "Listing", dataset: str | None, class_name: str | None, models: list[str]) -> list[Any]:
        """Bring the controls up to the store as it is now, keeping what still exists."""
        if not listing.datasets:
            return [gr.update(choices=[], value=None)] * 2 + [gr.update(choices=[], value=[])]
        name = dataset if dataset in listing.datasets else next(iter(listing.datasets))
        classes = listing.datasets[name].classes
        chosen = class_name if class_name in classes else classes[0]
        kept, offered = _kept(listing, name, models)
        return [
            gr.update(choices=list(listing.datasets), value=name),
            gr.update(choices=list(classes), value=chosen),
            gr.update(choices=offered, value=kept),
        ]

    def change_dataset(self, dataset: str) -> list[Any]:
        """Offer the classes and models of another dataset."""
        return self.fill(self._opening.shelf.listing(), dataset, None, [])[1:]

    def draw(
        self,
        dataset: str | None,
        class_name: str | None,
        models: list[str],
        num: float,
        reduction: str,
        score: str,
        method: str,
    ) -> str:
        """Draw one card per model."""
        from demo.classes import cards
        from demo.markup import notice

        shown = self._opening.shelf.listing().datasets.get(dataset or "")
        if shown is None or not class_name:
            return notice("Choose a dataset and a class")
        if not models:
            return notice("Choose a model", "Tick one or more models.")
        return cards(self._opening.shelf, shown, class_name, models, int(num), reduction, score, method)


def _kept(listing: "Listing", dataset: str, models: list[str]) -> tuple[list[str], list[str]]:
    offered = columns_of(listing, [dataset])
    kept = [name for name in offered if name in models]
    return kept or [name for name in offered if ":" not in name][:MAX_COLUMNS] or offered[:1], offered
