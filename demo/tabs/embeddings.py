"""The tab Embeddings: where each model's logits put the test images, models side by side."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gradio as gr

from demo.backend.background_loader import BackgroundLoader
from demo.components.controls import MAX_COLUMNS, QUIET, newest_of_each_model, script_of
from demo.serving.fair_queue import MAP_QUEUE
from demo.state.tab_link import TabLink

LAYOUTS = [("PCA", "pca"), ("t-SNE", "tsne"), ("UMAP", "umap")]
COLORS = [("Label", "label"), ("Prediction", "prediction"), ("Right or wrong", "correct"), ("Confidence", "confidence")]
RECOLOR = "(layout, color) => { cvx.recolor?.(layout, color); return []; }"


class EmbeddingsTab:
    """Components and events of the tab."""

    name: ClassVar[str] = "embeddings"
    title: ClassVar[str] = "Embeddings"
    queue = MAP_QUEUE

    def __init__(self, loader: BackgroundLoader):
        self._loader = loader
        with gr.Row(elem_id="cvx-embeddings", elem_classes="cvx-split"):
            with gr.Column(elem_classes="cvx-rail"):
                self.dataset = gr.Dropdown(label="Dataset")
                self.runs = gr.CheckboxGroup(label="Runs", elem_classes="cvx-ticks cvx-many")
                self.layout = gr.Radio(LAYOUTS, value="tsne", label="Layout", elem_classes="cvx-segments")
                self.color = gr.Radio(COLORS, value="label", label="Color", elem_classes="cvx-segments")
            with gr.Column(elem_classes="cvx-stage"):
                self.stage = gr.HTML(
                    js_on_load=script_of("scatter_plots/scatter_plots.js"),
                    apply_default_css=False,
                    server_functions=[self._thumbs()],
                )
        self.fill_outputs = self.link_inputs = self.draw_inputs = [self.dataset, self.runs, self.layout, self.color]
        self.draw_outputs = [self.stage]
        self.image_source = self.stage
        self._wire()

    def _wire(self) -> None:
        quiet = {**QUIET, "show_progress_on": self.stage}
        self.dataset.input(self.change_dataset, self.dataset, self.runs, **quiet).then(
            self.draw, self.draw_inputs, self.draw_outputs, **quiet
        )
        self.runs.input(self.draw, self.draw_inputs, self.draw_outputs, **quiet)
        for control in (self.layout, self.color):
            control.input(None, [self.layout, self.color], None, js=RECOLOR)

    def _thumbs(self) -> Any:
        """Return what the browser calls for pictures of samples: a plain function, as Gradio marks it as its own."""

        def thumbs(request: dict[str, Any]) -> str:
            from demo.components.scatter_plots import scatter_plots

            dataset_entry = self._loader.service.catalog().datasets.get(str(request.get("dataset", "")))
            return scatter_plots.thumbs(dataset_entry, list(request.get("rows", [])))

        return thumbs

    def fill(self, link: TabLink) -> list[Any]:
        """Bring the controls up to the runs as they are now, as a link says."""
        run_list = self._loader.run_history.run_list()
        dataset = link.one("dataset", run_list.datasets)
        runs = run_list.of(dataset) if dataset else []
        chosen = link.some("run", [run.name for run in runs]) or newest_of_each_model(runs)
        layouts = ["tsne", "pca", "umap"]
        return [
            gr.update(choices=run_list.datasets, value=dataset),
            gr.update(choices=[(run.label, run.name) for run in reversed(runs)], value=chosen),
            link.one("layout", layouts),
            link.one("color", [value for _, value in COLORS]),
        ]

    def change_dataset(self, dataset: str) -> Any:
        """Offer the runs of another dataset."""
        return self.fill(TabLink(self.name, [(f"{self.name}.dataset", dataset)]))[1]

    def link(self, dataset: str | None, runs: Sequence[str], layout: str, color: str) -> str:
        """Write down what was chosen."""
        said = {"dataset": dataset, "run": list(runs), "layout": layout, "color": color}
        return TabLink.write(self.name, said, {"layout": "tsne", "color": "label"})

    def draw(self, dataset: str | None, runs: Sequence[str], layout: str, color: str) -> list[str]:
        """Draw the panels."""
        from demo.components.scatter_plots import scatter_plots

        dataset_entry = self._loader.service.catalog().datasets.get(dataset or "")
        named = self._loader.run_history.run_list().named(runs)
        chosen = [run for run in named if run.dataset == dataset][:MAX_COLUMNS]
        link = self.link(dataset, runs, "tsne", "label")  # the page adds layout and color, which it changes itself
        return [scatter_plots.panels(self._loader.run_history, dataset_entry, chosen, layout, color, link)]
