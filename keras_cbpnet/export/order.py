"""What kind of bundle is wanted, and the files that are made for it."""

# Dimensions: N held-out images, H x W pixels, d feature size.

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_host.shared.runtimes import RUNTIMES
from keras_cbpnet.export.backbone import computed_by
from keras_cbpnet.export.early import Early, signature_of
from keras_cbpnet.export.micro.bank import predictor
from keras_cbpnet.export.micro.compression import Compression
from keras_cbpnet.export.recipes import RECIPES
from keras_cbpnet.export.tflite_file.several import with_signatures
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.layers.fake_quant import float32
from keras_cbpnet.layers.mixed_head import MixedHead
from keras_cbpnet.methods.method import block_head
from keras_cbpnet.models.prompted_classifier import PromptedClassifier


class Order(NamedTuple):
    """What kind of bundle is wanted.

    Args:
        recipes: names in `RECIPES`: of backbone.tflite, and of other forms of the backbone beside it.
        target: `linux`, or `micro`, which adds what a microcontroller needs.
        slots: class slots of the head, for a device that ran out of them; 0: the run's.
        optimizer: of the learning on the device, `adam` or `sgd`.
        package: also written, for target `micro`: a name in `keras_cbpnet.export.micro.packages.PACKAGES`; None: none.
        end: for target `micro`, whether the board takes over what an edge learns instead of learning itself.
        compress: how the firmware keeps the backbone's weights, for target `micro`; None: as they are.
    """

    recipes: tuple[str, ...]
    target: str = "linux"
    slots: int = 0
    optimizer: str = "adam"
    package: str | None = None
    early: tuple[int, ...] = ()
    end: bool = False
    compress: Compression | None = None

    def predicts(self, model: PromptedClassifier, learner: CBPHead) -> Any:
        """Return what predicts as a device does: the model's head, or with its block `learner` the smaller bank."""
        head = block_head(model)
        return predictor(head, learner) if self.target == "micro" and isinstance(head, MixedHead) else head

    @property
    def recipe(self) -> str:
        """Recipe of backbone.tflite."""
        return self.recipes[0]

    @property
    def rounds_activations(self) -> bool:
        """Whether activations of the backbone are int8, by ranges that the model knows."""
        return RECIPES[self.recipe].quantized_activations

    @contextlib.contextmanager
    def rounding(self, model: PromptedClassifier) -> Iterator[None]:
        """Within this context `model` computes as the recipe takes it: through its fake quantizers, or not."""
        plain = contextlib.nullcontext() if self.rounds_activations else float32(model)
        with plain, computed_by(self.recipe, model.backbone):
            yield


class Form(NamedTuple):
    """A file of the backbone.

    Args:
        file: its name.
        recipe: that it was made by.
        content: of the file, with all blocks alone.
        expected: the model's features of the held-out images, [N, d], as the recipe takes it.
        early: the same with the first blocks alone.
    """

    file: str
    recipe: str
    content: bytes
    expected: NDArray[np.float32]
    early: tuple[Early, ...] = ()

    @property
    def written(self) -> bytes:
        """The file with a signature for each number of blocks."""
        others = {signature_of(early.depth): early.content for early in self.early}
        return with_signatures(self.content, others) if others else self.content


class Converted(NamedTuple):
    """The files, and the images that they are judged by.

    Args:
        order: what they were made for.
        forms: of the backbone, backbone.tflite first.
        head: head.tflite.
        learner: the head as a layer, in the state that is shipped.
        multiply_adds: of the backbone, an image.
        representative: training images, uint8 [M, H, W, 3].
        images: held out, uint8 [N, H, W, 3].
        labels: their slots, int32 [N].
        plain: the model's features of them in float32, [N, d].
    """

    order: Order
    forms: tuple[Form, ...]
    head: bytes
    learner: CBPHead
    multiply_adds: int
    representative: NDArray[np.uint8]
    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    plain: NDArray[np.float32]

    @property
    def backbone(self) -> bytes:
        """backbone.tflite."""
        return self.forms[0].content

    def taken(self, runtime: str) -> Form:
        """Return the form that a runtime takes."""
        preferred = RUNTIMES[runtime].recipe
        return next((form for form in self.forms if form.recipe == preferred), self.forms[0])
