"""What pretraining adds to a backbone: outputs learned from labels and a teacher, and the whitening of its features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_cbpnet.data.preprocessing import resize_images
from keras_cbpnet.head.standardise import whitening
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.pretraining.relations import queries_keys_values, relation_loss
from keras_cbpnet.training.features.cache import computed_once

# Dimensions: B images of a batch, N images, H x W pixels, K classes, G x G patches, D feature size of the teacher.
RIDGE = 1e-3  # share of the mean variance that is added to every direction
CLIP = 5.0  # standard deviations at which a teacher's output is cut


def encoded(backbone: Backbone, images: Any, training: bool = False) -> Any:
    """Return every token but registers after the last norm, [B, 1 + patches, d], of raw RGB images [B, H, W, 3]."""
    return tokens_after(backbone, images, training)[-1]


def tokens_after(
    backbone: Backbone,
    images: Any,
    training: bool = False,
    early: bool = False,
    keep: Sequence[Any] | None = None,
    given: list[Any] | None = None,
) -> list[Any]:
    """Return the tokens but registers as the last norm gives them, [B, 1 + patches, d]: after all blocks, the last.

    Args:
        backbone: built.
        images: raw RGB [B, H, W, 3].
        training: whether fake quantizers follow the ranges they see.
        early: whether those after each block but the last are wanted too, in order before it.
        keep: factor of what each block adds to the tokens; None: 1.
        given: takes the inputs of each block, [B, N, d].
    """
    x, found = backbone.embed(images, training=training), []
    for number, block in enumerate(backbone.blocks, 1):
        if given is not None:
            given.append(x)
        added = block(x, training=training)
        x = added if keep is None else x + keep[number - 1] * (added - x)
        if early or number == len(backbone.blocks):
            registers = backbone.config.registers
            shown = ops.concatenate([x[:, :1], x[:, 1 + registers :]], axis=1) if registers else x
            found.append(backbone.norm(shown, training=training))
    return found


class Pupil(keras.Model):
    """A backbone with the outputs it is pretrained by: classes, the teacher's feature, the teacher's patches.

    Args:
        backbone: trained; its whitening, if it has one, is left alone.
        sizes: of the outputs, some of `label` (K), `feature` (D) and `patches` (D).
        weights: of their losses.
        label_smoothing: of the cross-entropy.
        exits: weight of the same losses after each block but the last, through the same norm and outputs, against that
            of the last: (1 - exits) last + exits mean(others) (Lee and Watanabe, arXiv 2102.03216).
        layer_drop: probability with which a step leaves out a block (Huang et al., arXiv 1603.09382); what the others
            add is divided by 1 - layer_drop.
        seed: of which blocks are left out.
        relations: weight of the divergence from the teacher's attention relations, and what gives those of raw images.
    """

    def __init__(
        self,
        backbone: Backbone,
        sizes: Mapping[str, int],
        weights: Mapping[str, float],
        label_smoothing: float = 0.1,
        exits: float = 0.0,
        layer_drop: float = 0.0,
        seed: int = 0,
        relations: tuple[float, Callable[[Any], Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.loss_weights = dict(weights)
        self.label_smoothing = label_smoothing
        self.exits, self.layer_drop, self.relations = exits, layer_drop, relations
        if layer_drop:
            self.draws = keras.random.SeedGenerator(seed)
            self.drawn = self.draws.state  # one of the weights, so that a checkpoint holds it
        self.outputs_by_name = {name: keras.layers.Dense(size, name=name) for name, size in sizes.items()}

    def build(self, input_shape: Any = None) -> None:
        if not self.backbone.built:
            self.backbone.build()
        for layer in self.outputs_by_name.values():
            layer.build((None, self.backbone.config.width))
        self.built = True

    def fit_outputs(self, images: NDArray[np.float32], targets: Mapping[str, NDArray[np.float32]]) -> None:
        """Set every output layer to the ridge regression of its targets on what the backbone gives for `images`.

        A backbone that is good already would lose much to the first gradients of outputs that are not.

        Args:
            images: float32 [N, H, W, 3], raw RGB.
            targets: by output, [N, size] or, of `patches`, [N, G * G, size].
        """
        parts = [encoded(self.backbone, images[i : i + 64]) for i in range(0, len(images), 64)]
        tokens = np.concatenate([ops.convert_to_numpy(part) for part in parts]).astype(np.float64)  # (N, 1 + G * G, d)
        for name, layer in self.outputs_by_name.items():
            x = tokens[:, 1:] if name == "patches" else tokens[:, 0]
            x, y = x.reshape(-1, x.shape[-1]), targets[name].reshape(-1, targets[name].shape[-1])
            middle, level = x.mean(axis=0), y.mean(axis=0)
            gram = (x - middle).T @ (x - middle)
            gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
            kernel = np.linalg.solve(gram, (x - middle).T @ (y - level))  # (d, size)
            layer.set_weights([kernel, level - middle @ kernel])

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        """Return what there is of `label` [B, K], `feature` [B, D], `patches` [B, G * G, D], of raw RGB images.

        In training with exits, those after each earlier block come too, their names followed by the number of blocks.
        """
        keep, depth = None, len(self.backbone.blocks)
        if training and self.layer_drop:
            drawn = keras.random.uniform((depth,), seed=self.draws)
            keep = ops.cast(drawn >= self.layer_drop, "float32") / (1 - self.layer_drop)  # (depth,)
        given: list[Any] = []
        every = tokens_after(self.backbone, images, training, training and bool(self.exits), keep, given)
        found = {}
        for number, x in zip(range(depth - len(every) + 1, depth + 1), every, strict=True):
            for name, layer in self.outputs_by_name.items():
                key = name if number == depth else f"{name}{number}"
                found[key] = layer(x[:, 1:] if name == "patches" else x[:, 0])
        if training and self.relations is not None:
            found["relation"] = queries_keys_values(self.backbone.blocks[-1], given[-1], training)
        return found

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the weighted sum of cross-entropy and of the errors to the teacher's outputs and relations."""
        last = self._loss(y, y_pred, "")
        if self.relations is not None:
            weight, teacher = self.relations
            last = last + weight * relation_loss(y_pred["relation"], teacher(x))
        first = next(iter(self.loss_weights), None)
        early = [str(n) for n in range(1, len(self.backbone.blocks)) if f"{first}{n}" in y_pred]
        if not early:
            return last
        return (1 - self.exits) * last + self.exits / len(early) * sum(self._loss(y, y_pred, end) for end in early)

    def _loss(self, y: Any, y_pred: Any, end: str) -> Any:
        """Return the loss of the outputs whose names end in `end`."""
        total = 0.0
        for name, weight in self.loss_weights.items():
            found = y_pred[name + end]
            if name == "label":
                classes = y[name].shape[-1]
                target = y[name] * (1 - self.label_smoothing) + self.label_smoothing / classes
                loss = ops.mean(keras.losses.categorical_crossentropy(target, found, from_logits=True))
            else:
                loss = ops.mean(ops.square(found - ops.clip(y[name], -CLIP, CLIP)))
            total = total + weight * loss
        return total


