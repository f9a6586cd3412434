"""Train the starter models in a process of their own when the store is empty, and show the progress."""

import atexit
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import yaml

from cvx.processes import finding_cvx

EPOCH = re.compile(r"^(?P<title>\S+ \S+)  epoch (?P<epoch>[\d.]+)  (?P<numbers>.*)$")
MINUTES = "a few minutes on two cores"


class StarterJob:
    """One training process for all visitors: whoever asks second sees the first one's progress."""

    def __init__(self, root: Path):
        self._root = root
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._begun = 0.0
        self.lines: deque[str] = deque(maxlen=500)
        atexit.register(self.stop)

    @property
    def command(self) -> list[str]:
        """Return what is run, as it would be typed but for Python's path."""
        return [sys.executable, "-m", "cvx", "starter", f"--artifacts={self._root}"]

    @property
    def running(self) -> bool:
        """Tell whether the training is under way."""
        return self._process is not None and self._process.poll() is None

    @property
    def failed(self) -> bool:
        """Tell whether the last training ended with an error."""
        return self._process is not None and self._process.poll() not in (None, 0)

    @property
    def seconds(self) -> float:
        """Return how long the training has run."""
        return time.monotonic() - self._begun if self.running else 0.0

    def start(self) -> None:
        """Start the training, unless it is under way."""
        with self._lock:
            if self.running:
                return
            self.lines.clear()
            self._begun = time.monotonic()
            self._process = subprocess.Popen(
                self.command,
                env=finding_cvx(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C at the server must not reach it twice: the second one does not save
            )
            threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def stop(self) -> None:
        """Ask a running training to save its state and end; `python -m cvx starter` continues it."""
        if self.running and self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
                self._process.wait(timeout=20)

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line.rstrip())

    def progress(self) -> list[tuple[str, float, str]]:
        """Return each starter model's title, share of its epochs done, and newest numbers."""
        newest: dict[str, tuple[float, str]] = {}
        for line in list(self.lines):
            if match := EPOCH.match(line):
                newest[match["title"]] = (float(match["epoch"]), match["numbers"])
        rows = []
        for file in _presets():
            preset = yaml.safe_load(file.read_text(encoding="utf-8"))
            title = f"{preset['dataset']} {preset['model']}"
            epoch, numbers = newest.get(title, (0.0, ""))
            rows.append((title, min(1.0, epoch / preset["epochs"]), numbers))
        return rows


def _presets() -> list[Path]:
    from cvx import pipeline  # imports torch, which the page does not wait for

    try:
        return pipeline.presets()
    except FileNotFoundError:  # the process says so, too, and what it says is shown
        return []


def welcome(job: StarterJob, root: Path) -> str:
    """Draw the panel of an empty store: how to get models, and the progress of a training."""
    from demo.components.markup import notice, text

    typed = shlex.join(["python", *job.command[1:]])
    if job.running:
        return f'<div class="cvx-welcome" role="status"><h2>Training the starter models</h2>{_bars(job)}</div>'
    trouble = notice("The training did not finish", _last_log_lines(job), "error") if job.failed else ""
    return (
        f'<div class="cvx-welcome"><h2>No models yet</h2>{trouble}'
        f"<p>The store <code>{text(root)}</code> holds no model to look with. Four small ones, a ResNet-18 and a ViT"
        f" on digits and on shapes, train in {MINUTES}; nothing is downloaded. Press the button, or run</p>"
        f"<pre tabindex='0'><code>{text(typed)}</code></pre>"
        "<p>and this page shows them as they arrive. Models that you train with <code>python -m cvx train</code> or"
        " bring with <code>python -m cvx import</code> appear here, too.</p></div>"
    )


def _bars(job: StarterJob) -> str:
    from demo.components.markup import text

    rows = job.progress()
    done = sum(share for _, share, _ in rows) / max(1, len(rows))
    items = "".join(
        f'<li><span>{text(title)}</span><progress max="1" value="{share:.3f}" aria-label="{text(title)}"></progress>'
        f"<span>{text(numbers or 'waiting')}</span></li>"
        for title, share, numbers in rows
    )
    minutes, seconds = divmod(int(job.seconds), 60)
    last = next((line for line in reversed(list(job.lines)) if not EPOCH.match(line)), "starting")
    return (
        f"<p>{done:.0%} of the epochs, {minutes}:{seconds:02d} so far; {MINUTES} in all.</p>"
        f'<ul class="cvx-progress">{items}</ul><p class="cvx-small">{text(last)}</p>'
    )


def _last_log_lines(job: StarterJob) -> str:
    lines = [line for line in job.lines if line.strip()]
    return " ".join(lines[-3:]) or "it said nothing"


def panel_updates(job: StarterJob, root: Path, seconds: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the panel, and what the button and the timer should be; the timer ticks every so many seconds."""
    import gradio as gr

    label = "Training…" if job.running else "Try again" if job.failed else "Train the starter models"
    button = gr.update(value=label, interactive=not job.running)
    return welcome(job, root), button, gr.update(value=seconds, active=True)
