"""`info`, `selftest` and `bench`: what a bundle is, whether it computes correctly here, and how fast."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from firmware_host.bench import bench
from firmware_host.bundle import Bundle, read_bundle
from firmware_host.commands.common import Command, Output, bundle_of
from firmware_host.commands.state import state_record
from firmware_host.comparison import compare, comparison_lines, read_reference
from firmware_host.engines.find import Runtime, find_runtime, recipe_of
from firmware_host.selftest import selftest
from firmware_host.shared.arguments import path_argument
from firmware_host.shared.runtimes import RUNTIMES
from firmware_host.state import Snapshot, StateFolder, state_path
from firmware_host.terminal import without_runtime_chatter

__all__ = ["COMMANDS"]


def _info(args: argparse.Namespace) -> Iterator[Output]:
    """Yield the manifest, and what was learned since."""
    bundle = bundle_of(args)
    folder = StateFolder(state_path(bundle.path, args.state), bundle)
    learned = folder.read()
    state = None if learned is None else state_record(folder, learned)
    record = {**bundle.manifest, "taken": _taken(bundle), "changed_papers": bundle.changed_papers, "state": state}
    yield Output(record, _info_text(bundle, folder, learned))


def _selftest(args: argparse.Namespace) -> Iterator[Output]:
    """Yield whether this machine computes what the bundle was verified with."""
    bundle, runtime = bundle_of(args), find_runtime(args.runtime, args.recipe, args.depth)
    with without_runtime_chatter():
        record = selftest(bundle, runtime, args.threads)
    text = (
        f"{'ok' if record['ok'] else 'FAILED'} ({_computed_by(bundle, record)}): backbone within "
        f"{record['backbone_max_quanta']} quanta of {record['reference']} over {record['images']} images, head within "
        f"{record['head_max_error']} over {record['steps']} training steps"
    )
    if not record["prompts_equal"]:
        text += "; other prompts are chosen"
    if not record["replaced_equal"]:
        text += "; other units are reset"
    text = "\n".join([text, *_papers_lines(bundle)])
    yield Output({**record, "changed_papers": bundle.changed_papers}, text, 0 if record["ok"] else 1)


def _bench(args: argparse.Namespace) -> Iterator[Output]:
    """Yield milliseconds and memory, in the bundle's start state."""
    bundle, runtime = bundle_of(args), find_runtime(args.runtime, args.recipe, args.depth)
    others = [read_bundle(path) for path in args.against]
    reference = None if args.compare is None else read_reference(args.compare)
    with without_runtime_chatter():
        record = bench(bundle, runtime, args.threads, args.repeat, args.seed or 0, others)
    memory = "unknown" if record["peak_memory_mb"] is None else f"{record['peak_memory_mb']:.0f} MiB"
    text = (
        f"{_computed_by(bundle, record)}, {record['threads']} thread(s), median of {record['repeat']}: "
        f"predict {record['predict_ms']:.2f} ms (backbone {record['backbone_ms']:.2f} ms), "
        f"training step {record['train_ms']:.2f} ms; peak memory {memory}"
    )
    if len(record["backbones"]) > 1:
        times = ", ".join(f"{each['recipe']} {each['backbone_ms']:.2f} ms" for each in record["backbones"])
        text += f"\nbackbones: {times}; fastest here: {record['best']['recipe']} ({record['best']['bundle']})"
    if reference is not None:
        record["compared"] = compare(record, reference)
        text = "\n".join([text, *comparison_lines(record, reference, record["compared"])])
    yield Output(record, text)


def _info_text(bundle: Bundle, folder: StateFolder, learned: Snapshot | None) -> str:
    head, shapes, dtypes = bundle.head, bundle.manifest["shapes"], bundle.manifest["dtypes"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(bundle.manifest["versions"].items()))
    lines = [
        f"{bundle.name} ({bundle.recipe}), identity {bundle.identity[:12]}, schema version "
        f"{bundle.manifest['schema_version']}, made by {versions or 'unknown versions'}",
        f"classes: {len(bundle.classes)} of {bundle.slots} slots: {', '.join(bundle.classes)}",
        *_backbone_lines(bundle),
        *_input_lines(bundle),
        *(f"{name}: {dtypes[name]} {shapes[name]}" for name in ("image", "feature", "prompt")),
        f"head: {head['block']}, {head['units']} units, batch {head['batch']}, learning rate {head['learning_rate']}",
        f"continual backpropagation: decay {head['decay_rate']}, replacement rate {head['replacement_rate']}, "
        f"maturity {head['maturity_threshold']}",
        *(f"{name}: {bundle.file(name).stat().st_size:,} bytes" for name in bundle.files),
        *_papers_lines(bundle),
    ]
    if learned is None:
        lines.append(f"state: nothing learned yet in {folder.path}")
    else:
        record = state_record(folder, learned)
        new = [name for name in learned.classes if name not in bundle.classes]
        lines.append(
            f"state: {record['images']} images and {record['steps']} steps in {folder.path}; "
            f"new classes: {', '.join(new) or 'none'}"
        )
    return "\n".join(lines)


def _computed_by(bundle: Bundle, record: Mapping[str, Any]) -> str:
    return f"{record['runtime']}, {record['recipe']}" if len(bundle.backbones) > 1 else str(record["runtime"])


def _backbone_lines(bundle: Bundle) -> list[str]:
    if len(bundle.backbones) == 1:
        return []
    taken = ", ".join(f"{name} takes {recipe}" for name, recipe in _taken(bundle).items())
    return [f"backbones: {', '.join(f'{file} ({recipe})' for recipe, file in bundle.backbones.items())}; {taken}"]


def _input_lines(bundle: Bundle) -> list[str]:
    kind, channels = bundle.input
    if kind == "image":
        return []
    return [f"takes: {kind}{f', {channels} channels' if channels else ''}"]


def _taken(bundle: Bundle) -> dict[str, str]:
    """Return the recipe of the backbone that each interpreter takes."""
    found = {name: entry for name, entry in RUNTIMES.items() if entry.module is not None}
    return {name: recipe_of(bundle, Runtime(name, None, entry, entry.recipe)) for name, entry in found.items()}


def _papers_lines(bundle: Bundle) -> list[str]:
    return [f"{name} {how}; the device does not need it" for name, how in bundle.changed_papers.items()]


def _add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=50, help="repetitions of each timing")
    parser.add_argument(
        "--against",
        metavar="BUNDLE",
        type=path_argument,
        action="append",
        default=[],
        help="bundle of the same run by another recipe, whose backbone takes turns with BUNDLE's; may be repeated",
    )
    parser.add_argument(
        "--compare",
        metavar="FILE",
        type=path_argument,
        help="file of an earlier `bench --json`, of this board or another, such as one of benchmarks/reference; every "
        "number is also given as a ratio to it",
    )


COMMANDS = (
    Command("info", "manifest of the bundle, and what was learned since", _info),
    Command("selftest", "self-test: whether this machine computes what the bundle was verified with", _selftest),
    Command("bench", "times of predictions and training steps, and peak memory", _bench, _add_bench_arguments),
)
