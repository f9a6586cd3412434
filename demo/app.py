"""`python demo/app.py`: serves a page that compares gradient maps across models and datasets of a store."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import gradio as gr

from demo.api import Endpoints
from demo.choice import Choice, Pick, read_link
from demo.class_view import ClassTab
from demo.compare import QUIET, CompareTab
from demo.opening import Opening
from demo.starter import StarterJob, step

if TYPE_CHECKING:
    from demo.shelf import Listing

FOLDER = Path(__file__).parent
SANS = ("Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Serve the demo."""

    artifacts: str = dataclasses.field(default_factory=lambda: os.environ.get("CVX_ARTIFACTS") or "artifacts")
    """The store; default: CVX_ARTIFACTS or artifacts."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets others in."""
    port: int = 7860
    """Port to listen on; 0 takes a free one."""
    share: bool = False
    """Make a public link through Gradio's servers."""


class Page:
    """The whole page; one instance a server."""

    def __init__(self, root: Path):
        self._root, self._opening, self._job = root, Opening(root), StarterJob(root)
        self.blocks = gr.Blocks(title="cvx", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400))
        with self.blocks:
            self._build()
            self._wire()
            Endpoints(self._opening)

    def _build(self) -> None:
        with gr.Row(elem_id="cvx-header"):
            gr.HTML(_logo(), apply_default_css=False)
            self.status = gr.HTML("", apply_default_css=False, elem_id="cvx-status")
            self.refresh = gr.Button("Refresh", size="sm", elem_id="cvx-refresh", scale=0, min_width=80)
        self.trouble = gr.HTML("", visible=False, apply_default_css=False, elem_id="cvx-trouble")
        self.reading = gr.HTML(_reading(), apply_default_css=False)
        with gr.Column(visible=False, elem_id="cvx-starter") as self.panel:
            self.welcome = gr.HTML("", apply_default_css=False)
            self.train = gr.Button("Train the starter models", variant="primary", elem_id="cvx-train")
        with gr.Tabs(visible=False, elem_id="cvx-tabs") as self.tabs:
            with gr.Tab("Compare", id="compare"):
                self.compare = CompareTab(self._opening)
            with gr.Tab("Class view", id="classes") as tab:
                self.classes = ClassTab(self._opening)
            with gr.Tab("About", id="about"):
                self.about = gr.HTML("", apply_default_css=False)
        self.classes.open(tab)
        self.timer = gr.Timer(1, active=False)
        self.seen = gr.State("")
        self.news = gr.State("")

    def _wire(self) -> None:
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        frame = [self.status, self.trouble, self.reading, self.panel, self.tabs, self.about, self.seen]
        job = [self.welcome, self.train, self.timer]
        filled = [*frame, *job, *self.compare.outputs, *self.classes.outputs]
        draw = {"fn": self.compare.draw, "inputs": self.compare.asked, "outputs": self.compare.grid, **QUIET}
        self.blocks.load(self.arrive, None, filled, **quiet).then(**draw)
        current = [
            self.compare.offered,
            self.compare.picks,
            *self.classes.outputs,
            *self.compare.controls.values(),
        ]
        self.refresh.click(self.reread, current, filled, **quiet).then(**draw)
        self.news.change(self.reread, current, filled, **quiet).then(**draw)
        self.train.click(self.start, None, job, **quiet)
        self.timer.tick(self.tick, self.seen, [*job, self.seen, self.news], **quiet)

    def arrive(self, request: gr.Request) -> list[Any]:
        """Fill the page for a visitor who opens it, as the link says; what it does not say is ticked by default."""
        choice, picks = read_link(parse_qsl(str(request.query_params)))
        listing = self._opening.shelf.listing()
        told = (list(listing.datasets) if choice.datasets else [], listing.best if choice.models else [])
        return self._fill(listing, choice, picks, told, (None, None, []))

    def reread(
        self,
        offered: tuple[Sequence[str], Sequence[str]],
        picks: dict[str, Pick],
        dataset: str | None,
        class_name: str | None,
        models: list[str],
        *values: Any,
    ) -> list[Any]:
        """Fill the page anew from the store, keeping what the visitor chose."""
        listing = self._opening.shelf.listing()
        return self._fill(listing, self.compare.choice(values), picks, offered, (dataset, class_name, models))

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
        waited_for = self._job.running or not self._opening.shelf.listing().datasets
        return step(self._job, self._root, seconds=1 if waited_for else 10)

    def _fill(
        self,
        listing: "Listing",
        choice: Choice,
        picks: dict[str, Pick],
        offered: tuple[Sequence[str], Sequence[str]],
        classes: tuple[str | None, str | None, list[str]],
    ) -> list[Any]:
        from demo.about import about
        from demo.frame import status, trouble

        some, busy = bool(listing.datasets), self._job.running or self._job.failed
        return [
            status(listing),
            gr.update(value=trouble(listing), visible=bool(listing.broken)),
            gr.update(visible=False),
            gr.update(visible=busy or not some),
            gr.update(visible=some),
            about(),
            self._stamp(),
            *self._step(),
            *self.compare.fill(listing, choice, picks, offered),
            *self.classes.fill(listing, *classes),
        ]


def build(root: Path | str) -> gr.Blocks:
    """Return the page of a store, ready to launch."""
    return Page(Path(root)).blocks


def launch(blocks: gr.Blocks, **settings: Any) -> tuple[Any, str, str]:
    """Serve a page in cvx's looks; settings are those of `gr.Blocks.launch`."""
    return blocks.launch(
        theme=_theme(),
        head=f"<style>{(FOLDER / 'page.css').read_text(encoding='utf-8')}</style>",  # css= would drop @container rules
        footer_links=["api", "settings"],
        run_history=False,
        max_file_size="64mb",
        favicon_path=None,
        **settings,
    )


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


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    import tyro

    flags = tyro.cli(Flags, args=argv, prog="python demo/app.py")
    port = flags.port or None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, a training under way included
    try:
        launch(build(flags.artifacts), server_name=flags.host, server_port=port, share=flags.share)
    except OSError as error:
        taken = "Cannot find empty port" in str(error)
        sys.exit(f"demo: port {flags.port} is taken; choose another with --port" if taken else f"demo: {error}")


if __name__ == "__main__":
    main()
