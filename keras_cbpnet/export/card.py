"""The papers of a bundle, for people who get it: README.md with the front matter of model hubs, LICENSE and NOTICE."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from firmware_host.shared.runtimes import RUNTIMES
from keras_cbpnet.boards import BOARDS, measured, obstacle
from keras_cbpnet.config import TrainConfig
from keras_cbpnet.export.apache import APACHE, APACHE_2_0
from keras_cbpnet.export.recipes import INTEGER
from keras_cbpnet.models.hub import is_address
from keras_cbpnet.presets import get_preset

OTHER = "other"  # what hubs call a licence that they do not know
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")
DEIT = (
    "DeiT-tiny (Touvron et al., arXiv 2012.12877; copyright Facebook, Inc.;\n"
    "https://github.com/facebookresearch/deit; Apache License 2.0)"
)
ORIGINS = {  # of the weights that are shipped, by preset; NOTICE of the project says the same
    "vit_tiny_96": (
        f"derives from {DEIT}:\nits MLPs were narrowed, its patch grid changed, and it was trained further, from "
        "DeiT-tiny's own outputs on\nTiny-ImageNet."
    ),
    "vit_nano_32": f"was trained by keras-cbpnet from Tiny-ImageNet and the outputs of\n{DEIT}.",
    "vit_micro_32": f"was trained by keras-cbpnet from Tiny-ImageNet and the outputs of\n{DEIT}.",
}
PICTURES = (
    "Tiny-ImageNet is a part of ImageNet, whose images were offered for research; none of them is in this bundle.\n"
)
UNKNOWN = """\
backbone.tflite was made from weights that are not keras-cbpnet's ({}).
Their licence holds for it and is not known to keras-cbpnet: put it here before you hand this bundle on.
"""
TEACH = """\
```
cbpnet selftest BUNDLE               # does this machine compute what the bundle was verified with?
cbpnet predict BUNDLE photo.jpg
cbpnet learn BUNDLE photos/          # one folder per class; a new name is a new class
cbpnet evaluate BUNDLE photos/
cbpnet state BUNDLE export FILE      # a backup of what was learned
keras-cbpnet freeze BUNDLE FOLDER    # an ordinary classifier for other programs, which no longer learns
```
"""


def source_entry(config: TrainConfig, images: int) -> dict[str, Any]:
    """Return what the manifest says under `source`: where weights and training images came from, without local paths.

    Args:
        config: of the run.
        images: that it was trained on.
    """
    kind, colon, path = config.dataset.partition(":")
    return {
        "weights": _weights(config),
        "data": f"{kind}:{PurePath(path).name}" if colon else kind,
        "images": images,
        "tasks": config.tasks - config.device_tasks,
        "method": config.method,
    }


def license_of(config: TrainConfig) -> str:
    """Return the licence of a bundle: Apache-2.0 with weights that are shipped, otherwise `other`."""
    return APACHE if _origin(config) else OTHER


def papers(manifest: Mapping[str, Any], report: Mapping[str, Any], config: TrainConfig) -> dict[str, str]:
    """Return the texts of README.md, LICENSE and NOTICE by name.

    Args:
        manifest: of the bundle, with `license` and `source`.
        report: the contents of report.json.
        config: of the run.
    """
    origin, weights = _origin(config), manifest["source"]["weights"]
    terms = APACHE_2_0 if origin else UNKNOWN.format(weights)
    notice = f"backbone.tflite {origin}\n\n{PICTURES}" if origin else f"backbone.tflite was made from {weights}.\n"
    made = f"{manifest.get('name', 'bundle')}, made with keras-cbpnet {manifest['versions']['keras_cbpnet']}\n\n"
    readme = "\n".join([*_front_matter(manifest), *_body(manifest, report)])
    return {"README.md": readme, "LICENSE": terms, "NOTICE": made + notice}


def _origin(config: TrainConfig) -> str:
    """Return what is known of a run's weights; empty for weights that are not shipped."""
    return "" if config.weights or not get_preset(config.preset).weights else ORIGINS.get(config.preset, "")


def _weights(config: TrainConfig) -> str:
    """Return a name for a run's weights."""
    given = config.weights or get_preset(config.preset).hub
    if given:
        return given if is_address(given) else PurePath(given).name
    return f"{config.preset} of keras-cbpnet"


