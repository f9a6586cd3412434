"""`python demo/app.py`: serves a page that compares gradient maps across models and datasets of a store."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import dataclasses
import functools
import importlib.util
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import gradio as gr

from demo.agreement import AgreementTab
from demo.api import Endpoints
from demo.choice import PER_PAGE, Choice, Pick, read_link
from demo.class_view import ClassTab
from demo.compare import QUIET, CompareTab
from demo.embeddings import EmbeddingsTab
from demo.later import LaterTab
from demo.link import Link
from demo.opening import Opening
from demo.pulling import PullJob, PullPanel
from demo.runs import RunsTab
from demo.starter import StarterJob, step
from demo.through_training import FilmTab

if TYPE_CHECKING:
    from demo.shelf import Listing

FOLDER = Path(__file__).parent
LATER_TABS: dict[str, tuple[str, Callable[[Opening], LaterTab]]] = {
    "classes": ("Class view", ClassTab),
    "film": ("Through training", FilmTab),
    "points": ("Embeddings", EmbeddingsTab),
    "runs": ("Runs", RunsTab),
    "agreement": ("Agreement", AgreementTab),
}
"""Tabs that are drawn when they are opened, by their name in a link."""
TRAVEL = "cvx.travel = (query) => trigger('travel', { query });"
SHOW_FIRST = "(...values) => { cvx.show('compare'); return values; }"
SHOW = "() => { cvx.show('%s'); return []; }"
SANS = ("Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Serve the demo."""

    artifacts: str = dataclasses.field(default_factory=lambda: os.environ.get("CVX_ARTIFACTS") or "artifacts")
    """The store; default: CVX_ARTIFACTS or artifacts."""
    project: str = ""
    """[ENTITY/]PROJECT of W&B, whose models are pulled into the store at the start and at the press of a button."""
    host: str = dataclasses.field(default_factory=lambda: os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1")
    """Address to listen on; 0.0.0.0 lets others in; default: GRADIO_SERVER_NAME, which a Space sets, or 127.0.0.1."""
    port: int = 7860
    """Port to listen on; 0 takes a free one."""
    share: bool = False
    """Make a public link through Gradio's servers."""
    root_path: str = ""
    """Path under which a proxy serves the page, such as /cvx."""
    auth: str = dataclasses.field(default_factory=lambda: os.environ.get("CVX_AUTH", ""))
    """NAME:PASSWORD that visitors must give; default: CVX_AUTH, which other users of the machine cannot read."""
    mcp: bool = False
    """Offer the endpoints to language models, too (Model Context Protocol); needs `pip install 'gradio[mcp]'`."""


class Page:
    """The whole page; one instance a server."""

    def __init__(self, root: Path, project: str = ""):
        self._root, self._opening, self._job = root, Opening(root), StarterJob(root)
        self._pull = PullJob(root, project) if project else None
        self.blocks = gr.Blocks(title="cvx", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400))
        with self.blocks:
            self._build()
            self._wire()
            self._wire_tabs()
            Endpoints(self._opening)

    def _build(self) -> None:
        with gr.Row(elem_id="cvx-header"):
            gr.HTML(_logo(), apply_default_css=False)
            self.status = gr.HTML("", apply_default_css=False, elem_id="cvx-status")
            self.refresh = gr.Button("Refresh", size="sm", elem_id="cvx-refresh", scale=0, min_width=80)
        if self._pull is not None:
            self._pull.start()
            PullPanel(self._pull)
        self.trouble = gr.HTML("", visible=False, apply_default_css=False, elem_id="cvx-trouble")
        self.reading = gr.HTML(_reading(), apply_default_css=False)
        with gr.Column(visible=False, elem_id="cvx-starter") as self.panel:
            self.welcome = gr.HTML("", apply_default_css=False)
            self.train = gr.Button("Train the starter models", variant="primary", elem_id="cvx-train")
        self.where = gr.State("compare")
        with gr.Tabs(visible=False, elem_id="cvx-tabs") as self.tabs:
            with gr.Tab("Compare", id="compare") as self.first:
                self.compare = CompareTab(self._opening)
            self.later: dict[str, tuple[gr.Tab, LaterTab]] = {}
            for name, (title, make) in LATER_TABS.items():
                with gr.Tab(title, id=name) as tab:
                    self.later[name] = (tab, make(self._opening))
            with gr.Tab("About", id="about") as self.last:
                self.about = gr.HTML("", apply_default_css=False)
        self.traveler = gr.HTML(js_on_load=TRAVEL, apply_default_css=False, elem_id="cvx-traveler")
        self.timer = gr.Timer(1, active=False)
        self.seen = gr.State("")
        self.news = gr.State("")

    def _wire(self) -> None:
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        frame = [self.status, self.trouble, self.reading, self.panel, self.tabs, self.about, self.seen, self.where]
        job = [self.welcome, self.train, self.timer]
        later = [component for _, tab in self.later.values() for component in tab.outputs]
        filled = [*frame, *job, *self.compare.outputs, *later]
        self._draw(self.blocks.load(self.arrive, None, filled, **quiet))
        self._draw(self.traveler.travel(self.travel, None, filled, **quiet))
        kept = [component for _, tab in self.later.values() for component in tab.kept]
        current = [self.where, self.compare.offered, self.compare.picks, *self.compare.controls.values(), *kept]
        self._draw(self.refresh.click(self.reread, current, filled, **quiet))
        self._draw(self.news.change(self.reread, current, filled, **quiet))
        self.train.click(self.start, None, job, **quiet)
        self.timer.tick(self.tick, self.seen, [*job, self.seen, self.news], **quiet)

    def _draw(self, filled: Any) -> None:
        """Draw what a visitor sees once the controls are filled."""
        filled.then(self.compare.draw, self.compare.asked, self.compare.grid, **QUIET)
        for name, (_, tab) in self.later.items():
            seen = functools.partial(_if_open, name, tab)
            filled.then(seen, [self.where, *tab.asked], tab.drawn, **QUIET)

    def _wire_tabs(self) -> None:
        """Draw a tab when it is opened and not before, and let the address say which one is."""
        opened = {"compare": self.first, **{name: tab for name, (tab, _) in self.later.items()}, "about": self.last}
        for name, tab in opened.items():
            tab.select(lambda name=name: name, None, self.where, js=SHOW % name, api_visibility="private", queue=False)
        asked = [self.compare.picks, *self.compare.controls.values()]
        for _, view in self.later.values():
            if isinstance(view, EmbeddingsTab | AgreementTab):
                shown = [self.tabs, self.where, *self.compare.outputs]
                to_compare = view.stage.look(self.look, asked, shown, **QUIET)
                to_compare.then(self.compare.draw, self.compare.asked, self.compare.grid, js=SHOW_FIRST, **QUIET)
        for tab, view in self.later.values():
            tab.select(view.draw, view.asked, view.drawn, **QUIET)

    def arrive(self, request: gr.Request) -> list[Any]:
        """Fill the page for a visitor who opens it, as the link says; what it does not say is ticked by default."""
        return self._go(str(request.query_params))

    def travel(self, event: gr.EventData) -> list[Any]:
        """Fill the page anew for a visitor who went back or forth, as the address now says."""
        return self._go(str(event._data.get("query", "")))

    def _go(self, query: str) -> list[Any]:
        pairs = parse_qsl(query)
        choice, picks = read_link(pairs)
        listing = self._opening.shelf.listing()
        told = (list(listing.datasets) if choice.datasets else [], listing.best if choice.models else [])
        where = dict(pairs).get("tab", "compare")
        return self._fill(listing, choice, picks, told, pairs, where if where in self._names else "compare")

    def reread(
        self,
        where: str,
        offered: tuple[Sequence[str], Sequence[str]],
        picks: dict[str, Pick],
        *values: Any,
    ) -> list[Any]:
        """Fill the page anew from the store, keeping what the visitor chose."""
        listing, num = self._opening.shelf.listing(), len(self.compare.controls)
        rest, pairs = iter(values[num:]), []
        for _, tab in self.later.values():
            pairs += parse_qsl(tab.link(*(next(rest) for _ in tab.kept)))
        return self._fill(listing, self.compare.choice(values[:num]), picks, offered, pairs, where)

    def look(self, event: gr.EventData, picks: dict[str, Pick], *values: Any) -> list[Any]:
        """Bring an image that was clicked elsewhere to the tab Compare."""
        listing, choice = self._opening.shelf.listing(), self.compare.choice(values)
        dataset, row = str(event._data.get("dataset", "")), event._data.get("row")
        if dataset in listing.datasets and isinstance(row, int):
            pick = dataclasses.replace(picks.get(dataset, Pick()), index=row, shown="", page=row // PER_PAGE)
            datasets = (dataset, *(name for name in choice.datasets if name != dataset))
            choice = dataclasses.replace(choice, datasets=datasets, source="samples")
            if models := tuple(map(str, event._data.get("models") or ())):  # the clicked maps, of the true class
                choice = dataclasses.replace(choice, datasets=(dataset,), models=models, target="label")
            choice, picks = self.compare.with_models(listing, choice), {**picks, dataset: pick}
        told = (list(listing.datasets), listing.best)
        return [gr.update(selected="compare"), "compare", *self.compare.fill(listing, choice, picks, told)]

    def start(self) -> tuple[Any, ...]:
        """Start the training of the starter models, or join the one under way."""
        self._job.start()
        return self._step()

    def tick(self, seen: str) -> tuple[Any, ...]:
        """Show how far a training is; a model that came or went is news, and news fill the page anew."""
        stamp = self._stamp()
        return *self._step(), stamp, gr.skip() if stamp == seen else stamp

    def _stamp(self) -> str:
        return f"{hash(self._opening.shelf.stamp())} {self._job.running}"

    def _step(self) -> tuple[Any, ...]:
        """Look often while somebody waits for models, and now and then afterwards."""
        coming = self._job.running or (self._pull is not None and self._pull.running)
        waited_for = coming or not self._opening.shelf.listing().datasets
        return step(self._job, self._root, seconds=1 if waited_for else 10)

    def _fill(
        self,
        listing: "Listing",
        choice: Choice,
        picks: dict[str, Pick],
        offered: tuple[Sequence[str], Sequence[str]],
        pairs: Sequence[tuple[str, str]],
        where: str,
    ) -> list[Any]:
        from demo.about import about
        from demo.frame import status, trouble

        some, busy = bool(listing.datasets), self._job.running or self._job.failed
        return [
            status(listing),
            gr.update(value=trouble(listing), visible=bool(listing.broken)),
            gr.update(visible=False),
            gr.update(visible=busy or not some),
            gr.update(visible=some, selected=where),
            about(),
            self._stamp(),
            where,
            *self._step(),
            *self.compare.fill(listing, choice, picks, offered),
            *(value for name, (_, tab) in self.later.items() for value in tab.fill(Link(name, pairs))),
        ]

    @property
    def _names(self) -> tuple[str, ...]:
        return ("compare", *self.later, "about")


def _if_open(name: str, tab: LaterTab, where: str, *asked: Any) -> list[Any]:
    return tab.draw(*asked) if where == name else [gr.skip()] * len(tab.drawn)


def build(root: Path | str, project: str = "") -> gr.Blocks:
    """Return the page of a store, ready to launch; a project's models come into the store meanwhile."""
    return Page(Path(root), project).blocks


def launch(blocks: gr.Blocks, **settings: Any) -> tuple[Any, str, str]:
    """Serve a page in cvx's looks; settings are those of `gr.Blocks.launch`."""
    return blocks.launch(
        theme=_theme(),
        head=_head(),
        footer_links=["api", "settings"],
        run_history=False,
        max_file_size="64mb",
        favicon_path=None,
        **settings,
    )


def _head() -> str:
    """Return style and script of the page; `css=` would drop @container rules."""
    vendor = FOLDER / "vendor"
    gr.set_static_paths(vendor)
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    style += (FOLDER / "tabs.css").read_text(encoding="utf-8")
    return f"<style>{style}</style><script>window.cvxVendor = {json.dumps(vendor.as_posix())};\n{script}</script>"


def _theme() -> gr.themes.Base:
    return gr.themes.Base(primary_hue="violet", neutral_hue="zinc", radius_size="md", font=SANS, font_mono=MONO)


def _reading() -> str:
    return '<div class="cvx-notice" role="status"><strong>Reading the store…</strong></div>'


def _logo() -> str:
    return (
        '<div class="cvx-brand"><svg viewBox="0 0 4 4" width="28" height="28" aria-hidden="true">'
        '<rect width="4" height="4" rx=".7" fill="#1b1044"/><rect x="1" y="1" width="1" height="1" fill="#fcfdbf"/>'
        '<rect x="2" y="1" width="1" height="1" fill="#f1605d"/><rect x="1" y="2" width="1" height="1" fill="#b5367a"/>'
        '<rect x="2" y="2" width="1" height="1" fill="#721f81"/></svg>'
        "<h1>cvx</h1><p>What do image classifiers look at?</p></div>"
    )


def _login(auth: str) -> tuple[str, str] | None:
    name, colon, password = auth.partition(":")
    if auth and not (name and colon and password):
        raise ValueError("auth must be NAME:PASSWORD, got something else (which is not repeated here)")
    return (name, password) if auth else None


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    import tyro

    flags = tyro.cli(Flags, args=argv, prog="python demo/app.py")
    port = flags.port or None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, a training under way included
    try:
        login = _login(flags.auth)
        if flags.mcp and importlib.util.find_spec("mcp") is None:  # Gradio would serve without it
            raise ValueError("--mcp needs a package that is missing; run `pip install 'gradio[mcp]'`")
        launch(
            build(flags.artifacts, flags.project),
            server_name=flags.host,
            server_port=port,
            share=flags.share,
            root_path=flags.root_path or None,
            auth=login,
            mcp_server=flags.mcp,
        )
    except ValueError as error:
        sys.exit(f"demo: {error}")
    except OSError as error:
        taken = "Cannot find empty port" in str(error)
        sys.exit(f"demo: port {flags.port} is taken; choose another with --port" if taken else f"demo: {error}")


if __name__ == "__main__":
    main()
