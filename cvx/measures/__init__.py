"""Models and the images of one split → tables of measures with intervals, kept in the store.

question     what is asked of which models, where that is computed; what is kept between calls
interval     a mean over images with its bootstrap interval
pairs  alike how alike the models of one dataset are, with ceiling and floor: computed, and said
single       one model at a time: maps on masks, maps by themselves, steadiness
trials       removal beside controls
randomization  what is left of maps when what was learned is taken away
film  history  how maps settle during a run; that beside how its classes come apart
layouts      how well layouts of logits separate the classes, and how alike those of two models are
preconditions  what a measure needs of models, checked before anything is computed
writing      tables as CSV, Markdown and LaTeX
drawing      figures as PNG
progress     how far a long computation is
"""

from cvx.measures.alike import AGREEMENT_WORDS, CONDITIONS, FLOORS, WHY_NOT_PIXELWISE, Agreement
from cvx.measures.film import Settling, through_training
from cvx.measures.history import History, training
from cvx.measures.interval import Interval, decimal, interval
from cvx.measures.layouts import LAYOUT_NOTE, Layout, alignment, embeddings, layouts
from cvx.measures.pairs import agreement
from cvx.measures.preconditions import check
from cvx.measures.question import Options, Runtime
from cvx.measures.randomization import Sanity, sanity
from cvx.measures.single import TABLE_WORDS, Table, localization, properties, stability
from cvx.measures.trials import MAPS, Faithfulness, faithfulness

__all__ = [
    "AGREEMENT_WORDS",
    "CONDITIONS",
    "FLOORS",
    "LAYOUT_NOTE",
    "MAPS",
    "TABLE_WORDS",
    "WHY_NOT_PIXELWISE",
    "Agreement",
    "Faithfulness",
    "History",
    "Interval",
    "Layout",
    "Options",
    "Runtime",
    "Sanity",
    "Settling",
    "Table",
    "agreement",
    "alignment",
    "check",
    "decimal",
    "embeddings",
    "faithfulness",
    "interval",
    "layouts",
    "localization",
    "properties",
    "sanity",
    "stability",
    "through_training",
    "training",
]
