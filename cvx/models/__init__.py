"""timm models fitted to small images, and faster frozen copies of them.

building           any timm model → `Classifier`; stem fits its first layers to small images
predict            a classifier over a split
frozen             eval mode and exact arithmetic while maps are computed
precision          bfloat16 or float32
fold_batchnorm     a faster copy of a network with BatchNorm
vit_speedups       a faster copy of a ViT
foreign_weights    other people's weight files; match_weights fits their names to a model's
"""

from cvx.models.building import Classifier, build

__all__ = ["Classifier", "build"]
