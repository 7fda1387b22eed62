"""Named backbones, for `--preset NAME` and `Backbone.from_preset(NAME)`; each docstring is its preset's run sheet."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.hub import check_address, fetch, is_address

IMAGENET: Mapping[str, Any] = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}


@dataclasses.dataclass(frozen=True)
class Preset:
    """A backbone and the file of its weights.

    Attributes:
        name: of the preset.
        backbone: its sizes.
        weights: file in `keras_cbpnet/weights`, empty where none is shipped.
        hub: where it is on the Hugging Face hub, hf:OWNER/NAME[@REVISION][/FILE]; empty for nowhere.
        sha256: of that file; empty for the one that the hub states.
        training: by data set, what a run with this backbone changes of the trainer's defaults.
        cbpnet: what a run of --method cbpnet changes of them on any data set.
    """

    name: str
    backbone: BackboneConfig
    weights: str = ""
    hub: str = ""
    sha256: str = ""
    training: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    cbpnet: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def defaults(self, dataset: str, method: str) -> dict[str, Any]:
        """Return what a run of `method` on `dataset` changes of the trainer's defaults."""
        return {**self.training.get(dataset, {}), **(self.cbpnet if method == "cbpnet" else {})}


def vit_nano_32() -> Preset:
    """1,984,000 parameters, 44.7 M multiply-adds, 32x32 pixels, 17 tokens of width 192, depth 5; shipped.

    python -m keras_cbpnet.pretrain --preset vit_nano_32 --data npz:tiny_imagenet_32.npz --output OUT.npz
        --teacher deit_tiny_16_224 --teacher-weights deit_tiny.npz --epochs 12 --learning-rate 1.5e-3 --shift 2
        --label-weight 0.5 --qat-epochs 0 (in one line)
    python -m keras_cbpnet.pretrain --preset vit_nano_32 --data npz:tiny_imagenet_32.npz --output OUT2.npz
        --start OUT.npz --teacher deit_tiny_16_224 --teacher-weights deit_tiny.npz --epochs 16 --learning-rate 1e-3
        --area 0.4 --cutmix 1 --label-weight 0.5 (in one line)

    55 minutes on 2 busy CPU cores for the first, 120 on busier ones for the second, and 25 for the teacher's outputs,
    which were computed beforehand with another bicubic filter (mean cosine to those of the commands above 0.99). Top-1
    on the 5,000 held-out Tiny-ImageNet images (200 classes) 41.1 % after the first and 36.7 % after the second, whose
    features are the better ones on other images. Logs: benchmarks/pretraining. What was tried, with numbers:
    benchmarks/NOTES.md, entries 8 to 14 and 17.
    """
    stem = ((32, 2), (64, 1), (128, 2), (128, 1))
    return Preset("vit_nano_32", _hybrid(stem, width=192, heads=6, mlp_width=384), "vit_nano_32.npz")


def vit_micro_32() -> Preset:
    """340,832 parameters, 8.1 M multiply-adds, 32x32 pixels, 17 tokens of width 96, depth 5; shipped, for TFLM.

    python -m keras_cbpnet.pretrain --preset vit_micro_32 --data npz:tiny_imagenet_32.npz --output OUT.npz
        --teacher deit_tiny_16_224 --teacher-weights deit_tiny.npz --epochs 12 --learning-rate 2e-3 --shift 2
        --label-weight 0.5 (in one line)

    35 minutes on 2 busy CPU cores; the teacher's outputs are those of `vit_nano_32`. Top-1 on the 5,000 held-out
    Tiny-ImageNet images (200 classes) 32.4 %. Whitened once more likewise.
    """
    stem = ((16, 2), (32, 1), (48, 2), (48, 1))
    return Preset("vit_micro_32", _hybrid(stem, width=96, heads=4, mlp_width=64), "vit_micro_32.npz")


def vit_tiny_96() -> Preset:
    """4,929,792 parameters, 174.2 M multiply-adds, 96x96 pixels, 37 tokens of width 192, depth 12; shipped, for photos.

    python -m keras_cbpnet.pretrain --preset vit_tiny_96 --data npz:tiny_imagenet_64.npz --output OUT.npz
        --teacher deit_tiny_16_224 --teacher-weights deit_tiny.npz --inherit --views 36000 --mosaics 0.5
        --label-weight 0 --batch 64 --learning-rate 3e-4 --weight-decay 0.02 --shift 6 --epochs 6 --qat-epochs 0
        (in one line)

    It begins as DeiT-tiny (Touvron et al., arXiv 2012.12877; Apache-2.0), its MLPs narrowed from 768 to 640 hidden
    units, and learns to see in 36 patches what DeiT-tiny sees in 196. 29 minutes for the teacher's outputs and 47 for
    six epochs on 2 busy CPU cores. Log: benchmarks/pretraining; measurements: benchmarks/NOTES.md, entry 58.
    """
    config = _plain_vit(192, 3, **IMAGENET, image_size=96, mlp_width=640, activation="quick_gelu", whitening=True)
    return Preset("vit_tiny_96", config, "vit_tiny_96.npz")


