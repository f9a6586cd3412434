"""The tab Compare: datasets, models and images on the left, settings above, and the rows of maps."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gradio as gr

from demo.backend.background_loader import BackgroundLoader
from demo.components.controls import (
    MAX_COLUMNS,
    MAX_ROWS,
    METHODS,
    QUIET,
    REDUCTIONS,
    SCORES,
    columns_of,
    event_data,
    script_of,
)
from demo.state.selection import PER_PAGE, RANGES, Choice, Pick

if TYPE_CHECKING:
    from demo.backend.catalog import Catalog


TARGETS = [
    ("Predicted class", "pred"),
    ("True label", "label"),
    ("A class I choose", "class"),
    ("Runner-up class", "runner_up"),
    ("Predicted less runner-up", "difference"),
]
SOURCES = [("Test samples", "samples"), ("My own image", "upload")]
OWN = ("each model's own dataset", "")
SCALES = [("One for the row", "shared"), ("Each map its own", "each"), ("Fixed", "absolute")]


SET_OPACITY = """(percent) => {
    for (const grid of document.querySelectorAll('.cvx-grid')) grid.style.setProperty('--opacity', percent / 100);
    return [];
}"""


class CompareTab:
    """Components and events of the tab; one instance a page, one state a visitor."""

    name: ClassVar[str] = "compare"
    title: ClassVar[str] = "Compare"

    def __init__(self, loader: BackgroundLoader):
        self._loader = loader
        self.picks = gr.State({})
        self.upload = gr.State(None)
        self.offered = gr.State(((), ()))
        with gr.Row(elem_id="cvx-compare", elem_classes="cvx-split"):
            with gr.Column(elem_classes="cvx-rail"):
                self._build_rail()
            with gr.Column(elem_classes="cvx-stage"):
                self._build_toolbar()
                self.grid = gr.HTML(
                    js_on_load=script_of("map_grid/map_grid.js", "map_grid/slider.js"),
                    apply_default_css=False,
                    server_functions=[self._saver()],
                )
        fields = [field.name for field in dataclasses.fields(Choice)]
        self.controls: dict[str, Any] = {name: getattr(self, name) for name in fields}
        self.draw_inputs = [self.picks, self.upload, *self.controls.values()]
        self.link_inputs = [self.picks, *self.controls.values()]
        self.fill_outputs = [self.picks, self.offered, self.image, self.picker, *self.controls.values()]
        self._wire()

    def _build_rail(self) -> None:
        self.datasets = gr.CheckboxGroup(label="Datasets", elem_classes="cvx-ticks")
        self.models = gr.CheckboxGroup(label="Models", elem_classes="cvx-ticks cvx-many")
        self.source = gr.Radio(SOURCES, value="samples", label="Image", elem_classes="cvx-segments")
        self.samples = gr.Dropdown([OWN], value="", label="Samples of")
        self.image = gr.Image(
            label="Your image",
            image_mode=None,
            format="png",
            buttons=[],
            sources=["upload", "clipboard", "webcam"],
            visible=False,
            height=200,
            elem_classes="cvx-upload",
        )
        self.picker = gr.HTML(
            js_on_load=script_of("image_picker/image_picker.js"), apply_default_css=False, elem_classes="cvx-picker"
        )

    def _build_toolbar(self) -> None:
        with gr.Row(elem_classes="cvx-toolbar"):
            self.target = gr.Dropdown(TARGETS, value="pred", label="Explain")
            self.score = gr.Dropdown(SCORES, value="logit", label="Score")
            self.method = gr.Dropdown(METHODS, value="gradient", label="Method")
            self.reduction = gr.Dropdown(REDUCTIONS, value="max", label="Channels")
            self.scale = gr.Dropdown(SCALES, value="shared", label="Scale")
            low, high = RANGES["limit"]
            self.limit = gr.Number(1.0, label="Scale ends at", minimum=low, maximum=high, visible=False, step=0.01)
            self.clip = gr.Slider(90, 100, 99, step=0.5, label="Clip at percentile", buttons=[])
            self.opacity = gr.Slider(0, 100, 60, step=5, label="Overlay opacity, %", buttons=[])

    def _saver(self) -> Any:
        """Return what the browser calls to save a row: a plain function, as Gradio marks it as its own."""

        def save(request: dict[str, Any]) -> dict[str, str]:
            from demo.components.map_grid import row_export

            try:
                return row_export.save(str(request.get("kept", "")), str(request.get("kind", "")))
            except ValueError as error:
                return {"error": str(error)}

        return save

    def _wire(self) -> None:
        inputs = self.draw_inputs
        quiet = {**QUIET, "show_progress_on": self.grid}
        redrawing: list[Any] = [self.score, self.method, self.reduction, self.clip, self.limit]
        for control in redrawing:
            control.input(self.draw, inputs, self.grid, **quiet)
        self.models.input(self.draw_all, inputs, [self.picker, self.grid], **quiet)
        # Gradio's own decoding of an image drops 16 bits and fails on what is none, so the file is taken as it is.
        received = self.image.change(_path, self.image, self.upload, preprocess=False, api_visibility="private")
        received.then(self.draw, inputs, self.grid, **quiet)
        self.opacity.input(None, self.opacity, None, js=SET_OPACITY)
        self.opacity.release(self.draw, inputs, self.grid, **quiet)
        shown = [self.models, self.image, self.samples, self.limit, self.picker, self.target, self.grid]
        for control in (self.datasets, self.source, self.samples, self.target, self.scale):
            control.input(self.rearrange, inputs, shown, **quiet)
        self.picker.pick(self.pick, inputs, [self.picks, self.picker, self.grid], **quiet)

    def fill(
        self,
        catalog: "Catalog",
        choice: Choice,
        picks: dict[str, Pick],
        offered: tuple[Sequence[str], Sequence[str]],
    ) -> list[Any]:
        """Bring every control up to the store as it is now; the rows are drawn by an event of their own."""
        from demo.components.image_picker import image_picker
        from demo.components.image_picker.filters import asker

        choice = arrange(catalog, choice, offered)
        updates = {name: gr.update(value=getattr(choice, name)) for name in self.controls}
        updates["datasets"] = gr.update(value=list(choice.datasets), choices=list(catalog.datasets))
        updates["models"] = gr.update(value=list(choice.models), choices=columns_of(catalog, choice.datasets))
        updates["target"] = gr.update(value=choice.target, choices=_targets(choice))
        sets = [OWN, *((name, name) for name in catalog.sets)]
        updates["samples"] = gr.update(value=choice.samples, choices=sets, visible=choice.source == "samples")
        updates["limit"] = gr.update(value=choice.limit, visible=choice.scale == "absolute")
        now = (tuple(catalog.datasets), tuple(catalog.best))
        ask = asker(self._loader.service, choice.models)
        strips = image_picker.picker(catalog.rows(choice.datasets, choice.samples), choice, picks, ask)
        return [picks, now, gr.update(visible=choice.source == "upload"), strips, *updates.values()]

    def draw(self, picks: dict[str, Pick], upload: str | None, *values: Any) -> str:
        """Draw the rows anew."""
        return self.draw_all(picks, upload, *values)[1]

    def draw_all(self, picks: dict[str, Pick], upload: str | None, *values: Any) -> tuple[str, str]:
        """Draw the strips, which may offer samples by what the models say, and the rows anew."""
        return self._drawn(self._loader.service.catalog(), self.choice(values), picks, upload)

    def rearrange(self, picks: dict[str, Pick], upload: str | None, *values: Any) -> list[Any]:
        """Show the controls that the choice needs, and draw the rows anew."""
        catalog = self._loader.service.catalog()
        choice = with_models(catalog, _with_a_target(self.choice(values)))
        picker, grid = self._drawn(catalog, choice, picks, upload)
        return [
            gr.update(choices=columns_of(catalog, choice.datasets), value=list(choice.models)),
            gr.update(visible=choice.source == "upload"),
            gr.update(visible=choice.source == "samples"),
            gr.update(visible=choice.scale == "absolute"),
            picker,
            gr.update(choices=_targets(choice), value=choice.target),
            grid,
        ]

    def pick(self, event: gr.EventData, picks: dict[str, Pick], upload: str | None, *values: Any) -> tuple[Any, ...]:
        """Hear what was done in a strip of samples, and draw the rows anew."""
        from demo.components.image_picker.filters import asker
        from demo.components.image_picker.image_picker import changed

        catalog, choice = self._loader.service.catalog(), self.choice(values)
        data = event_data(event)
        said = {name: str(data.get(name, "")) for name in ("dataset", "action", "value")}
        if shown := next(iter(catalog.rows([said["dataset"]], choice.samples)), None):
            ask = asker(self._loader.service, choice.models)
            pick = changed(shown, picks.get(shown.name, Pick()), said["action"], said["value"], ask=ask)
            picks = {**picks, shown.name: pick}
        return picks, *self._drawn(catalog, choice, picks, upload)

    def show_image(self, event: gr.EventData, picks: dict[str, Pick], *values: Any) -> list[Any]:
        """Fill the tab for an image that was clicked in another tab, which may name the models to compare on it."""
        catalog, choice, data = self._loader.service.catalog(), self.choice(values), event_data(event)
        dataset, row = str(data.get("dataset", "")), data.get("row")
        if dataset in catalog.datasets and isinstance(row, int):
            pick = dataclasses.replace(picks.get(dataset, Pick()), index=row, shown="", page=row // PER_PAGE)
            datasets = (dataset, *(name for name in choice.datasets if name != dataset))
            choice = dataclasses.replace(choice, datasets=datasets, source="samples", samples="")
            if models := tuple(map(str, data.get("models") or ())):  # the clicked maps, of the true class
                choice = dataclasses.replace(choice, datasets=(dataset,), models=models, target="label")
            choice, picks = with_models(catalog, choice), {**picks, dataset: pick}
        return self.fill(catalog, choice, picks, (list(catalog.datasets), catalog.best))

    def choice(self, values: Sequence[Any]) -> Choice:
        """Gather the controls' values; a number field that was emptied means its default."""
        found = {name: value for name, value in zip(self.controls, values, strict=True) if value is not None}
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in found.items()}
        return Choice(**fields)

    def _drawn(self, catalog: "Catalog", choice: Choice, picks: dict[str, Pick], upload: str | None) -> tuple[str, str]:
        """Return strips and rows as HTML."""
        from demo.backend import map_rows
        from demo.components.image_picker import filters, image_picker
        from demo.components.map_grid import map_grid, row_export
        from demo.components.markup import notice

        shown = catalog.rows(choice.datasets, choice.samples)
        strips = image_picker.picker(shown, choice, picks, filters.asker(self._loader.service, choice.models))
        try:
            file = Path(upload) if upload else None
            rows = map_rows.make_rows(self._loader.service, catalog, choice, picks, file)
        except ValueError as error:
            return strips, notice("That cannot be shown", str(error), "error")
        link = choice.link(picks)
        return strips, map_grid.grid(rows, choice, link, [row_export.keep((row, choice, link)) for row in rows])


