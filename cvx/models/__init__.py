"""timm models fitted to small images, and faster frozen copies of them."""

from cvx.models.building import Classifier, build

__all__ = ["Classifier", "build"]
