"""`python demo/app.py`: serves a page that compares gradient maps across models and datasets of a store."""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")  # kept of past requests, which nobody reads

import dataclasses
import importlib.util
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: Python has put its folder on the path, and not the one that holds cvx and demo
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import gradio as gr

from cvx.processes import spin_less
from demo.page import Page
from demo.serving import rate_limit
from demo.serving.fair_queue import MAX_CONCURRENT, MAX_PAGES, use_fair_queue
from demo.serving.malloc import limit_arenas
from demo.static import theme

PROGRAM = "python -m demo.app" if __name__ == "__main__" and __package__ else "python demo/app.py"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """Serve the demo."""

    artifacts: str = dataclasses.field(default_factory=lambda: os.environ.get("CVX_ARTIFACTS") or "artifacts")
    """The store; default: CVX_ARTIFACTS or artifacts."""
    project: str = ""
    """[ENTITY/]PROJECT of W&B, whose models are pulled into the store at the start and at the press of a button."""
    alias: str = "best"
    """Which version of each of the project's models: best, latest, v3, …, or all."""
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
    limit: int = 0
    """Requests a minute that one address may make, where the page is public; 0: as many as it likes."""
    mcp: bool = False
    """Offer the endpoints to language models, too (Model Context Protocol); needs `pip install 'gradio[mcp]'`."""


def build(root: Path | str, project: str = "", alias: str = "best") -> gr.Blocks:
    """Return the page of a store, ready to launch; a project's models come into the store meanwhile."""
    return Page(Path(root), project, alias).blocks


def launch(blocks: gr.Blocks, **settings: Any) -> tuple[Any, str, str]:
    """Serve a page in cvx's looks; settings are those of `gr.Blocks.launch`."""
    sys.setswitchinterval(0.0005)  # after each of a model's small operations, Python's lock may be another thread's
    limit_arenas()
    queued = blocks.queue(max_size=rate_limit.MAX_QUEUE, default_concurrency_limit=MAX_CONCURRENT)
    return use_fair_queue(queued).launch(
        theme=theme.theme(),
        head=theme.head(),
        footer_links=["api", "settings"],
        run_history=False,
        state_session_capacity=MAX_PAGES,
        favicon_path=None,
        **{**rate_limit.settings(0), **settings},
    )


def _login(auth: str) -> tuple[str, str] | None:
    name, colon, password = auth.partition(":")
    if auth and not (name and colon and password):
        raise ValueError("auth must be NAME:PASSWORD, got something else (which is not repeated here)")
    return (name, password) if auth else None


def _settings(flags: DemoFlags) -> dict[str, Any]:
    if flags.mcp and importlib.util.find_spec("mcp") is None:  # Gradio would serve without it
        raise ValueError("--mcp needs a package that is missing; run `pip install 'gradio[mcp]'`")
    return {
        "server_name": flags.host,
        "server_port": flags.port or None,
        "share": flags.share,
        "root_path": flags.root_path or None,
        "auth": _login(flags.auth),
        "mcp_server": flags.mcp,
        **rate_limit.settings(flags.limit),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    import tyro

    flags = tyro.cli(DemoFlags, args=argv, prog=PROGRAM)
    spin_less()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, a training under way included
    try:
        settings = _settings(flags)
        blocks = build(flags.artifacts, flags.project, flags.alias)
        try:
            launch(blocks, **settings)
        finally:  # interrupted: Python waits for the threads at work, which end at their next part
            blocks.close(verbose=False)
    except KeyboardInterrupt:  # again, while the server was closing
        sys.exit(130)
    except ValueError as error:
        sys.exit(f"demo: {error}")
    except OSError as error:
        taken = "Cannot find empty port" in str(error)
        sys.exit(f"demo: port {flags.port} is taken; choose another with --port" if taken else f"demo: {error}")


if __name__ == "__main__":
    main()
