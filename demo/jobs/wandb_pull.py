"""Pull the models of a W&B project into the store in the background, at the start and by a button."""

import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from demo.components.controls import HIDDEN

if TYPE_CHECKING:
    from cvx.tracking import Pulled

BROKE_OFF = "it broke off unexpectedly; the terminal in which the demo runs says more"
WHY = {"W&B does not answer": "Is there a network? If WANDB_BASE_URL is set: is that server up?"}


class PullJob:
    """One pull for all visitors; the page shows what the store has meanwhile, and afterwards whatever came of it."""

    def __init__(self, root: Path, project: str, alias: str = "best"):
        from cvx.tracking import target

        self._root, self._target, self._alias = root, target(project), alias
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.done, self.total = 0, 0
        self.trouble = ""
        """Why the last pull did not come to its end."""
        self.pulled: list[Pulled] = []

    @property
    def project(self) -> str:
        """Return what is pulled, as it was asked for."""
        return str(self._target)

    @property
    def running(self) -> bool:
        """Tell whether a pull is under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start to pull, unless it is under way."""
        with self._lock:
            if self.running:
                return
            self.done, self.total, self.trouble, self.pulled = 0, 0, BROKE_OFF, []
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        from cvx.tracking import pull

        try:
            pull(self._root, self._target, self._alias, self._on_pulled, used_by="demo")
            self.trouble = ""
        except (ValueError, OSError) as error:
            self.trouble = str(error)

    def _on_pulled(self, done: int, total: int, one: "Pulled") -> None:
        self.pulled.append(one)
        self.done, self.total = done, total


class PullPanel:
    """The line above the tabs that says how far the pull is, with the button that starts another."""

    def __init__(self, job: PullJob):
        self._job = job
        with gr.Row(elem_id="cvx-pull"):
            self.status = gr.HTML(functools.partial(status_html, job), apply_default_css=False)
            self.button = gr.Button("Pull from W&B", size="sm", elem_id="cvx-pull-button", scale=0, min_width=130)
        self.timer = gr.Timer(1)
        shown = [self.status, self.button, self.timer]
        self.timer.tick(self.step, None, shown, **HIDDEN)
        self.button.click(self.start, None, shown, **HIDDEN)

    def start(self) -> list[Any]:
        """Start to pull, or join the pull under way."""
        self._job.start()
        return self.step()

    def step(self) -> list[Any]:
        """Show how far it is; look often while something comes, and now and then for another visitor's press."""
        running = self._job.running
        button = gr.update(value="Pulling…" if running else "Pull from W&B", interactive=not running)
        return [status_html(self._job), button, gr.update(value=1 if running else 10, active=True)]


def status_html(job: PullJob) -> str:
    """Draw the progress of the pull, or its outcome."""
    from demo.components.markup import text

    if job.running:
        return _box(f"Pulling models from W&B: {job.project}", _progress(job))
    if job.trouble:
        words, _, rest = job.trouble.partition(": ") if job.trouble.startswith("W&B ") else (job.trouble, "", "")
        now = "The page shows what the store holds; the button tries again."
        more = f"<details><summary>What wandb says</summary>{text(rest)}</details>" if rest else ""
        told = f"<p>{text(_sentence(words))} {WHY.get(words, '')} {now}</p>{more}"
        return _box(f"Nothing new from W&B: {job.project}", told)
    refused = [one for one in job.pulled if one.status == "refused"]
    counts = {status: sum(one.status == status for one in job.pulled) for status in ("new", "known")}
    title = f"From W&B, {job.project}: {counts['new']} new, {counts['known']} already here"
    if not refused:
        return _box(title)
    items = "".join(f"<li><b>{text(one.name)}</b> {text(one.error)}</li>" for one in refused)
    return _box(f"{title}, {len(refused)} refused", f"<ul>{items}</ul>")


def _progress(job: PullJob) -> str:
    from demo.components.markup import text

    if not job.total:
        return "<p>Asking what there is. The page shows what the store holds.</p>"
    newest = job.pulled[-1].name
    share = f'<progress max="{job.total}" value="{job.done}" aria-label="artifacts pulled"></progress>'
    count = f"{job.done} of {job.total}"
    return f'<ul class="cvx-progress"><li><span>{count}</span>{share}<span>{text(newest)}</span></li></ul>'


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:].rstrip(". ") + "."


def _box(title: str, body: str = "") -> str:
    from demo.components.markup import text

    return f'<div class="cvx-notice" role="status"><strong>{text(title)}</strong>{body}</div>'