def _hybrid(stem: tuple[tuple[int, int], ...], width: int, heads: int, mlp_width: int) -> BackboneConfig:
    """Return five blocks on 4x4 patches of 32x32 pixels after a convolutional stem, with whitening."""
    return BackboneConfig(
        image_size=32,
        stem=stem,
        patch_size=2,
        width=width,
        depth=5,
        heads=heads,
        mlp_width=mlp_width,
        whitening=True,
        mean=(0.5, 0.5, 0.5),
        deviation=(0.25, 0.25, 0.25),
    )


def deit_tiny_16_224() -> Preset:
    """DeiT-tiny (Touvron et al., arXiv 2012.12877): 224x224 pixels, 197 tokens, width 192, depth 12; from the hub.

    python -m keras_cbpnet.train --preset deit_tiny_16_224 --dataset folder:photos

    Weights: Apache-2.0, trained on ImageNet-1k, https://github.com/facebookresearch/deit; 23 MB, revision and SHA-256
    pinned. The distilled variant does not fit. ImageNet mean and deviation. 5,524,416 parameters without the
    classifier; 5,515,200 here, where the norms inside the blocks are folded into the layers after them.

    With --method cbpnet the first task alone trains prompts, unless --prompt-tasks says otherwise: one prompt needs no
    query pass, half the work of an image, and lost nothing in a small comparison
    (benchmarks/results/prompt_selection_deit.json).
    """
    return Preset(
        "deit_tiny_16_224",
        _plain_vit(192, 3, **IMAGENET),
        hub="hf:timm/deit_tiny_patch16_224.fb_in1k@80e968688553f219e4a86f940ed945a23709c16f/model.safetensors",
        sha256="21d4764d94f6c3ffdb6da3581115a0a1ee2d505537d96883b540e54766407c9e",
        cbpnet={"prompt_tasks": 1},
    )


def deit_small_16_224() -> Preset:
    """DeiT-small (Touvron et al., arXiv 2012.12877): 224x224 pixels, 197 tokens, width 384, depth 12; from the hub.

    python -m keras_cbpnet.train --preset deit_small_16_224 --dataset folder:photos

    Weights: Apache-2.0, trained on ImageNet-1k, https://github.com/facebookresearch/deit; 88 MB, revision and SHA-256
    pinned. ImageNet mean and deviation. 21,665,664 parameters without the classifier; 21,647,232 here, norms folded.
    """
    return Preset(
        "deit_small_16_224",
        _plain_vit(384, 6, **IMAGENET),
        hub="hf:timm/deit_small_patch16_224.fb_in1k@91327a9c99f98fe6b524cd4d397b7226b80e1365/model.safetensors",
        sha256="1e747b4a8d0df2cfbd3c450e8c97685d867448ab0c2ddbfb34b6885f5cb23e5b",
    )


def vit_small_16_224() -> Preset:
    """ViT-S/16 (Steiner et al., arXiv 2106.10270): 224x224 pixels, 197 tokens, width 384, depth 12; from the hub.

    python -m keras_cbpnet.train --preset vit_small_16_224 --dataset folder:photos

    Weights: Apache-2.0, trained on ImageNet-21k, the S/16 .npz files of
    https://github.com/google-research/vision_transformer; the hub's newest revision, checked against the SHA-256 that
    the hub states. Mean and deviation 0.5, so DeiT-small's weights do not belong here. 21,665,664 parameters without
    the classifier; 21,647,232 here, norms folded.
    """
    hub = "hf:timm/vit_small_patch16_224.augreg_in21k/model.safetensors"
    return Preset("vit_small_16_224", _plain_vit(384, 6), hub=hub)


def vit_base_16_224() -> Preset:
    """ViT-B/16 (Dosovitskiy et al., arXiv 2010.11929), the paper's: 224x224, 197 tokens, width 768; from the hub.

    python -m keras_cbpnet.train --preset vit_base_16_224 --dataset imagenet_r --tasks 10

    Weights: Apache-2.0, trained on ImageNet-21k with the augmentation and regularization of Steiner et al. (arXiv
    2106.10270), the B/16 .npz files of https://github.com/google-research/vision_transformer; the hub's newest
    revision, checked against the SHA-256 that the hub states. `weights` may also name Google's ViT-B_16.npz or
    hf:google/vit-base-patch16-224-in21k. Mean and deviation 0.5, so DeiT-base's weights do not belong here. 85,798,656
    parameters without the classifier; 85,761,792 here, norms folded.

    On cifar100 and imagenet_r the trainer's defaults are those of the paper's experiments: 10 tasks, prompts and head
    trained together for 5 and 50 epochs on batches of 24, Adam at 0.03 and 0.005 times 24 / 256 (DualPrompt's public
    settings, which the paper builds on), expert prompts of 5 and 20 rows, no quantization.
    """
    common = {"tasks": 10, "batch": 24, "head_epochs": 0, "qat": False, "block": "residual"}
    slow = {"learning_rate": 4.7e-4, "prompt_learning_rate": 4.7e-4}
    training = {
        "cifar100": {**common, "epochs": 5, "learning_rate": 2.8e-3, "prompt_learning_rate": 2.8e-3},
        "imagenet_r": {**common, **slow, "epochs": 50, "expert_length": 20},
    }
    hub = "hf:timm/vit_base_patch16_224.augreg_in21k/model.safetensors"
    return Preset("vit_base_16_224", _plain_vit(768, 12), hub=hub, training=training)


