"""Style, script and theme of the page; nothing is loaded from another machine."""

import json
from pathlib import Path

import gradio as gr

FOLDER = Path(__file__).parent
SANS = ("Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


def style_files() -> list[Path]:
    """List the style sheets in the order in which they apply: the page's own, then each component's by name."""
    components = FOLDER.parent / "components"
    return [FOLDER / "page.css", *sorted(components.glob("*/*.css"))]


def style() -> str:
    """Join the style sheets."""
    return "".join(file.read_text(encoding="utf-8") for file in style_files())


def head() -> str:
    """Return style and script of the page; `css=` would drop @container rules."""
    vendor = FOLDER.parent / "vendor"
    gr.set_static_paths(vendor)
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    return f"<style>{style()}</style><script>window.cvxVendor = {json.dumps(vendor.as_posix())};\n{script}</script>"


def theme() -> gr.themes.Base:
    """Return colors, corners and the system's own fonts."""
    return gr.themes.Base(primary_hue="violet", neutral_hue="zinc", radius_size="md", font=SANS, font_mono=MONO)


def reading() -> str:
    """Say that the store is being read, which takes seconds when the server has just started."""
    return '<div class="cvx-notice" role="status"><strong>Reading the store…</strong></div>'


def logo() -> str:
    """Return name and sign of the page."""
    return (
        '<div class="cvx-brand"><svg viewBox="0 0 4 4" width="28" height="28" aria-hidden="true">'
        '<rect width="4" height="4" rx=".7" fill="#1b1044"/><rect x="1" y="1" width="1" height="1" fill="#fcfdbf"/>'
        '<rect x="2" y="1" width="1" height="1" fill="#f1605d"/><rect x="1" y="2" width="1" height="1" fill="#b5367a"/>'
        '<rect x="2" y="2" width="1" height="1" fill="#721f81"/></svg>'
        "<h1>cvx</h1><p>What do image classifiers look at?</p></div>"
    )
