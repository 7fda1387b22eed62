"""What a pretraining learns from, read and refused without Keras."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.importers.files import read_arrays
from keras_cbpnet.models.sizes import sizes
from keras_cbpnet.presets import get_preset
from keras_cbpnet.pretraining.images import Images, prepared
from keras_cbpnet.pretraining.log import check_arguments

__all__ = ["check_inheritance", "read_inputs", "work_folder"]

SAME = ("stem", "patch_size", "width", "depth", "heads", "registers")  # sizes that student and teacher must share


def work_folder(args: argparse.Namespace) -> Path:
    """Return the folder of checkpoint and cache."""
    return Path(args.work or args.output.with_suffix(".work"))


def read_inputs(args: argparse.Namespace) -> Images:
    """Return the images of a pretraining; refuse first what is wrong with its work folder, its weights and its data.

    Args:
        args: of `python -m keras_cbpnet.pretrain`, checked.

    Raises:
        UserError: they cannot be read, are not those that a pretraining in the work folder began with, or are too few.
    """
    work = work_folder(args)
    check_arguments(work, args)
    for weights in (args.start, args.teacher_weights):
        if weights:
            read_arrays(weights)  # whether they fit is known once there is a backbone
    config = sizes(get_preset(args.preset), args.start)
    if args.inherit:
        check_inheritance(config, get_preset(args.teacher).backbone)
    found = prepared(args, config.image_size, work)
    if len(found.train) < args.batch:
        raise UserError(f"--batch {args.batch} is more than the {len(found.train)} training images")
    return found


def check_inheritance(student: BackboneConfig, teacher: BackboneConfig) -> None:
    """Check that a student of these sizes can begin with the teacher's weights.

    Raises:
        UserError: a size differs that must not, or the student's MLPs are wider.
    """
    for name in SAME:
        mine, theirs = getattr(student, name), getattr(teacher, name)
        if mine != theirs:
            raise UserError(f"--inherit needs a teacher with the student's {name}, {mine}, got {theirs}; leave it out")
    if student.mlp_width > teacher.mlp_width:
        raise UserError(
            f"--inherit needs a teacher with an mlp_width of at least {student.mlp_width}, got {teacher.mlp_width}"
        )