def dinov2_small_14() -> Preset:
    """DINOv2 ViT-S/14 (Oquab et al., arXiv 2304.07193): 224x224 pixels, 257 tokens, width 384, depth 12; from the hub.

    python -m keras_cbpnet.train --preset dinov2_small_14 --dataset folder:photos

    Weights: Apache-2.0, trained without labels on LVD-142M, https://github.com/facebookresearch/dinov2; 88 MB, revision
    and SHA-256 pinned. Also in facebook/dinov2-small. ImageNet mean and deviation. Layer scale is folded into the dense
    layers before it, and positions are interpolated from 518x518 pixels as timm does (image_size=518 has them as they
    are). 21,628,800 parameters; 21,601,152 here, norms and layer scale folded.
    """
    return Preset(
        "dinov2_small_14",
        _plain_vit(384, 6, **IMAGENET, patch_size=14),
        hub="hf:timm/vit_small_patch14_dinov2.lvd142m@4610ca143709d58a633b6397a74412c2c3842454/model.safetensors",
        sha256="04d27f3400d059fc0cfd7d17dd1909a75bf3ea8fb3eeb48b97cb99e57ee20081",
    )


def dinov2_small_14_reg() -> Preset:
    """DINOv2 ViT-S/14 with four registers (Darcet et al., arXiv 2309.16588): 224x224, 261 tokens; from the hub.

    python -m keras_cbpnet.train --preset dinov2_small_14_reg --dataset folder:photos

    As `dinov2_small_14`, but for the hub's newest revision, checked against the SHA-256 that the hub states. Also in
    facebook/dinov2-with-registers-small. 21,630,336 parameters; 21,602,688 here, norms and layer scale folded.
    """
    config = _plain_vit(384, 6, **IMAGENET, patch_size=14, registers=4)
    return Preset("dinov2_small_14_reg", config, hub="hf:timm/vit_small_patch14_reg4_dinov2.lvd142m/model.safetensors")


def _plain_vit(width: int, heads: int, **changes: Any) -> BackboneConfig:
    """Return a ViT of 12 blocks on 16x16 patches of 224x224 pixels, as the weights of others need it."""
    config = BackboneConfig(
        image_size=224,
        stem=(),
        patch_size=16,
        width=width,
        depth=12,
        heads=heads,
        mlp_width=4 * width,
        activation="gelu",
        mean=(0.5, 0.5, 0.5),
        deviation=(0.5, 0.5, 0.5),
    )
    return dataclasses.replace(config, **changes)


OURS = (vit_nano_32, vit_micro_32, vit_tiny_96)
HUB = (deit_tiny_16_224, deit_small_16_224, vit_small_16_224, vit_base_16_224, dinov2_small_14, dinov2_small_14_reg)
PRESETS: dict[str, Callable[[], Preset]] = {preset.__name__: preset for preset in (*OURS, *HUB)}


def default_preset(photographs: bool) -> str:
    """Return the name of the shipped backbone for photographs, or for small images such as digits."""
    return "vit_tiny_96" if photographs else "vit_nano_32"


def get_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        UserError: no such preset; the message lists the known ones.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; known presets: {', '.join(PRESETS)}")
    return PRESETS[name]()


def check_weights(preset: Preset, weights: str | os.PathLike[str] | None = None) -> None:
    """Check that there are weights for `preset`, as far as that is possible without a network, before any work.

    Args:
        preset: of the backbone.
        weights: the file to load, or its address on the hub; none for the preset's.

    Raises:
        UserError: `weights` is neither a file nor an address, huggingface_hub is needed and not installed, or none are
            given and the preset has none.
    """
    source = os.fspath(weights or preset.hub)
    if is_address(source):
        check_address(source)
    elif source and not Path(source).is_file():
        raise UserError(
            f"no weights file {source!r}; give the path of a .npz or .safetensors file, or "
            "hf:OWNER/NAME[@REVISION][/FILE] for one on the Hugging Face hub"
        )
    elif not source and not preset.weights:
        raise UserError(
            f"preset {preset.name} is shipped without weights; give weights=PATH (--weights PATH), a .npz or "
            ".safetensors file of timm, Hugging Face, Google or save_weights"
        )


def find_weights(preset: Preset, weights: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the file of the weights, fetched where it is on the hub; None for those that are shipped with `preset`.

    Raises:
        UserError: as `check_weights`, or it cannot be fetched; see `hub.fetch`.
    """
    check_weights(preset, weights)
    source = os.fspath(weights or preset.hub)
    if is_address(source):
        return fetch(source, "" if weights else preset.sha256)
    return Path(source) if source else None