def _front_matter(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from ("---", "library_name: keras-cbpnet", "pipeline_tag: image-classification")
    yield f"license: {manifest['license'].lower()}"
    yield "tags:"
    tags = ("tflite", "litert", "vision-transformer", "continual-learning", "on-device-learning", manifest["recipe"])
    yield from (f"- {tag}" for tag in tags)
    yield from ("metrics:", "- accuracy", "---", "")


def _body(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    head, source, classes = manifest["head"], manifest["source"], manifest["classes"]
    beside = manifest.get("backbones", {})
    others = "".join(f"; `{file}`: the same by recipe `{recipe}`" for recipe, file in beside.items())
    yield from (f"# {plain(manifest.get('name', 'Bundle'))}, {len(classes)} classes", "")
    yield (
        f"An image classifier that goes on learning on the device: a frozen vision transformer (`backbone.tflite`, "
        f"quantized by recipe `{manifest['recipe']}`{others}) and a small float head (`head.tflite`, block "
        f"`{head['block']}`, {head['units']} units) for TensorFlow Lite."
    )
    yield from ("", "## Classes", "", ", ".join(map(plain, classes)) or "none yet", "")
    spare = head["slots"] - len(classes)
    yield from (f"{spare} more can be taught on the device; `labels.txt` has the names in order.", "")
    yield from ("## Accuracy", "", *_accuracy(manifest, report), "", "## Trained on", "")
    yield f"- Images: {plain(source['data'])}, {source['images']:,} in {source['tasks']} task(s)"
    blocks = f", the first {manifest['depth']} encoder blocks" if "depth" in manifest else ""
    yield f"- Method: {source['method']}; backbone's weights: {plain(source['weights'])}{blocks} (see NOTICE)"
    yield "- Made with " + ", ".join(f"{name} {version}" for name, version in sorted(manifest["versions"].items()))
    yield from ("", "## Sizes", "", *_sizes(report), "", "## Boards", "", *_boards(manifest), "", "## Limits", "")
    yield from _limits(manifest)
    yield from ("", "## How to teach it", "", TEACH)


def _accuracy(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    runtimes = {name: value for name, value in report["accuracy"].items() if name != "float32"}
    rows = [("the trained model, float32", report["accuracy"]["float32"])]
    beside = manifest.get("backbones", {})
    for name, value in runtimes.items():
        recipe = RUNTIMES[name].recipe if RUNTIMES[name].recipe in beside else manifest["recipe"]
        rows.append((f"this bundle, {recipe}, under {name}", value))
    yield from _table(("", "accuracy"), [(what, f"{value:.1%}") for what, value in rows])
    yield from ("", f"On {report['held_out_images']} images of the same data that were not trained on.")


def _sizes(report: Mapping[str, Any]) -> Iterator[str]:
    rows = [(f"`{file}`", f"{size / 1024:,.0f} KiB") for file, size in report["bytes"].items()]
    yield from _table(("file", "size"), rows)
    yield from ("", f"{report['multiply_adds'] / 1e6:,.1f} million multiply-adds an image.")
    if "micro" in report:
        needs = {"arena of both files": "arena_bytes", "bank": "bank_bytes", "flash": "flash_bytes"}
        texts = [f"{name} {report['micro'][key] / 1024:,.0f} KiB" for name, key in needs.items()]
        yield f"On a microcontroller: {', '.join(texts)}."


def _boards(manifest: Mapping[str, Any]) -> Iterator[str]:
    row = measured().get(str(manifest.get("name", "")))
    if row is None or manifest["recipe"] != INTEGER or "depth" in manifest:
        yield "Nothing is known of how it does on boards: `cbpnet bench BUNDLE` measures it on yours."
        return
    rows = []
    for board in BOARDS.values():
        time = board.milliseconds(row)
        rows.append((board.title, "-" if time is None else f"{time:,.0f} ms", obstacle(board, row) or "suits"))
    yield from _table(("board", "an image", ""), rows)
    yield from ("", "Times are estimates from counted instructions and operations, for no board was measured.")


def _limits(manifest: Mapping[str, Any]) -> Iterator[str]:
    height, width = manifest["shapes"]["image"][1:3]
    yield f"- It sees {width} x {height} pixels, whatever the size of the photo, and one object a picture."
    yield "- It always names one of its classes; `known` in a prediction says whether the image is of any of them."
    yield "- Another camera than that of the training images can cost much accuracy: see `cbpnet calibrate`."
    yield "- A device learns from the labels that it is given, wrong ones too."
    yield "- `golden.npz` holds a few of the images that it was tested on: look at them before you publish the bundle."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)


def plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\1", text)
