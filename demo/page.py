"""The page: header, tabs, and what moves a visitor between them; every tab wires itself."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import gradio as gr

from demo.api.endpoints import Endpoints
from demo.backend.background_loader import BackgroundLoader
from demo.components.controls import HIDDEN, QUIET, event_data
from demo.jobs.starter_training import StarterJob, panel_updates
from demo.jobs.wandb_pull import PullJob, PullPanel
from demo.state.selection import Choice, Pick, read_link
from demo.state.tab_link import TabLink, rename_old_tabs
from demo.static import theme
from demo.tabs.about import AboutTab
from demo.tabs.agreement import AgreementTab
from demo.tabs.base import Tab
from demo.tabs.classes import ClassesTab
from demo.tabs.compare import CompareTab
from demo.tabs.embeddings import EmbeddingsTab
from demo.tabs.film import FilmTab
from demo.tabs.runs import RunsTab

if TYPE_CHECKING:
    from demo.backend.catalog import Catalog

LATER_TABS: tuple[type[Tab], ...] = (
    ClassesTab,
    FilmTab,
    EmbeddingsTab,
    RunsTab,
    AgreementTab,
    AboutTab,
)
"""Tabs that are drawn when they are opened, in the order in which they stand beside Compare."""
NAVIGATE = """cvx.navigate = (query, number) => trigger('navigate', { query, number });
watch('value', () => cvx.arrived(Number(element.querySelector('i')?.dataset.number)));"""
SHOW_FIRST = "(...values) => { cvx.show('compare'); return values; }"
SHOW = "() => { cvx.show('%s'); return []; }"


class Page:
    """The whole page; one instance a server."""

    def __init__(self, root: Path, project: str = "", alias: str = "best"):
        self._root, self._loader, self._starter_job = root, BackgroundLoader(root), StarterJob(root)
        self._pull = PullJob(root, project, alias) if project else None
        self.blocks = gr.Blocks(title="cvx", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400))
        with self.blocks:
            self._build()
            self._wire()
            self._wire_tabs()
            Endpoints(self._loader)

    def _build(self) -> None:
        with gr.Row(elem_id="cvx-header"):
            gr.HTML(theme.logo(), apply_default_css=False)
            self.status = gr.HTML("", apply_default_css=False, elem_id="cvx-status")
            self.refresh = gr.Button("Refresh", size="sm", elem_id="cvx-refresh", scale=0, min_width=80)
        if self._pull is not None:
            self._pull.start()
            PullPanel(self._pull)
        self.trouble = gr.HTML("", visible=False, apply_default_css=False, elem_id="cvx-trouble")
        self.reading_note = gr.HTML(theme.reading(), apply_default_css=False)
        with gr.Column(visible=False, elem_id="cvx-starter") as self.starter:
            self.welcome = gr.HTML("", apply_default_css=False)
            self.train = gr.Button("Train the starter models", variant="primary", elem_id="cvx-train")
        self.open_tab = gr.State(CompareTab.name)
        with gr.Tabs(visible=False, elem_id="cvx-tabs") as self.tabs:
            with gr.Tab(CompareTab.title, id=CompareTab.name) as self.first:
                self.compare = CompareTab(self._loader)
            self.later: list[tuple[gr.Tab, Tab]] = []
            for kind in LATER_TABS:
                with gr.Tab(kind.title, id=kind.name) as component:
                    self.later.append((component, kind(self._loader)))
        self.navigation = gr.HTML(js_on_load=NAVIGATE, apply_default_css=False, elem_id="cvx-navigation")
        self.timer = gr.Timer(1, active=False)
        self.stamp = gr.State("")
        self.new_stamp = gr.State("")

    def _wire(self) -> None:
        frame = [self.status, self.trouble, self.reading_note, self.starter, self.tabs, self.stamp, self.open_tab]
        job = [self.welcome, self.train, self.timer]
        later = [component for _, tab in self.later for component in tab.fill_outputs]
        filled = [*frame, *job, *self.compare.fill_outputs, *later]
        self._draw(self.blocks.load(self.open, None, filled, **HIDDEN))
        self._draw(
            self.navigation.navigate(
                self.navigate, None, [self.navigation, *filled], trigger_mode="always_last", **HIDDEN
            )
        )
        kept = [component for _, tab in self.later for component in tab.link_inputs]
        current = [self.open_tab, self.compare.offered, *self.compare.link_inputs, *kept]
        self._draw(self.refresh.click(self.reload, current, filled, **HIDDEN))
        self._draw(self.new_stamp.change(self.reload, current, filled, **HIDDEN))
        self.train.click(self.start, None, job, **HIDDEN)
        self.timer.tick(self.tick, self.stamp, [*job, self.stamp, self.new_stamp], **HIDDEN)

    def _draw(self, filled: Any) -> None:
        """Draw what a visitor sees once the controls are filled."""
        filled.then(self.compare.draw, self.compare.draw_inputs, self.compare.grid, **QUIET)
        for _, tab in self.later:
            draw_open = functools.partial(_draw_if_open, tab)
            filled.then(draw_open, [self.open_tab, *tab.draw_inputs], tab.draw_outputs, **{**QUIET, **tab.queue})

    def _wire_tabs(self) -> None:
        """Draw a tab when it is opened and not before, and let the address say which one is."""
        opened = {CompareTab.name: self.first, **{tab.name: component for component, tab in self.later}}
        for name, component in opened.items():
            component.select(
                lambda name=name: name, None, self.open_tab, js=SHOW % name, api_visibility="private", queue=False
            )
        shown = [self.tabs, self.open_tab, *self.compare.fill_outputs]
        for component, tab in self.later:
            if tab.image_source is not None:
                to_compare = tab.image_source.look(self.open_compare, self.compare.link_inputs, shown, **QUIET)
                to_compare.then(self.compare.draw, self.compare.draw_inputs, self.compare.grid, js=SHOW_FIRST, **QUIET)
            component.select(tab.draw, tab.draw_inputs, tab.draw_outputs, **{**QUIET, **tab.queue})

    def open(self, request: gr.Request) -> list[Any]:
        """Fill the page for a visitor who opens it, as the link says; what it does not say is ticked by default."""
        return self._fill_from_link(str(request.query_params))

    def navigate(self, event: gr.EventData) -> list[Any]:
        """Fill the page anew for a visitor who went back or forth, as the address now says; name the step taken."""
        data = event_data(event)
        number = data.get("number", 0)
        step = f'<i hidden data-number="{number if isinstance(number, int) else 0}"></i>'
        return [step, *self._fill_from_link(str(data.get("query", "")))]

    def _fill_from_link(self, query: str) -> list[Any]:
        pairs = rename_old_tabs(parse_qsl(query))
        choice, picks = read_link(pairs)
        catalog = self._loader.service.catalog()
        offered = (list(catalog.datasets) if choice.datasets else [], catalog.best if choice.models else [])
        where = dict(pairs).get("tab", CompareTab.name)
        return self._fill(catalog, choice, picks, offered, pairs, where if where in self._names else CompareTab.name)

    def reload(
        self,
        where: str,
        offered: tuple[Sequence[str], Sequence[str]],
        picks: dict[str, Pick],
        *values: Any,
    ) -> list[Any]:
        """Fill the page anew from the store, keeping what the visitor chose."""
        catalog, num = self._loader.service.catalog(), len(self.compare.controls)
        rest, pairs = iter(values[num:]), []
        for _, tab in self.later:
            pairs += parse_qsl(tab.link(*(next(rest) for _ in tab.link_inputs)))
        return self._fill(catalog, self.compare.choice(values[:num]), picks, offered, pairs, where)

    def open_compare(self, event: gr.EventData, picks: dict[str, Pick], *values: Any) -> list[Any]:
        """Bring an image that was clicked in another tab to the tab Compare."""
        return [gr.update(selected=CompareTab.name), CompareTab.name, *self.compare.show_image(event, picks, *values)]

    def start(self) -> tuple[Any, ...]:
        """Start the training of the starter models, or join the one under way."""
        self._starter_job.start()
        return self._starter_updates()

    def tick(self, seen: str) -> tuple[Any, ...]:
        """Show how far a training is; a model that came or went is news, and news fill the page anew."""
        stamp = self._stamp()
        return *self._starter_updates(), stamp, gr.skip() if stamp == seen else stamp

    def _stamp(self) -> str:
        return f"{hash(self._loader.service.stamp())} {self._starter_job.running}"

    def _starter_updates(self) -> tuple[Any, ...]:
        """Look often while somebody waits for models, and now and then afterwards."""
        coming = self._starter_job.running or (self._pull is not None and self._pull.running)
        waited_for = coming or not self._loader.service.catalog().datasets
        return panel_updates(self._starter_job, self._root, seconds=1 if waited_for else 10)

    def _fill(
        self,
        catalog: "Catalog",
        choice: Choice,
        picks: dict[str, Pick],
        offered: tuple[Sequence[str], Sequence[str]],
        pairs: Sequence[tuple[str, str]],
        where: str,
    ) -> list[Any]:
        from demo.components.store_status import status, trouble

        some, busy = bool(catalog.datasets), self._starter_job.running or self._starter_job.failed
        return [
            status(catalog),
            gr.update(value=trouble(catalog), visible=bool(catalog.broken)),
            gr.update(visible=False),
            gr.update(visible=busy or not some),
            gr.update(visible=some, selected=where),
            self._stamp(),
            where,
            *self._starter_updates(),
            *self.compare.fill(catalog, choice, picks, offered),
            *(value for _, tab in self.later for value in tab.fill(TabLink(tab.name, pairs))),
        ]

    @property
    def _names(self) -> tuple[str, ...]:
        return (CompareTab.name, *(tab.name for _, tab in self.later))


def _draw_if_open(tab: Tab, where: str, *values: Any) -> list[Any]:
    return tab.draw(*values) if where == tab.name else [gr.skip()] * len(tab.draw_outputs)
