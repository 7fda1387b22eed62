"""Pretrain a backbone: `python -m keras_cbpnet.pretrain --data npz:PATH --output WEIGHTS.npz`.

From labels, and with `--teacher` from another backbone's features as well. It runs on every Keras backend:
`KERAS_BACKEND=jax python -m keras_cbpnet.pretrain ...` on a GPU. A run that was killed goes on from its last epoch
when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from firmware_host.shared.arguments import data_argument, folder_argument, path_argument, seed_argument
from keras_cbpnet import cli
from keras_cbpnet.errors import UserError
from keras_cbpnet.keras_settings import use_keras
from keras_cbpnet.models.sizes import sizes
from keras_cbpnet.presets import PRESETS, check_weights, get_preset
from keras_cbpnet.pretraining.inputs import read_inputs
from keras_cbpnet.sparsity.request import FORM, parse
from keras_cbpnet.sparsity.scores import SCORES


def build_parser(names: Mapping[str, str] = cli.MODULES) -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog=names["pretrain"], description=__doc__)
    parser.add_argument("--preset", default="vit_nano_32", help="backbone to train")
    parser.add_argument(
        "--data", required=True, type=data_argument, metavar="SPEC", help="labelled images: npz:PATH, folder:PATH, ..."
    )
    parser.add_argument(
        "--output", required=True, type=path_argument, help="weights file to write (.npz); the log beside it"
    )
    parser.add_argument(
        "--work", type=folder_argument, help="folder of checkpoint and cache; default: beside the output"
    )
    parser.add_argument(
        "--start",
        type=path_argument,
        metavar="WEIGHTS",
        help="weights to begin with, a file or the name of a shipped preset; default: random ones",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=12,
        help="passes over the training images; with --start also 0: weights as they are",
    )
    parser.add_argument("--batch", type=int, default=128, help="images of a step")
    parser.add_argument(
        "--accumulate",
        type=int,
        default=1,
        metavar="N",
        help="parts of a batch that are learned from one after the other, for a step like that of the whole batch in "
        "less memory",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=2e-3, help="peak learning rate, after a tenth of the steps"
    )
    parser.add_argument("--weight-decay", type=float, default=0.05, help="weight decay of AdamW, on kernels")
    parser.add_argument("--ema", type=float, default=0.998, help="momentum of the weights' moving average")
    parser.add_argument("--label-smoothing", type=float, default=0.1, help="label smoothing of the cross-entropy")
    parser.add_argument("--label-weight", type=float, default=1.0, help="weight of the cross-entropy")
    parser.add_argument("--shift", type=int, default=4, help="largest shift of an image that is not cut, pixels")
    parser.add_argument("--area", type=float, default=1.0, help="smallest share of an image that is cut out; 1: none")
    parser.add_argument("--mixup", type=float, default=0.0, help="alpha of mixup; 0: none")
    parser.add_argument("--cutmix", type=float, default=0.0, help="alpha of CutMix; 0: none")
    parser.add_argument(
        "--mosaics", type=float, default=0.0, help="share of training images that are windows of mosaics of four"
    )
    parser.add_argument("--views", type=int, default=0, help="training images to make, whole ones and windows; 0: all")
    parser.add_argument(
        "--detail", type=int, default=0, help="pixels a side of the views that the teacher sees; 0: the student's"
    )
    parser.add_argument(
        "--exits",
        type=float,
        default=0.0,
        metavar="W",
        help="weight of the same losses after every block but the last, so that fewer blocks do well; 0: none",
    )
    parser.add_argument(
        "--layer-drop", type=float, default=0.0, metavar="P", help="probability with which a step leaves out a block"
    )
    parser.add_argument(
        "--shrink",
        metavar="SPEC",
        help=f"smaller backbone made of --start, in the form {FORM}: of every MLP that share of hidden units, of the "
        f"blocks the first N; scores: {', '.join(SCORES)}",
    )
    parser.add_argument(
        "--reparam",
        choices=("orepa",),
        help="train every 3x3 kernel of the stem as a sum of branches, which are one kernel again before int8 (OREPA, "
        "arXiv 2204.00826)",
    )
    parser.add_argument("--teacher", metavar="PRESET", help="backbone to learn from; its outputs are computed once")
    parser.add_argument("--teacher-weights", type=path_argument, help="weights file of the teacher")
    parser.add_argument(
        "--inherit",
        action="store_true",
        help="start from the teacher's blocks, with narrower MLPs; not together with --start",
    )
    parser.add_argument(
        "--feature-weight", type=float, default=1.0, help="weight of the error to the teacher's feature"
    )
    parser.add_argument("--patch-weight", type=float, default=1.0, help="weight of the error to the teacher's patches")
    parser.add_argument(
        "--relation-weight",
        type=float,
        default=0.0,
        help="weight of the divergence from the attention relations of the teacher's last block (MiniLMv2); the "
        "teacher then runs in every step, and must see the same tokens",
    )
    parser.add_argument(
        "--qat-epochs", type=int, default=1, help="further epochs, with int8 quantizers (TensorFlow only)"
    )
    parser.add_argument(
        "--shrinkage", type=float, default=0.5, help="shrinkage of the covariance of the whitening transform"
    )
    parser.add_argument(
        "--depths",
        type=cli.depth_list,
        default=(),
        metavar="N,N,...",
        help="numbers of blocks, fewer than all, whose features get a whitening transform of their own in the file, "
        "for --depth N of train and convert; 0: none",
    )
    parser.add_argument("--seed", type=seed_argument, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--overwrite", action="store_true", help="permission to replace an existing weights file")
    parser.add_argument("--json", action="store_true", help="JSON output of the result")
    return parser


def start_of(args: argparse.Namespace) -> Path | None:
    """Return the file of the weights to begin with, that of a preset where --start names one.

    Raises:
        UserError: the preset is another one, or is shipped without weights.
    """
    name = str(args.start or "")
    if name not in PRESETS or args.start.exists():
        return args.start  # type: ignore[no-any-return]
    if name != args.preset:
        raise UserError(f"--start {name} are weights of another preset; give --preset {name} too")
    if not get_preset(name).weights:
        raise UserError(f"--start {name}: that preset is shipped without weights; give their file")
    return Path(str(resources.files("keras_cbpnet") / "weights" / get_preset(name).weights))


def check(args: argparse.Namespace) -> None:
    """Refuse invalid arguments.

    Raises:
        UserError: one line about the first of them.
    """
    if args.output.suffix != ".npz":
        raise UserError(f"--output {args.output} must end in .npz")
    if args.output.exists() and not args.overwrite:
        raise UserError(f"{args.output} exists; choose another --output or give --overwrite")
    for name, least in (("epochs", 0 if args.start else 1), ("batch", 1), ("accumulate", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    if args.batch % args.accumulate:
        raise UserError(f"--accumulate must divide --batch {args.batch}, got {args.accumulate}")
    preset = get_preset(args.preset)
    args.start = start_of(args)
    if args.start:
        check_weights(preset, args.start)
    if args.shrink and not args.start:
        raise UserError(f"--shrink {args.shrink} needs --start, the weights that are made smaller")
    if args.reparam and (args.start or args.inherit):
        raise UserError(f"--reparam {args.reparam} begins with random weights; leave --start and --inherit out")
    if args.reparam and not preset.backbone.stem:
        raise UserError(f"--reparam {args.reparam} is for a stem of convolutions, which {preset.name} does not have")
    whole = sizes(preset, args.start).depth
    if args.shrink and (kept := parse(args.shrink).depth):
        if kept > whole:
            raise UserError(f"--shrink {args.shrink}: there are {whole} blocks")
        whole = kept
    args.depths = () if args.depths == (0,) else tuple(sorted(args.depths))
    if args.depths and not preset.backbone.whitening:
        raise UserError(f"--depths is for backbones that whiten their features, which {preset.name} does not")
    if args.depths and args.depths[-1] >= whole:
        raise UserError(f"--depths must be below {whole}, the blocks that there are; got {args.depths[-1]}")
    for name in (
        "mixup",
        "cutmix",
        "shift",
        "label_weight",
        "feature_weight",
        "patch_weight",
        "relation_weight",
        "weight_decay",
        "qat_epochs",
        "views",
        "detail",
    ):
        if not 0 <= getattr(args, name) < math.inf:  # NaN is refused as well
            raise UserError(f"--{name.replace('_', '-')} must be a number from 0 on, got {getattr(args, name)}")
    if not 0 < args.learning_rate < math.inf:
        raise UserError(f"--learning-rate must be a positive number, got {args.learning_rate}")
    if not 0 < args.area <= 1:
        raise UserError(f"--area must be above 0 and at most 1, got {args.area}")
    for name in ("ema", "label_smoothing", "shrinkage", "exits", "layer_drop"):
        if not 0 <= getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be in 0..1, got {getattr(args, name)}")
    if not 0 <= args.mosaics <= 1:
        raise UserError(f"--mosaics must be in 0..1, got {args.mosaics}")
    if args.detail and not (args.teacher and (args.views or args.mosaics)):
        raise UserError(
            "--detail is of views that a teacher sees: give --teacher and --views or --mosaics, or leave it out"
        )
    if args.detail and args.detail < get_preset(args.preset).backbone.image_size:
        size = get_preset(args.preset).backbone.image_size
        raise UserError(f"--detail {args.detail} is less than the {size} pixels that the student sees; give more, or 0")
    if args.inherit and (args.start or not args.teacher):
        raise UserError("--inherit needs --teacher, whose weights it begins with, and no --start")
    if not args.label_weight and not (args.teacher and (args.feature_weight or args.patch_weight)):
        raise UserError("nothing to learn: give --label-weight, or --teacher with --feature-weight or --patch-weight")
    if args.relation_weight and not args.teacher:
        raise UserError(f"--relation-weight {args.relation_weight} needs --teacher, whose relations they are")
    if args.teacher_weights and not args.teacher:
        raise UserError("--teacher-weights needs --teacher, the preset that they belong to")
    if args.teacher:
        check_weights(get_preset(args.teacher), args.teacher_weights)


def main(argv: Sequence[str] | None = None, names: Mapping[str, str] = cli.MODULES) -> int:
    """Train, resuming from the work folder's checkpoint if there is one, and write the weights."""
    args = build_parser(names).parse_args(argv)
    check(args)
    data = read_inputs(args)
    use_keras()
    from keras_cbpnet.pretraining.course import pretrain

    result = pretrain(args, data)
    last = result["epochs"][-1] if result["epochs"] else {}
    found = ", ".join(f"{name} {last[name]:.3f}" for name in ("accuracy", "agreement") if name in last)
    text = f"{args.output}: " + (f"{found} on the held-out images" if found else "written")
    print(json.dumps(result) if args.json else text)
    return 0


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
