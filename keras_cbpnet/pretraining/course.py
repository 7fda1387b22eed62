"""The pretraining of a backbone, from data to weights file; one linear file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.data import open_dataset
from keras_cbpnet.data.record import RECORD
from keras_cbpnet.errors import UserError
from keras_cbpnet.locks import locked
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.calibration import calibrate
from keras_cbpnet.models.sizes import sizes
from keras_cbpnet.models.weights import copy_weights, load_preset_weights, merge, save_weights
from keras_cbpnet.presets import get_preset
from keras_cbpnet.pretraining.augmentation import AugmentedImages
from keras_cbpnet.pretraining.distillation import Pupil, early_whitening, teacher_tokens, whiten
from keras_cbpnet.pretraining.epochs import Course, say
from keras_cbpnet.pretraining.images import Images
from keras_cbpnet.pretraining.inherit import inherit
from keras_cbpnet.pretraining.inputs import work_folder
from keras_cbpnet.pretraining.log import Log
from keras_cbpnet.pretraining.relations import relations_of
from keras_cbpnet.pretraining.workers import Workers
from keras_cbpnet.seeds import folded
from keras_cbpnet.sparsity.request import parse
from keras_cbpnet.sparsity.shrink import shrink
from keras_cbpnet.training.features.cache import fingerprint
from keras_cbpnet.training.run import write_json

QAT_RATE = 0.2  # of the learning rate, with quantizers in the loop
CUT_CELLS = 2  # of the teacher's patches, kept for each of the student's in either direction, to cut from
CALIBRATION = 512  # images that set the quantizers' first ranges
WHITENING = 20_000  # images whose covariance whitens
JUDGED = 8000  # images by which hidden units are judged
INHERITANCE = 240  # images on which the teacher's hidden units are watched
OUTPUT_IMAGES = 2000  # that the outputs of weights to start with are fitted to
HELD_OUT = 1000  # images on which teacher and student are compared


def pretrain(args: argparse.Namespace, data: Images) -> dict[str, Any]:
    """Train as the command line says, write the weights and the log, and return the log.

    Args:
        args: of `python -m keras_cbpnet.pretrain`, checked.
        data: what `inputs.read_inputs` gives for them.
    """
    if args.qat_epochs and keras.backend.backend() != "tensorflow":
        raise UserError(f"--qat-epochs needs KERAS_BACKEND=tensorflow, not {keras.backend.backend()}; give 0 here")
    if args.shrink and keras.backend.backend() != "tensorflow":
        raise UserError(f"--shrink needs KERAS_BACKEND=tensorflow, not {keras.backend.backend()}")
    work = work_folder(args)
    workers = Workers(args.batch, args.accumulate)
    if workers.index:  # it shares the teacher's outputs and the checkpoint alone
        args.output = work / f"worker-{workers.index}" / args.output.name
    own = args.output.parent if workers.index else work
    log = Log(args.output.with_suffix(".json"), own, args)
    message = f"{own} is in use by another pretraining; wait until that has ended, or choose another --work"
    with locked(own, message):
        write_json(own / RECORD, data.record)
        follow(args, sizes(get_preset(args.preset), args.start), data, work, log, workers)
    return log.contents


def follow(
    args: argparse.Namespace, config: BackboneConfig, data: Images, work: Path, log: Log, workers: Workers
) -> None:
    """Train in the work folder and write the weights; see `pretrain`."""
    keras.utils.set_random_seed(folded(args.seed))
    backbone = Backbone(config, name="backbone")
    backbone.build()
    some = np.random.default_rng(args.seed).permutation(len(data.train))
    grid = round((backbone.embedding.tokens - 1 - config.registers) ** 0.5)
    targets, relations = {}, None
    if args.teacher:
        teacher = Backbone.from_preset(args.teacher, args.teacher_weights)
        finer = grid * (1 if args.area == 1 else CUT_CELLS)
        for part, images in (("train", data.seen), ("test", data.seen_test[:HELD_OUT])):
            file = work / ("teacher.npy" if part == "train" else "teacher_test.npy")
            targets[part] = taught(args.teacher, teacher, images, finer, file)
        if args.inherit:
            inherit(backbone, teacher, data.train[some[:INHERITANCE]])
        if args.relation_weight:
            relations = args.relation_weight, relations_of(teacher, backbone)
        del teacher
    if args.start:
        load_preset_weights(backbone, get_preset(args.preset), args.start)
    whole = open_dataset(args.data, config.image_size)
    seen = np.random.default_rng(args.seed).permutation(len(whole.y_train))[:WHITENING]
    if args.shrink:
        few = seen[:JUDGED]
        rng = np.random.default_rng(args.seed)
        backbone = shrink(backbone, parse(args.shrink), whole.images("train", few), whole.y_train[few], rng)
        config = backbone.config
        say(f"--shrink {args.shrink}: {backbone.count_params():,} parameters are left")
    batches = AugmentedImages(
        data.train, data.shares, args.batch, args.seed, args.shift, args.mixup, args.cutmix, targets.get("train"), grid,
        args.area,
    )  # fmt: skip
    weights = {"label": args.label_weight, "feature": args.feature_weight, "patches": args.patch_weight}
    weights = {name: weight for name, weight in weights.items() if weight and (args.teacher or name == "label")}
    outputs = {name: data.shares.shape[1] if name == "label" else targets["train"].shape[-1] for name in weights}

    def pupil_of(body: Backbone) -> Pupil:
        drop, seed = args.layer_drop, folded(args.seed)
        pupil = Pupil(body, outputs, weights, args.label_smoothing, args.exits, drop, seed, relations)
        pupil.build()
        return pupil

    branched = bool(args.reparam)
    pupil, shared = pupil_of(Backbone(config, branched=True, name="backbone") if branched else backbone), None
    if workers.shared:
        with workers.sharing():
            shared = pupil_of(Backbone(config, branched=branched, name="backbone"))
    if (args.start or args.inherit) and args.epochs + args.qat_epochs:
        pupil.fit_outputs(*batches.plain(some[:OUTPUT_IMAGES]))
    course = Course(args, data, batches, work, log, targets.get("test"), workers)
    if args.epochs:
        course.run(pupil, "backup", 0, args.epochs, args.learning_rate, shared)
    if branched:
        trained, pupil = pupil, pupil_of(backbone)
        merge(trained, pupil)
    if args.qat_epochs:
        quantized = pupil_of(Backbone(config, quantized=True, name="backbone"))
        raise_class_token(backbone, data.train[some[:CALIBRATION]])
        copy_weights(pupil, quantized)
        calibrate(quantized, quantized, data.train[some[:CALIBRATION]])
        last = args.epochs + args.qat_epochs
        course.run(quantized, "backup_qat", args.epochs, last, args.learning_rate * QAT_RATE)
        copy_weights(quantized, pupil)
    early = {}
    if config.whitening:
        images, labels = whole.images("train", seen), whole.y_train[seen]
        if args.epochs or args.qat_epochs or args.shrink:  # else the weights to start with are whitened already
            whiten(backbone, images, labels, args.shrinkage)
        early = early_whitening(backbone, args.depths, images, labels, args.shrinkage)
    save_weights(backbone, args.output, early, get_preset(args.preset).backbone)
    log.write(parameters=backbone.count_params())


def raise_class_token(backbone: Backbone, images: np.ndarray) -> None:
    """Scale the class token up to the length of the patches that it shares an int8 tensor with.

    Layer normalization sees no difference; the little that changes is learned again with quantizers in the loop.
    """
    tokens = np.asarray(backbone.embed(images))  # (N, 1 + patches, d)
    first, rest = (np.sqrt(np.mean(np.square(part))) for part in (tokens[:, :1], tokens[:, 1:]))
    if first < rest / 2:
        token, position = (np.asarray(v) for v in (backbone.embedding.class_token, backbone.embedding.position))
        backbone.embedding.class_token.assign(token + (rest / 2 / first - 1) * (token + position[:, :1]))


def taught(name: str, teacher: Backbone, images: NDArray[np.uint8], grid: int, file: Path) -> NDArray[np.float16]:
    """Return `teacher_tokens` of the preset `name` on `images`, computed once into `file`."""
    variables = b"".join(np.asarray(v).tobytes() for v in teacher.weights)
    identity = fingerprint(name, variables, np.ascontiguousarray(images).data, str(grid))
    return teacher_tokens(teacher, images, grid, file, identity, say)
