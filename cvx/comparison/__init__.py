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

from cvx.comparison.agreement import agreement
from cvx.comparison.agreement_result import AGREEMENT_WORDS, CONDITIONS, FLOORS, WHY_NOT_PIXELWISE, Agreement
from cvx.comparison.embeddings import LAYOUT_NOTE, Layout, alignment, embeddings, layouts
from cvx.comparison.faithfulness import MAPS, Faithfulness, faithfulness
from cvx.comparison.map_convergence import MapConvergence, through_training
from cvx.comparison.per_model import TABLE_WORDS, ModelTable, localization, properties, stability
from cvx.comparison.randomization import Sanity, sanity
from cvx.comparison.request import Options, Runtime
from cvx.comparison.requirements import check
from cvx.comparison.training_history import TrainingHistory, training
from cvx.metrics.bootstrap import Interval, decimal, interval

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
    "Interval",
    "Layout",
    "MapConvergence",
    "ModelTable",
    "Options",
    "Runtime",
    "Sanity",
    "TrainingHistory",
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
