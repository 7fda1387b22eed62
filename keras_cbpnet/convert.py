"""Convert a finished run into a bundle for the device: `keras-cbpnet convert RUN`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

from firmware_host.bundle.contract import OPTIMIZERS
from firmware_host.shared.arguments import command_line, folder_argument, path_argument
from keras_cbpnet import cli
from keras_cbpnet.api import TARGETS
from keras_cbpnet.conversion import convert_recipes
from keras_cbpnet.export.micro.packages import PACKAGES
from keras_cbpnet.export.recipes import AUTO, RECIPES, recipes_help
from keras_cbpnet.export.report import micro_line, read_report, report_lines, summary
from keras_cbpnet.lazy import callable_module

callable_module(__name__, "keras_cbpnet.api")


def build_parser(names: Mapping[str, str] = cli.MODULES) -> cli.ArgumentParser:
    """Return the command line's parser."""
    parser = cli.ArgumentParser(prog=names["convert"], description=__doc__)
    parser.add_argument("run", type=path_argument, metavar="RUN", help="run folder of keras_cbpnet.train")
    parser.add_argument(
        "--output", type=folder_argument, metavar="BUNDLE", help="bundle folder to write; default: RUN.bundle"
    )
    parser.add_argument(
        "--depth",
        type=cli.depth_list,
        default=(0,),
        metavar="N[,N,...]",
        help="first encoder blocks to use, for a smaller and faster bundle, whose head is learned again; 0: the run's; "
        "several, as 5,3: the device chooses, and one head serves all",
    )
    parser.add_argument(
        "--recipe",
        choices=(AUTO, *RECIPES),
        action="append",
        help=f"{recipes_help()}. May be repeated: of several, each bundle is a folder of BUNDLE, and the run is loaded "
        f"once (default: {AUTO})",
    )
    parser.add_argument("--target", choices=TARGETS, default=TARGETS[0], help="kind of device")
    parser.add_argument("--slots", type=int, default=0, help="class slots, for a device that ran out; 0: the run's")
    parser.add_argument(
        "--optimizer",
        choices=tuple(OPTIMIZERS),
        help="optimizer on the device, with --target micro; sgd keeps no moments (default: adam)",
    )
    parser.add_argument(
        "--package",
        choices=tuple(PACKAGES),
        help="library with an example, with --target micro, also written into a folder of that name in the bundle",
    )
    parser.add_argument(
        "--end",
        action="store_true",
        help="with --target micro, a board that sends features and takes over what an edge learns from them, and does "
        "not learn itself",
    )
    parser.add_argument(
        "--compress",
        metavar="lut:B|prune",
        help="weights in the firmware, with --target micro: lut:B, rounded to tables of 2^B values (lut:4 is half of a "
        "byte each), or prune, without the zeros of a sparse backbone; saves flash, never time",
    )
    parser.add_argument("--overwrite", action="store_true", help="permission to replace an existing bundle")
    parser.add_argument(
        "--report",
        action="store_true",
        help="analysis of the quantization, of which operators accelerators would run, and of what fewer encoder "
        "blocks would cost and save",
    )
    parser.add_argument("--json", action="store_true", help="JSON output of the report")
    return parser


def main(argv: Sequence[str] | None = None, names: Mapping[str, str] = cli.MODULES) -> int:
    """Convert, verify, write the bundle and print what came of it; `names`: how commands are started."""
    args = vars(build_parser(names).parse_args(argv))
    in_json, recipes = args.pop("json"), args.pop("recipe") or [AUTO]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with cli.progress_lines(total=0) as progress:
        made = convert_recipes(args.pop("run"), recipes, **args, progress=progress)
    reports = {bundle.path: read_report(bundle.path) for bundle in made.values()}
    if in_json:
        records = [{"output": str(path), **report} for path, report in reports.items()]
        print(json.dumps(records[0] if len(records) == 1 else {"bundles": records}))
        return 0
    for path, report in reports.items():
        print("\n".join(summary(path, report)))
        if args["report"]:
            print("\n".join(report_lines(report)))
        if args["target"] == "micro":
            print(micro_line(report["micro"], args["end"]))
    for path in reports:
        print("next:", command_line(*names["device"].split(), "selftest", path))
    return 0


if __name__ == "__main__":
    cli.hide_native_output()
    sys.exit(cli.run(main))
