"""Fit the stems of timm's networks to small images.

One rule serves all. A network's first convolution has a stride: 2 in most CNNs, 4 in pyramids such as ConvNeXt and
Swin, the patch size in ViTs. At small sizes that stride is divided by a factor, the kernel shrinks with it (7x7 to
3x3, a patch of 16 to one of 4), and the max-pool behind it goes. To the rest of the network the image then looks as
if it were that much larger: timm is told the larger size where position embeddings or windows ask for one, and
pretrained weights keep their place, for only the first kernel is resampled.
"""

import functools
import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

STEMS = ("auto", "timm")
SMALL = 64
"""Images of at most this many pixels a side get a stem of their own; timm's is made for 224."""
MIN_GRID = 7
"""Above that size a ViT keeps timm's patches if they cut a side into at least this many."""

_POOL = re.compile(
    r"(patch_embed\.backbone\.)?(maxpool|stem\.pool|stem\.pad|pool0|features\.pool0|features\.conv1_pool)"
)
_HYBRID_POOL = "patch_embed.backbone.pool"


class Conv(NamedTuple):
    """A strided convolution of the image itself."""

    path: str
    kernel: int
    stride: int


@dataclass(frozen=True)
class Anatomy:
    """What fitting must know about a timm model."""

    convs: tuple[Conv, ...]
    """Several where branches run in parallel, none where the first stride comes later."""
    pools: tuple[str, ...]
    """Paths of the pooling that ends the stem, and of what pads for it (BiT)."""
    is_flat: bool
    """Whether the network works at one resolution or two (ViT, mixer), not on a pyramid."""
    takes_img_size: bool
    takes_drop_path: bool

    @property
    def patch(self) -> int:
        """Return the patch size, 0 if the stem does not cut the image into patches."""
        if len(self.convs) != 1 or self.convs[0].kernel != self.convs[0].stride:
            return 0
        return self.convs[0].stride


class Fit(NamedTuple):
    """How a model's stem is changed for an image size."""

    build_size: int
    """The image size that the rest of the network is built for."""
    patch_size: int = 0
    """0 if the stem does not cut the image into patches."""
    factor: int = 1
    """What the stride of a stem without patches is divided by."""
    drops_pool: bool = False


@functools.lru_cache(maxsize=64)
def anatomy_of(name: str) -> Anatomy:
    """Look at timm's own form of a model, without memory for its weights."""
    from timm.layers import DropPath
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(name)
    channels = 5  # an input that no other strided convolution has
    options = {"img_size": cfg.input_size[-1] if cfg else 224, "drop_path_rate": 0.5, "in_chans": channels}
    net, taken = _on_meta(name, options)
    convs = tuple(
        Conv(path, module.kernel_size[0], module.stride[0])
        for path, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == channels and module.stride[0] > 1
    )
    reductions = [stage["reduction"] for stage in getattr(net, "feature_info", [])] or [1, 32]
    drops = [module for module in net.modules() if isinstance(module, DropPath) and module.drop_prob]
    return Anatomy(
        convs=convs,
        pools=tuple(path for path, module in net.named_modules() if _is_stem_pool(path, module)),
        is_flat=reductions[-1] <= 2 * reductions[0],
        takes_img_size="img_size" in taken,
        takes_drop_path="drop_path_rate" in taken and bool(drops),
    )


def _on_meta(name: str, options: dict[str, Any]) -> tuple[nn.Module, set[str]]:
    """Build a model without memory; options that its constructor does not let one set are left out."""
    import timm

    while True:
        try:
            with torch.device("meta"):
                return timm.create_model(name, **options), set(options)
        except TypeError as error:
            refused = next((option for option in options if f"'{option}'" in str(error)), None)
            if refused is None:
                raise
            options = {key: value for key, value in options.items() if key != refused}


def _is_stem_pool(path: str, module: nn.Module) -> bool:
    if path == "stem.pool":  # HGNetV2 has one of stride 1 here, a branch that must stay
        return getattr(module, "stride", 0) in (2, (2, 2))
    if path == _HYBRID_POOL:  # ViTamin has its patch projection here
        return isinstance(module, nn.MaxPool2d)
    return _POOL.fullmatch(path) is not None