def arrange(catalog: "Catalog", choice: Choice, offered: tuple[Sequence[str], Sequence[str]]) -> Choice:
    """Fit a choice to what the store holds; what was not offered before is ticked, as long as the page stays clear."""
    old_datasets, old_models = offered
    kept = [name for name in choice.datasets if name in catalog.datasets]
    fresh = [name for name in catalog.datasets if name not in (*old_datasets, *kept)]
    chosen = {*kept, *fresh[: max(0, MAX_ROWS - len(kept))]}
    datasets = tuple(name for name in catalog.datasets if name in chosen)
    columns = columns_of(catalog, datasets)
    models = [name for name in columns if name in choice.models]
    news = [name for name in columns if name in catalog.best and name not in (*old_models, *models)]
    models += news[: max(0, MAX_COLUMNS - len(models))]
    samples = choice.samples if choice.samples in catalog.sets else ""
    return dataclasses.replace(_with_a_target(choice), datasets=datasets, models=tuple(models), samples=samples)


def with_models(catalog: "Catalog", choice: Choice) -> Choice:
    """Keep the chosen models that are still offered, and tick some for a dataset that has none of them."""
    models = [name for name in columns_of(catalog, choice.datasets) if name in choice.models]
    for dataset in choice.datasets:
        columns = list(catalog.datasets[dataset].columns) if dataset in catalog.datasets else []
        if not set(columns) & set(models):
            models += columns[:MAX_COLUMNS]
    return dataclasses.replace(choice, models=tuple(models))


def _with_a_target(choice: Choice) -> Choice:
    """Explain the predicted class where the label was asked for and is not known."""
    known = choice.target in [target for _, target in _targets(choice)]
    return choice if known else dataclasses.replace(choice, target="pred")


def _targets(choice: Choice) -> list[tuple[str, str]]:
    """List what can be explained: of a visitor's own image the label is not known."""
    return [pair for pair in TARGETS if choice.source == "samples" or pair[1] != "label"]


def _path(payload: dict[str, Any] | None) -> str | None:
    """Return the path of an upload; Gradio has checked that it lies in its upload folder."""
    return payload["path"] if payload else None
