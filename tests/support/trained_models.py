"""Images, and models whose BatchNorm and weights are as after training."""

import torch
from torch import nn

from cvx.models import build


def images(num, side=16, channels=3):
    return torch.rand(num, channels, side, side, generator=torch.Generator().manual_seed(num))


def trained(name, side=16):
    """Build a model whose BatchNorms have statistics and weights of their own."""
    torch.manual_seed(1)
    model = build(name, 10, side).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0)):
                nn.init.uniform_(values, low, high)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return model