def fit_stem(name: str, image_size: int, stem: str = "auto", patch_size: int = 0) -> Fit:
    """Choose the stem of a model for an image size.

    Raises:
        ValueError: If patches are asked of a model that has none, or none of a sensible size divides the image.
    """
    anatomy = anatomy_of(name)
    if own := anatomy.patch:
        patch = patch_size or _patch(name, anatomy, image_size, stem)
        return Fit(image_size // patch * own, patch)
    if patch_size:
        raise ValueError(f"{name} does not cut images into patches; patch_size must be 0, got {patch_size}")
    if stem == "timm" or image_size > SMALL:
        return Fit(image_size)
    strides = {conv.stride for conv in anatomy.convs}
    factor = _factor(strides.pop(), image_size) if len(strides) == 1 else 1
    drops_pool = bool(anatomy.pools)
    return Fit(image_size * factor * (2 if drops_pool else 1), factor=factor, drops_pool=drops_pool)


def _factor(stride: int, image_size: int) -> int:
    """Choose what divides a small image's first stride: 2, or 4 for long strides at 32 pixels or less."""
    wanted = 2 if stride <= 2 or image_size > SMALL // 2 else 4
    return min(divisor for divisor in divisors(stride) if divisor >= min(wanted, stride))


def _patch(name: str, anatomy: Anatomy, image_size: int, stem: str) -> int:
    own = anatomy.patch
    if stem == "timm" and image_size % own:
        raise ValueError(
            f"{name} has patches of {own} px, which do not divide image_size {image_size};"
            f" choose a multiple of {own}, another patch_size, or stem='auto'"
        )
    is_large = image_size > SMALL and image_size % own == 0
    if stem == "timm" or (is_large and (not anatomy.is_flat or image_size // own >= MIN_GRID)):
        return own
    wanted = min(16.0, image_size / 8) if anatomy.is_flat else own / _pyramid_factor(own, image_size)
    wanted = max(wanted, 1.0)
    patch = min(divisors(image_size), key=lambda divisor: abs(math.log(divisor / wanted)))
    if not 0.5 <= patch / wanted <= 2:
        raise ValueError(
            f"no patch of about {wanted:.0f} px divides image_size {image_size} for {name};"
            f" choose image_size {max(1, round(image_size / 8)) * 8}, or name a patch_size"
        )
    return patch


def _pyramid_factor(own: int, image_size: int) -> int:
    return _factor(own, image_size) if image_size <= SMALL else 1


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, ascending."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def is_changed(name: str, fit: Fit) -> bool:
    """Tell whether a fitted stem differs from timm's own."""
    return fit.factor > 1 or fit.drops_pool or fit.patch_size != anatomy_of(name).patch


def apply(net: nn.Module, name: str, fit: Fit, image_size: int, resample: bool) -> None:
    """Give a network built for `fit.build_size` the stem fitted to `image_size`.

    Args:
        resample: Keep the first kernel's weights, resampled (Beyer et al., 2022, section 3.4, arXiv:2212.08013);
            without it they are drawn anew.
    """
    if not is_changed(name, fit):
        return
    for path, _, stride in anatomy_of(name).convs:
        conv = net.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        kernel = fit.patch_size or _kernel(conv, fit.factor)
        _exchange(conv, kernel, fit.patch_size or stride // fit.factor, resample)
        _correct(net.get_submodule(path.rpartition(".")[0]), "patch_size", stride, fit.patch_size or stride)
    for path in anatomy_of(name).pools if fit.drops_pool else ():
        net.set_submodule(path, nn.Identity())
    for module in net.modules():
        _correct(module, "img_size", fit.build_size, image_size)


def _kernel(conv: nn.Conv2d, factor: int) -> int:
    """Shrink a kernel with its stride: 7 to 3, 3 stays; one without padding (PiT) keeps its ratio to the stride."""
    kernel = conv.kernel_size[0]
    if conv.padding[0] == 0 and kernel > 3 and kernel % factor == 0:
        return kernel // factor
    odd = kernel // factor // 2 * 2 + 1
    return max(min(kernel, 3), odd)


def _exchange(conv: nn.Conv2d, kernel: int, stride: int, resample: bool) -> None:
    """Change kernel and stride in place, so that the convolution stays of the class that timm chose."""
    old = conv.kernel_size[0]
    conv.stride = (stride, stride)
    if kernel == old:
        return
    conv.kernel_size = (kernel, kernel)
    if conv.padding[0]:  # 0 in patches, and in timm's convolutions that pad by themselves
        conv.padding = ((kernel - 1) // 2,) * 2
    conv.weight = nn.Parameter(_resampled(conv.weight, kernel) if resample else _redrawn(conv.weight, kernel))
    if isinstance(getattr(conv, "scale", None), float):  # ScaledStdConv2d's 1 / sqrt(fan-in)
        conv.scale = conv.scale * old / kernel  # type: ignore[assignment, operator]


def _resampled(weight: torch.Tensor, kernel: int) -> torch.Tensor:
    from timm.layers import resample_patch_embed

    return resample_patch_embed(weight.detach(), [kernel, kernel])


def _redrawn(weight: torch.Tensor, kernel: int) -> torch.Tensor:
    """Draw weights that leave the variance of what the convolution gives as timm's initialization has it."""
    std = weight.detach().std(correction=0) * weight.shape[-1] / kernel
    return torch.randn(*weight.shape[:2], kernel, kernel, device=weight.device) * std


def _correct(module: nn.Module, name: str, old: int, new: int) -> None:
    """Correct a size that a module remembers, an int or a pair, if it is the old one."""
    if getattr(module, name, None) == old:
        setattr(module, name, new)
    elif getattr(module, name, None) == (old, old):
        setattr(module, name, (new, new))
