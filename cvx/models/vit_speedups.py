"""A ViT on a CPU that is spared what does not change its logits, and multiplies by the library that is sooner."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MANY = 16
"""Images from which on torch has oneDNN take convolutions of 1 x 1 also in one thread."""


def optimize_vit(model: nn.Module) -> bool:
    """Change a copy of a model in place so that it computes the same with less; tell whether anything was changed.

    Where the logits depend on the class token alone, so does what the last block must compute: the other tokens are
    keys and values, and that is all. Linear layers are multiplied by the library that is sooner, and the gradient of a
    multilayer perceptron is taken in the memory that its parts were in.
    """
    vits: list[Any] = [module for module in model.modules() if _reads_one_token(module)]
    blocks = [vit.blocks[-1] for vit in vits]
    mlps = [module for module in model.modules() if _is_plain_mlp(module)]
    attentions = [module for module in model.modules() if _is_plain_attention(module)]
    if not blocks and not mlps:
        return False
    for kind, modules in (("block", blocks), ("mlp", mlps), ("attention", attentions)):
        for module in modules:
            module.__class__ = _frozen_kinds()[kind]
    for linear in [module for module in model.modules() if type(module) is nn.Linear and module.bias is not None]:
        linear.__class__ = _Linear
    return True


@functools.cache
def _frozen_kinds() -> dict[str, type[nn.Module]]:
    from timm.layers import Mlp
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import Block

    return {
        "block": type("LastBlock", (Block,), {"forward": _of_first_token}),
        "mlp": type("FrozenMlp", (Mlp,), {"forward": _expanded}),
        "attention": type("FrozenAttention", (Attention,), {"forward": _attended}),
    }


class _Linear(nn.Linear):
    def forward(self, input: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        return linear(input, self.weight, self.bias)


def linear(
    x: Float[Tensor, "... i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"] | None = None
) -> Float[Tensor, "... o"]:
    """Apply a linear layer whose weights get no gradient, in float32 on a CPU by oneDNN.

    torch has MKL multiply float32 matrices; oneDNN, which it keeps for convolutions, takes the same product as a
    convolution of 1 x 1 and is sooner where rows are many and channels few (`make bench TOPIC=maps`).
    """
    if torch.is_autocast_enabled(x.device.type) or not _is_tall(x):
        return F.linear(x, weight) if bias is None else F.linear(x, weight).add_(bias)
    return _Product.apply(x, weight, bias)


def _is_tall(x: Tensor) -> bool:
    """Tell whether there are so many images of several tokens that torch calls oneDNN, whatever its threads."""
    known = x.device.type == "cpu" and x.dtype == torch.float32 and x.ndim > 2
    return known and len(x) >= MANY and x.shape[1:-1].numel() > 1 and _has_onednn()


@functools.cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "... o"]:
        ctx.save_for_backward(weight)
        return _convolved(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _convolved(grads[0], weight.t()), None, None


def _convolved(
    x: Float[Tensor, "n ... i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"] | None = None
) -> Float[Tensor, "n ... o"]:
    rows = x.reshape(len(x), 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # channels_last, as it lies
    found = F.conv2d(rows, weight[:, :, None, None], bias).permute(0, 2, 3, 1)
    return torch.ops.aten._unsafe_view(found.contiguous(), [*x.shape[:-1], len(weight)])  # no view: may be added to


def _reads_one_token(module: Any) -> bool:
    """Tell whether a module is timm's plain ViT, and its head reads the first token only."""
    from timm.layers import DropPath, LayerNorm, Mlp
    from timm.models.vision_transformer import Block, LayerScale, VisionTransformer

    if type(module) is not VisionTransformer or module.attn_pool is not None or module.global_pool != "token":
        return False
    last = module.blocks[-1]
    if type(last) is not Block or not _is_plain_attention(last.attn):
        return False
    kinds = (nn.Identity, nn.LayerNorm, LayerNorm, LayerScale, DropPath, Mlp)
    after = (last.ls1, last.drop_path1, last.norm2, last.mlp, last.ls2, last.drop_path2, module.norm)
    return all(type(one) in kinds for one in after)  # each token for itself


