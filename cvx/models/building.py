"""Build any timm model for a number of classes, channels and pixels: images in [0, 1] in, logits out."""

import copy
import difflib
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cvx.models.stem import STEMS, Fit, anatomy_of, apply, divisors, fit_stem, is_changed

ALIASES = {
    "vit_tiny": "vit_tiny_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "vit_mini": "test_vit",
}
"""Short names beside timm's own; patch and image size are fitted all the same."""

DEFAULT_MEAN, DEFAULT_STD = 0.5, 0.25
LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R 601)."""


class Classifier(nn.Module):
    """A timm network with its normalization, and where images have another size or channels their fitting, inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, build_args: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.build_args = build_args
        """What makes `build` give this architecture again; fit for JSON."""
        self.takes: tuple[int, int] = (build_args["image_size"], build_args["in_chans"])
        """Side and channels of the images that it is given."""
        for name in ("mean", "std"):
            values = torch.tensor(build_args[name], dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Normalize and classify images in [0, 1].

        Raises:
            ValueError: If the images have another size or other channels than the model was built for, or is to take.
        """
        side, channels = self.takes
        if tuple(inputs.shape[1:]) != (channels, side, side):
            raise ValueError(
                f"{self.build_args['name']} was built for inputs [n, {channels}, {side}, {side}],"
                f" got {list(inputs.shape)}; resize the images or build the model for them"
            )
        fitted = fit_inputs(inputs, self.build_args["image_size"], self.build_args["in_chans"])
        return self.net((fitted - self.mean) / self.std)

    def of(self, image_size: int, in_chans: int) -> "Classifier":
        """Return this classifier for images of a size and channels of their own; it shares all weights and modules.

        Its gradients are with respect to these images' pixels, so maps of models of any size lie on one grid.
        """
        other = copy.copy(self)
        other.takes = (image_size, in_chans)
        return other


def fit_inputs(
    inputs: Float[Tensor, "n c h h"], image_size: int, in_chans: int
) -> Float[Tensor, "n k {image_size} {image_size}"]:
    """Fit square images in [0, 1] to a model, differentiably, as a dataset's images are fitted for training.

    Bicubic and antialiased, along the rows, then along the columns, each time cut to [0, 1]: but for Pillow's rounding
    to 8 bits it is what `data.transforms.fit_image` and `fit_channels` do. Images that fit are unchanged.
    """
    fitted, side = inputs, inputs.shape[-1]
    if (side, inputs.shape[1]) == (image_size, in_chans):
        return inputs
    with torch.autocast(inputs.device.type, enabled=False):
        if side != image_size:  # as matrices: torch's own backward of it adds up in any order on CUDA
            eye = torch.eye(side, dtype=torch.float64)[None, None]
            shape = (image_size, side)
            rows = F.interpolate(eye, shape, mode="bicubic", antialias=True, align_corners=False)[0, 0].to(inputs)
            fitted = (rows @ (fitted @ rows.T).clamp(0, 1)).clamp(0, 1).contiguous()  # a product may be transposed
        if (fitted.shape[1], in_chans) == (3, 1):
            fitted = (fitted * fitted.new_tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)
        elif fitted.shape[1] != in_chans:
            fitted = fitted.repeat(1, in_chans, 1, 1)
    return fitted


def build(
    name: str,
    num_classes: int,
    image_size: int,
    in_chans: int = 3,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    stem: str = "auto",
    patch_size: int = 0,
    drop_path: float = 0.0,
    pretrained: bool = False,
) -> Classifier:
    """Build a timm model for square images of `image_size` pixels.

    Args:
        name: A name timm knows, with or without a tag of pretrained weights, or one of ALIASES.
        mean: Per channel, of images in [0, 1]. If not given, that of the pretrained weights, else 0.5.
        std: Likewise; 0.25 if nothing else is known.
        stem: `auto` fits the first convolution to images of at most 64 pixels; `timm` leaves it as timm has it.
        patch_size: Side of a ViT's patches, or of the patch stem of a ConvNeXt or Swin; 0 fits it.
        drop_path: Highest stochastic-depth rate (Huang et al., 2016, arXiv:1603.09382).
        pretrained: Load timm's weights from the Hugging Face Hub or its local cache. Position embeddings are
            resized, and so is the kernel of a fitted stem.

    Raises:
        ValueError: If the name is unknown or the model cannot be had in this form; the message says why.
        ConnectionError: If pretrained weights are neither cached nor within reach.
    """
    name = resolve(name)
    _check_arguments(num_classes, image_size, in_chans, stem, patch_size, drop_path)
    fit = fit_stem(name, image_size, stem, patch_size)
    options = {"num_classes": num_classes, "in_chans": in_chans} | _options(name, fit, drop_path)
    with torch.inference_mode(False):  # weights made in inference mode could never have a gradient
        net = _create(name, options, pretrained, fit, image_size)
    _probe(net, name, num_classes, image_size, in_chans)
    mean, std = _statistics(net, in_chans, mean, std, pretrained)
    build_args = {
        "name": name,
        "num_classes": num_classes,
        "image_size": image_size,
        "in_chans": in_chans,
        "mean": mean,
        "std": std,
        "stem": "auto" if is_changed(name, fit) else "timm",
        "patch_size": fit.patch_size,
        "drop_path": drop_path,
    }
    return Classifier(net, build_args)


def resolve(name: str) -> str:
    """Return timm's name of a model.

    Raises:
        ValueError: If timm has no such model; the message lists the nearest names.
    """
    import timm
    from timm.models import get_pretrained_cfg

    name = ALIASES.get(name, name)
    if not timm.is_model(name):
        raise ValueError(f"unknown model {name!r}; nearest: {', '.join(_nearest(name))}")
    try:
        get_pretrained_cfg(name)
    except RuntimeError:
        base, _, tag = name.partition(".")
        known = ", ".join(timm.list_pretrained(f"{base}.*")) or "none"
        raise ValueError(f"timm has no weights {tag!r} for {base}; known: {known}") from None
    return name


def _nearest(name: str) -> list[str]:
    import timm

    asked = name.partition(".")[0].lower().replace("-", "_")
    known = [*ALIASES, *timm.list_models()]
    longer = sorted((one for one in known if asked and one.startswith(asked)), key=len)[:3]
    near = longer + [one for one in difflib.get_close_matches(asked, known, n=5) if one not in longer]
    return near or ["resnet18", "resnet50", *ALIASES]


def _check_arguments(
    num_classes: int, image_size: int, in_chans: int, stem: str, patch_size: int, drop_path: float
) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if image_size < 1:
        raise ValueError(f"image_size must be positive, got {image_size}")
    if in_chans not in (1, 3):
        raise ValueError(f"in_chans must be 1 (gray) or 3 (color), got {in_chans}")
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}; known: {', '.join(STEMS)}")
    if patch_size < 0 or (patch_size and image_size % patch_size):
        allowed = ", ".join(map(str, divisors(image_size)))
        raise ValueError(
            f"patch_size {patch_size} does not divide image_size {image_size}; allowed: {allowed}, or 0 to fit it"
        )
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path must lie in [0, 1), got {drop_path}")


def _options(name: str, fit: Fit, drop_path: float) -> dict[str, Any]:
    anatomy = anatomy_of(name)
    if drop_path and not anatomy.takes_drop_path:
        raise ValueError(f"timm's {name} has no stochastic depth that can be set; drop_path must be 0, got {drop_path}")
    options: dict[str, Any] = {"img_size": fit.build_size} if anatomy.takes_img_size else {}
    return options | ({"drop_path_rate": drop_path} if anatomy.takes_drop_path else {})


def _create(name: str, options: dict[str, Any], pretrained: bool, fit: Fit, image_size: int) -> nn.Module:
    import timm
    from timm.layers import DropPath

    if pretrained:
        options = options | {"pretrained_cfg_overlay": _find_weights(name)}
    try:
        net = timm.create_model(name, pretrained=pretrained, **options)
        apply(net, name, fit, image_size, resample=pretrained)
    except OSError as error:
        raise _out_of_reach(name, str(error)) from None
    except Exception as error:  # noqa: BLE001 - where a size does not fit, timm asserts, divides by zero, raises strings
        raise _misfit(f"the pretrained weights of {name}" if pretrained else name, image_size, error) from None
    if "drop_path_rate" not in options:
        for module in net.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0  # a rate that timm fixes would make drop_path a lie
    return net


def _misfit(what: str, image_size: int, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(
        f"{what} cannot be fitted to images of {image_size} px; timm says: {reason}."
        " Choose another image_size (multiples of 32 suit most models), another stem or another model"
    )


def _find_weights(name: str) -> dict[str, Any]:
    """Point timm at weights in the Hub's local cache, so that they need no network; else see that it is there."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import get_session
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        raise ValueError(f"timm has no pretrained weights of {name}; leave pretrained off, or choose another model")
    if not cfg.hf_hub_id:
        return {}
    cached = try_to_load_from_cache(cfg.hf_hub_id, cfg.hf_hub_filename or "model.safetensors")
    if isinstance(cached, str) and cached.endswith(".safetensors"):
        return {"file": cached, "custom_load": cfg.custom_load}
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # noqa: BLE001 - httpx's, requests' or the Hub's own; the Hub would try on for a minute
        raise _out_of_reach(name, str(error)) from None
    return {}


def _out_of_reach(name: str, reason: str) -> ConnectionError:
    from huggingface_hub import constants
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(name)
    hub_id = (cfg.hf_hub_id if cfg else None) or name
    folder = f"models--{hub_id.replace('/', '--')}"
    return ConnectionError(
        f"the pretrained weights of {name} ({hub_id} on the Hugging Face Hub) cannot be had:"
        f" {' '.join(reason.split())[:200]}. Ways: connect to the network once, they are kept afterwards; copy the"
        f" folder {folder} into {constants.HF_HUB_CACHE} from a machine that has them; or leave pretrained off and"
        " train from scratch"
    )


def _probe(net: nn.Module, name: str, num_classes: int, image_size: int, in_chans: int) -> None:
    """See that the model takes one image of its size and gives one logit per class."""
    device = next(net.parameters()).device
    try:
        with torch.no_grad():
            logits = net.eval()(torch.zeros(1, in_chans, image_size, image_size, device=device))
    except Exception as error:  # noqa: BLE001 - networks fail in their own ways where a feature map vanishes
        raise _misfit(name, image_size, error) from None
    finally:
        net.train()  # LeViT and its kin forget here what they cached of weights that will change
    shape = tuple(getattr(logits, "shape", ()))
    if shape != (1, num_classes):
        raise ValueError(
            f"{name} is no classifier: for one image it gives {shape or type(logits).__name__}, not logits"
        )


def _statistics(
    net: nn.Module, in_chans: int, mean: Sequence[float] | None, std: Sequence[float] | None, pretrained: bool
) -> tuple[list[float], list[float]]:
    """Settle what images are normalized with; a gray image takes the average of a color model's channels."""
    own: Any = net.pretrained_cfg if pretrained else {}
    found = []
    for name, given, default in (("mean", mean, DEFAULT_MEAN), ("std", std, DEFAULT_STD)):
        values = list(own.get(name, [default])) if given is None else [float(value) for value in given]
        if given is None and len(values) != in_chans:
            values = [sum(values) / len(values)] * in_chans
        if len(values) != in_chans or not all(map(math.isfinite, values)):
            raise ValueError(f"{name} must have {in_chans} finite values, got {values}")
        found.append(values)
    if min(found[1]) <= 0:
        raise ValueError(f"std must be positive, got {found[1]}; a channel that never varies needs a std of 1")
    return found[0], found[1]
