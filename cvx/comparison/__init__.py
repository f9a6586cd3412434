"""Models and the images of one split → tables of measures with intervals, kept in the store.

request              what is asked of which models, where that is computed; models resolved once for many measures
loaded_models        their weights in memory, loaded once within a bound
preconditions        what a measure needs of models, checked before anything is computed
result_cache         results kept in the store
agreement            how alike the models of one dataset are, with ceiling and floor (agreement_result: what is said)
per_model            one model at a time: maps on masks, maps by themselves, steadiness
faithfulness         removal beside controls
randomization        what is left of maps when what was learned is taken away
map_convergence      how maps settle during a run; training_history: that beside how its classes come apart
embeddings           how well layouts of logits separate the classes, and how alike those of two models are
tables  figures      as CSV, Markdown and LaTeX; as PNG
"""

from cvx.comparison.agreement import agreement
from cvx.comparison.agreement_result import AGREEMENT_WORDS, CONDITIONS, FLOORS, WHY_NOT_PIXELWISE, Agreement
from cvx.comparison.embeddings import LAYOUT_NOTE, Layout, alignment, embeddings, layouts
from cvx.comparison.faithfulness import MAPS, Faithfulness, faithfulness
from cvx.comparison.loaded_models import LoadedModels
from cvx.comparison.map_convergence import MapConvergence, through_training
from cvx.comparison.per_model import TABLE_WORDS, ModelTable, localization, properties, stability
from cvx.comparison.preconditions import check
from cvx.comparison.randomization import Sanity, sanity
from cvx.comparison.request import Models, Options, ResolvedModel, Runtime, share_models
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
    "LoadedModels",
    "MapConvergence",
    "ModelTable",
    "Models",
    "Options",
    "ResolvedModel",
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
    "share_models",
    "stability",
    "through_training",
    "training",
]
