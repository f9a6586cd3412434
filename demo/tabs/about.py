"""The tab About: what a vanilla gradient is, and how to read one, with examples of the store's own models."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gradio as gr

from demo.backend.background_loader import BackgroundLoader
from demo.serving.fair_queue import MAP_QUEUE
from demo.state.tab_link import TabLink

QUESTIONS = (
    (
        "What is shown?",
        "For one image and one class, the <b>vanilla gradient</b>: the derivative of the class's score with respect to"
        " every pixel, ∂ score / ∂ pixel. It answers: if this pixel changed a little, how much would the score"
        " change? (Simonyan, Vedaldi and Zisserman, 2013, arXiv:1312.6034.)",
    ),
    (
        "What is it measured in?",
        "Images are scaled to 0…1 and every model normalizes inside, so all maps share one unit: score per unit"
        " pixel, where one unit is the step from black to white. That makes models comparable, whatever their mean"
        " and standard deviation. Maps are computed at the model's own resolution and are never smoothed.",
    ),
    (
        "How do three channels become one?",
        "<b>Largest magnitude</b> takes the largest absolute value over red, green and blue (the choice of the paper);"
        " <b>sum of magnitudes</b> adds the absolute values; <b>signed sum</b> adds the values themselves, so it shows"
        " direction: red where brighter raises the score, blue where brighter lowers it. Its zero is always white.",
    ),
    (
        "Which score?",
        "The <b>logit</b> is the class's output before softmax. The <b>log-probability</b> also counts what would make"
        " the other classes less likely. The <b>centered logit</b> is the logit less the mean of all logits, which"
        " takes out a shift that all classes share and softmax does not see.",
    ),
    (
        "Which scale?",
        "<b>One for the row</b> draws all models on one scale: brightness can be compared, and a model whose score"
        " hangs less on any single pixel is darker. <b>Each map its own</b> shows where, not how much. <b>Fixed</b>"
        " compares across images. A few extreme pixels would darken all others, so the scale ends at a percentile; how"
        " many pixels lie beyond it is printed under every map.",
    ),
    (
        "What do the numbers under a map say?",
        "Which score of which class was explained, and why that class; where the scale ends, and how many pixels lie"
        " beyond it; the Euclidean norm of the whole gradient over all pixels and channels, and its largest entry."
        " A map that is zero everywhere stays black and is said to be so.",
    ),
    (
        "What does it not tell?",
        "A gradient is local: it says what would change the score from here, not what made it what it is. A model that"
        " is very sure may react to almost nothing. Noise is normal, more so in deep networks; a grid of squares is"
        " the trace of a ViT's patches or of strides. Two maps that look alike do not prove that two models reason"
        " alike, and a map on the object does not prove that the model is right for the right reason."
        " SmoothGrad and Integrated Gradients are there as second opinions.",
    ),
    (
        "What is the class view?",
        "The mean of the maps of many images of one class, side by side for several models. <b>Center bias</b> is the"
        " mean distance of a map's weight from the image center, divided by that of a map that is the same everywhere:"
        " 1 means no preference, below 1 the model looks at the center. Where a dataset knows which pixels decide the"
        " class, <b>mass on the mask</b> is the share of the map that lies on them, beside what chance would give.",
    ),
)

SCRIPT = """from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
held = client.predict(api_name="/models")
names = [model["reference"] for model in held["models"]]
zeros = client.predict("digits", class_name="0", api_name="/samples")
answer = client.predict(names, sample="digits:0", api_name="/compare")
alike = client.predict(names[:2], num=100, measure="spearman", api_name="/agreement")
answer = client.predict(names, image=handle_file("cat.jpg"), target="pred", api_name="/compare")"""


class AboutTab:
    """The tab: nothing is chosen in it, and its examples are drawn when it is looked at."""

    name: ClassVar[str] = "about"
    title: ClassVar[str] = "About"
    queue = MAP_QUEUE
    image_source = None
    fill_outputs: Sequence[Any] = ()
    link_inputs: Sequence[Any] = ()
    draw_inputs: Sequence[Any] = ()

    def __init__(self, loader: BackgroundLoader):
        self._loader = loader
        self.page = gr.HTML("", apply_default_css=False)
        self.draw_outputs = [self.page]

    def fill(self, link: TabLink) -> list[Any]:
        """Choose nothing."""
        return []

    def link(self) -> str:
        """Write down nothing but which tab it is."""
        return ""

    def draw(self) -> list[str]:
        """Draw the text, and examples by models of the store."""
        from demo.components.about_examples import examples

        return [about(examples(self._loader.service))]


def about(live: str = "") -> str:
    """Return the page.

    Args:
        live: Examples as HTML.
    """
    from demo.components.markup import color_bar

    items = "".join(f"<section><h3>{question}</h3><p>{answer}</p></section>" for question, answer in QUESTIONS)
    return (
        '<div class="cvx-about"><h2>What do image classifiers look at?</h2>'
        f'<div class="cvx-scales"><figure>{color_bar(1, False)}<figcaption>magnitude: no influence to strong'
        f"</figcaption></figure><figure>{color_bar(1, True)}<figcaption>signed: lowers or raises the score"
        f'</figcaption></figure></div>{live}<div class="cvx-questions">{items}</div>'
        "<h3>From a script</h3><p>Scripts can ask, too: <code>/models</code> and <code>/samples</code> list"
        " the store, <code>/compare</code> answers with predictions, maps and pictures, <code>/agreement</code> says"
        " how alike models look.</p>"
        f"<pre tabindex='0'><code>{SCRIPT.replace('<', '&lt;')}</code></pre></div>"
    )