class Teacher(keras.Model):
    """The class token and the patches of a backbone, these averaged to G x G.

    Args:
        backbone: with its weights.
        grid: G.
    """

    def __init__(self, backbone: Backbone, grid: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.grid = grid

    def call(self, images: Any) -> Any:
        """Return float32 [B, 1 + G * G, D] of raw RGB images [B, H, W, 3]."""
        x = encoded(self.backbone, images)
        side, width = round((x.shape[1] - 1) ** 0.5), x.shape[-1]
        patches = ops.reshape(x[:, 1:], (-1, side, side, width))
        patches = ops.image.resize(patches, (self.grid, self.grid), antialias=True, data_format="channels_last")
        return ops.concatenate([x[:, :1], ops.reshape(patches, (-1, self.grid**2, width))], axis=1)


def teacher_tokens(
    teacher: Backbone,
    images: NDArray[np.uint8],
    grid: int,
    file: Path,
    identity: str,
    show: Callable[[str], None],
    batch: int = 40,
) -> NDArray[np.float16]:
    """Return the teacher's class token and patches, averaged to `grid` x `grid`, float16 [N, 1 + G * G, D].

    They are computed once, into `file` (.npy, mapped into memory), and a computation that was killed goes on.

    Args:
        teacher: with its weights.
        images: uint8 [N, H, W, 3] of any size.
        grid: G.
        file: to write or to read.
        identity: of teacher and images; a file of another identity is computed again.
        show: takes a line of progress, one for each tenth.
        batch: images of one forward pass.
    """
    model = Teacher(teacher, grid)

    def compute(start: int, end: int) -> NDArray[np.float16]:
        part = resize_images(images[start:end], teacher.config.image_size).astype(np.float32)
        return model.predict(part, batch_size=batch, verbose=0)

    shape = (len(images), 1 + grid * grid, teacher.config.width)
    return computed_once(file, identity, shape, np.float16, compute, lambda line: show(f"teacher: {line}"))


def whiten(backbone: Backbone, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]], shrinkage: float) -> None:
    """Set the backbone's last layer so that its features have mean 0 and within-class covariance 1; see `whitening`.

    Args:
        backbone: with `whitening` in its configuration.
        images: uint8 [N, H, W, 3], of the pretraining.
        labels: [N].
        shrinkage: of the covariance, share of the identity, 0..1.
    """
    backbone.set_whitening()
    parts = [ops.convert_to_numpy(backbone.features(images[i : i + 250])) for i in range(0, len(images), 250)]
    mean, matrix = whitening(np.concatenate(parts), labels, shrinkage)
    backbone.set_whitening(matrix, -mean @ matrix)


def early_whitening(
    backbone: Backbone,
    depths: Sequence[int],
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    shrinkage: float,
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return kernel [D, D] and bias [D] that whiten the features after each of `depths` blocks; arguments as `whiten`.

    Such a feature is the class token after so many blocks as the last norm gives it.
    """
    if not depths:
        return {}
    parts = [_early_features(backbone, depths, images[i : i + 250]) for i in range(0, len(images), 250)]
    found = {}
    for depth, features in zip(depths, np.concatenate(parts, axis=1), strict=True):
        mean, matrix = whitening(features, labels, shrinkage)
        found[depth] = (matrix, -mean @ matrix)
    return found


def _early_features(backbone: Backbone, depths: Sequence[int], images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features after each of `depths` blocks, in order, [len(depths), N, D], from one pass."""
    x, found = backbone.embed(images), []
    for number, block in enumerate(backbone.blocks[: max(depths)], 1):
        x = block(x)
        if number in depths:
            found.append(ops.convert_to_numpy(backbone.norm(x[:, 0])))
    return np.stack(found)
