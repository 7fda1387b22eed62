"""Named backbones; each preset's docstring is its run sheet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError


@dataclasses.dataclass(frozen=True)
class Preset:
    """A backbone and the file of its weights.

    Attributes:
        name: of the preset.
        backbone: its sizes.
        weights: file in `keras_cbpnet/weights`, empty where none is shipped.
    """

    name: str
    backbone: BackboneConfig
    weights: str = ""


def vit_nano_32() -> Preset:
    """1.0 M parameters, 32x32 pixels, 65 tokens, width 128, depth 6, a stem of two convolutions; shipped.

    python -m keras_cbpnet.pretrain --preset vit_nano_32 --data npz:tiny_imagenet_32.npz --epochs 6 --output OUT.npz

    50 minutes on 2 busy CPU cores; top-1 on the 5,000 held-out Tiny-ImageNet images (200 classes) 21.8 %. Frozen,
    on the CIFAR-100 subset (python -m benchmarks.backbones --data npz:cifar100.npz): nearest class mean 26.1 %, LDA
    29.5 %, logistic regression 33.1 %. The biases of
    `contract` were divided by 1.702 afterwards, when that layer's gain ceased to scale them: the function is the same.
    """
    return Preset("vit_nano_32", BackboneConfig(), "vit_nano_32.npz")


PRESETS: dict[str, Callable[[], Preset]] = {"vit_nano_32": vit_nano_32}


def get_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        UserError: no such preset; the message lists the known ones.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; known presets: {', '.join(PRESETS)}")
    return PRESETS[name]()