def _is_plain_attention(module: nn.Module) -> bool:
    from timm.layers.attention import Attention

    return type(module) is Attention and module.gate is None and module.fused_attn and type(module.qkv) is nn.Linear


def _of_first_token(
    self: Any, x: Float[Tensor, "n t c"], attn_mask: Tensor | None = None, is_causal: bool = False
) -> Float[Tensor, "n wanted c"]:
    """Do what timm's Block does (Dosovitskiy et al., 2020, section 3.1, arXiv:2010.11929), for the first token."""
    if attn_mask is not None or is_causal:
        return super(type(self), self).forward(x, attn_mask=attn_mask, is_causal=is_causal)
    first = x[:, :1] + self.drop_path1(self.ls1(_first_attended(self.attn, self.norm1(x))))
    return first + self.drop_path2(self.ls2(self.mlp(self.norm2(first))))


def _first_attended(attn: Any, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n 1 c"]:
    weights = attn.qkv.weight.tensor_split([attn.attn_dim])
    biases = (None, None) if attn.qkv.bias is None else attn.qkv.bias.tensor_split([attn.attn_dim])
    queries, pairs = (linear(x, w, b) for x, w, b in zip((tokens[:, :1], tokens), weights, biases, strict=True))
    return _mixed(attn, *_by_head(attn, queries, 1), *_by_head(attn, pairs, 2))


def _attended(
    self: Any, x: Float[Tensor, "n t c"], attn_mask: Tensor | None = None, is_causal: bool = False
) -> Float[Tensor, "n t c"]:
    return _mixed(self, *_by_head(self, self.qkv(x), 3), attn_mask=attn_mask, is_causal=is_causal)


def _by_head(attn: Any, values: Float[Tensor, "n t c"], parts: int) -> list[Float[Tensor, "n h t d"]]:
    """Part what a linear layer gives before moving axes, so that the gradients of the parts join in one copy."""
    split = values.view(*values.shape[:2], parts, attn.num_heads, attn.head_dim).unbind(2)
    return [one.transpose(1, 2) for one in split]


def _mixed(
    attn: Any,
    queries: Float[Tensor, "n h q d"],
    keys: Float[Tensor, "n h t d"],
    values: Float[Tensor, "n h t d"],
    **masked: Any,
) -> Float[Tensor, "n q c"]:
    found = F.scaled_dot_product_attention(attn.q_norm(queries), attn.k_norm(keys), values, **masked)
    return attn.proj_drop(attn.proj(attn.norm(found.transpose(1, 2).flatten(2))))


def _is_plain_mlp(module: nn.Module) -> bool:
    """Tell whether a module is timm's perceptron of two linear layers and an exact GELU."""
    from timm.layers import Mlp

    if type(module) is not Mlp or type(module.norm) is not nn.Identity:
        return False
    if type(module.drop1) is not nn.Dropout or type(module.drop2) is not nn.Dropout:
        return False
    gelu = type(module.act) is nn.GELU and module.act.approximate == "none"
    return gelu and all(type(one) is nn.Linear and one.bias is not None for one in (module.fc1, module.fc2))


def _expanded(self: Any, x: Float[Tensor, "... c"]) -> Float[Tensor, "... c"]:
    if torch.is_autocast_enabled(x.device.type):
        return self.fc2(self.act(self.fc1(x)))
    return _Perceptron.apply(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)


class _Perceptron(torch.autograd.Function):
    """Two linear layers, a GELU between (Hendrycks and Gimpel, 2016, arXiv:1606.08415); weights get no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
    ) -> Float[Tensor, "... c"]:
        hidden = linear(x, weight1, bias1)
        ctx.save_for_backward(hidden, weight1, weight2)
        return linear(F.gelu(hidden), weight2, bias2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        hidden, weight1, weight2 = ctx.saved_tensors
        to_hidden = linear(grads[0], weight2.t())
        torch.ops.aten.gelu_backward.grad_input(to_hidden, hidden, grad_input=to_hidden)
        return linear(to_hidden, weight1.t()), None, None, None, None
