"""The folder micro/ of a bundle: its models as C arrays, their numbers as a header, and an API around both."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import BLOCKS
from firmware_host.shared.fresh import fresh_bound
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.micro.bank import DIRECTIONS, constants, exponent, state_bytes
from keras_cbpnet.export.micro.step_graph import INPUTS, OUTPUTS
from keras_cbpnet.export.tflite_file.graph import DTYPES, Model, shape_of
from keras_cbpnet.export.tflite_file.ops import op_table
from keras_cbpnet.layers.cbp_head import CBPHead

SOURCES = Path(__file__).parent / "cpp"  # what is the same for every bundle
END_SOURCES = Path(__file__).parent / "cpp_end"  # and for boards that do not learn
HEADER_BYTES = 16  # of an exported state
MOMENTS = ("m_", "v_")  # what only a board that learns keeps of each weight
CHECKSUM = 16  # digits of a backbone's that an end sends
MARGIN = 1024  # bytes on top of the arenas measured on a workstation: kernels of a board may keep more
BYTES_A_LINE = 16
NAMES = {  # resolver methods that are not the operator's name in camel case
    "ARG_MAX": "AddArgMax",
    "BATCH_MATMUL": "AddBatchMatMul",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "CUSTOM:TFLM_DECODE": "AddDecode",
}


class Learner(NamedTuple):
    """What learns on a board.

    Args:
        head: the block.
        bank: the tensors of the bank beside it, as `small_bank`; none: the block predicts alone.
        block_weight: of the block beside the bank where nothing has been judged yet.
        labels: names of the classes known, in slot order.
    """

    head: CBPHead
    bank: Mapping[str, NDArray[Any]]
    block_weight: float
    labels: list[str]

    @property
    def start(self) -> bytes:
        """The state that the bank starts with; empty where there is none."""
        return state_bytes(self.bank) if self.bank else b""


class Written(NamedTuple):
    """What a project says of itself.

    Args:
        state_bytes: kStateBytes, the size of an exported state.
        bundle: kBundle, the number by which boards know a state of theirs.
        variables: names of the head's tensors in an exported state, in order.
    """

    state_bytes: int
    bundle: int
    variables: list[str]


def write_project(
    folder: Path, backbone: bytes, head_step: bytes, learner: Learner, arena: int, kept: bytes = b""
) -> Written:
    """Write the C++ project of a board that learns into `folder`, which is made.

    Args:
        folder: where to.
        backbone: backbone.tflite.
        head_step: head_step.tflite, batch 1.
        learner: whose state the board starts with.
        arena: bytes that both models need together.
        kept: backbone.tflite as the board holds it, with compressed weights; empty: as it is.
    """
    graph = Model(head_step).root.subgraphs[0]
    sizes = _variable_bytes(Model(head_step))
    start = hashlib.sha256(backbone + head_step + learner.start)
    numbers = {
        **_numbers(backbone, learner, arena),
        **{f"kHead{_camel(name)}": index for index, name in enumerate(INPUTS)},
        **{f"kHead{_camel(name)}": index for index, name in enumerate(OUTPUTS)},
        "kHeadState": len(OUTPUTS),  # the output that is the first variable
        "kVariables": len(sizes),
        "kClassCount": list(sizes).index("class_count"),
        "kStateBytes": HEADER_BYTES + sum(sizes.values()) + len(learner.start),
    }
    lists = _list("const char* const", "kVariableNames", [json.dumps(name) for name in sizes])
    lists += _list("size_t", "kVariableBytes", [str(size) for size in sizes.values()])
    tensors = "".join(
        f"// {name}: {DTYPES[graph.tensors[int(i)].type]} {list(shape_of(graph.tensors[int(i)]))}\n"
        for name, i in zip((*INPUTS, *OUTPUTS), (*graph.inputs, *graph.outputs))
    )
    said = f"// Tensors of the head step, which has to be given all inputs before every call:\n{tensors}\n"
    arrays = {"kBackboneModel": kept or backbone, "kHeadStepModel": head_step, "kBankStart": learner.start}
    ops = {"BackboneOps": kept or backbone, "HeadOps": head_step}
    bundle = int.from_bytes(start.digest()[:4], "little")
    _write(folder, sorted(SOURCES.iterdir()), learner, numbers, bundle, said, lists, arrays, ops)
    return Written(numbers["kStateBytes"], bundle, list(sizes))


def write_end(folder: Path, backbone: bytes, learner: Learner, arena: int, kept: bytes = b"") -> Written:
    """Write the C++ project of a board that does not learn, but takes over what an edge has learned.

    Arguments as of `write_project`; the arena is that of the backbone alone. Raises UserError for features of floats.
    """
    state = {name: np.asarray(value) for name, value in learner.head.state.items()}
    state = {name: value for name, value in state.items() if name[:2] not in MOMENTS and name != "class_mask"}
    values = {name: value.astype("<f4").tobytes() for name, value in state.items()}
    offsets = dict(zip(values, np.cumsum([0, *(len(value) // 4 for value in values.values())]).tolist()))
    variables, config = b"".join(values.values()), learner.head.config
    start = hashlib.sha256(backbone + variables + learner.start)
    if not _numbers(backbone, learner, arena)["kFeatureQuantized"]:
        raise UserError("--end sends int8 features, those of this recipe are float32; give --recipe int8")
    numbers = {
        **_numbers(backbone, learner, arena),
        "kUnits": config.units,
        "kBlock": list(BLOCKS).index(config.block),
        "kLogitScale": float(config.logit_scale),
        **{
            f"k{_camel(name)}": list(values).index(name) if name in values else -1
            for name in ("w1", "b1", "w2", "b2", "w3", "b3", "class_mean", "class_count")
        },
        "kVariablesBytes": len(variables),
        "kStateBytes": HEADER_BYTES + len(variables) + len(learner.start),
    }
    lists = _list("int", "kVariableOffsets", [str(offsets[name]) for name in values])
    checksum = hashlib.sha256(backbone).hexdigest()[:CHECKSUM]
    lists += f'constexpr const char* kBackbone = "{checksum}";\n'
    arrays = {"kBackboneModel": kept or backbone, "kHeadStart": variables, "kBankStart": learner.start}
    bundle = int.from_bytes(start.digest()[:4], "little")
    sources = [*sorted(END_SOURCES.iterdir()), SOURCES / "bank.h"]
    _write(folder, sources, learner, numbers, bundle, "", lists, arrays, {"BackboneOps": kept or backbone})
    return Written(numbers["kStateBytes"], bundle, list(values))


def _write(
    folder: Path,
    sources: Sequence[Path],
    learner: Learner,
    numbers: Mapping[str, Any],
    bundle: int,
    said: str,
    lists: str,
    arrays: Mapping[str, bytes],
    ops: Mapping[str, bytes],
) -> None:
    """Write the files of a project: its sources, cbpnet_config.h, bank_constants.h, models and operators."""
    folder.mkdir()
    for source in sources:
        shutil.copyfile(source, folder / source.name)
    lines = [*(_constant(name, value) for name, value in numbers.items())]
    lines.append(f"constexpr uint32_t kBundle = 0x{bundle:08x}u;\n")
    for name, values in (("Mean", learner.head.feature_mean), ("Scale", learner.head.feature_scale)):
        lines.append(_list("float", f"kFeature{name}s", [f"{float(each):.9e}f" for each in values.numpy()]))
    names = [json.dumps(name, ensure_ascii=False) for name in learner.labels] or ['""']
    lines += [lists, _list("const char* const", "kLabels", names)]
    text = (
        f"#include <cstddef>\n#include <cstdint>\n\nnamespace cbpnet {{\n\n{said}{''.join(lines)}\n"
        "}  // namespace cbpnet\n"
    )
    (folder / "cbpnet_config.h").write_text(_header("CBPNET_CONFIG_H_", text), encoding="utf-8")
    (folder / "bank_constants.h").write_text(constants())
    (folder / "cbpnet_ops.h").write_text(_ops(ops))
    declared = "".join(
        f"extern const unsigned char {name}[];\nextern const unsigned int {name}Bytes;\n" for name in arrays
    )
    (folder / "cbpnet_models.h").write_text(_header("CBPNET_MODELS_H_", f"namespace cbpnet {{\n{declared}}}\n"))
    (folder / "cbpnet_models.cc").write_text(
        '#include "cbpnet_models.h"\n\nnamespace cbpnet {\n'
        + "".join(_array(name, content) for name, content in arrays.items())
        + "}  // namespace cbpnet\n"
    )


def _header(guard: str, body: str) -> str:
    return f"// Generated by tflite/convert.py.\n#ifndef {guard}\n#define {guard}\n\n{body}\n#endif  // {guard}\n"


def _array(name: str, content: bytes) -> str:
    lines = [
        "    " + ", ".join(f"0x{byte:02x}" for byte in content[start : start + BYTES_A_LINE]) + ",\n"
        for start in range(0, len(content), BYTES_A_LINE)
    ]
    return (
        f"alignas(16) const unsigned char {name}[] = {{\n{''.join(lines) or '    0,'}}};\n"
        f"const unsigned int {name}Bytes = {len(content)};\n"
    )


def _numbers(backbone: bytes, learner: Learner, arena: int) -> dict[str, Any]:
    """Return the constants that boards of every kind need."""
    body = Model(backbone)
    graph, signature = body.root.subgraphs[0], body.root.signatureDefs[0]
    outputs = {entry.name.decode(): int(entry.tensorIndex) for entry in signature.outputs}
    feature = graph.tensors[outputs["feature"]]
    _, height, width, _ = shape_of(graph.tensors[int(graph.inputs[0])])
    d = shape_of(feature)[-1]
    scale, zero_point = 1.0, 0
    if quantized := DTYPES[feature.type].itemsize == 1:
        scale, zero_point = float(feature.quantization.scale[0]), int(feature.quantization.zeroPoint[0])
    config = learner.head.config
    return {
        "kImageHeight": height,
        "kImageWidth": width,
        "kImageBytes": height * width * 3,
        "kFeatures": d,
        "kSlots": config.slots,
        "kClasses": len(learner.labels),
        "kFeatureQuantized": quantized,
        "kFeatureScale": scale,
        "kFeatureZeroPoint": zero_point,
        "kLearningRate": config.learning_rate,
        "kFreshLimit": fresh_bound(d),
        "kBankDirections": DIRECTIONS if learner.bank else 0,
        "kBankStateBytes": len(learner.start),
        "kBankExponent": exponent(learner.bank),
        "kBlockWeight": float(learner.block_weight),
        "kBackboneImage": 0,
        "kBackboneFeature": [int(i) for i in graph.outputs].index(outputs["feature"]),
        "kBackbonePrompt": [int(i) for i in graph.outputs].index(outputs["prompt"]),
        "kArenaBytes": arena + MARGIN,
    }


def _constant(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"constexpr bool {name} = {'true' if value else 'false'};\n"
    if isinstance(value, float):
        return f"constexpr float {name} = {value:.9e}f;\n"
    return f"constexpr {'size_t' if name.endswith('Bytes') else 'int'} {name} = {value};\n"


def _list(kind: str, name: str, values: list[str]) -> str:
    return f"constexpr {kind} {name}[] = {{{', '.join(values)}}};\n"


def _variable_bytes(model: Model) -> dict[str, int]:
    """Return the size of every variable of head_step.tflite by name, in the order of its outputs."""
    graph = model.root.subgraphs[0]
    variables = [int(i) for i in graph.outputs[len(OUTPUTS) :]]
    return {graph.tensors[i].name.decode(): model.size(graph, i) for i in variables}


def _ops(models: Mapping[str, bytes]) -> str:
    lines = [
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n\n'
        "namespace tflite {\nnamespace micro {}  // where newer versions of TFLM have their classes\n}\n\n"
        "namespace cbpnet {\n\nusing namespace tflite;\nusing namespace tflite::micro;\n"
    ]
    for kind, content in models.items():
        names = sorted({row["op"] for row in op_table(content)})
        calls = " &&\n         ".join(f"ops->{NAMES.get(name, 'Add' + _camel(name))}() == kTfLiteOk" for name in names)
        lines.append(
            f"\nusing {kind} = MicroMutableOpResolver<{len(names)}>;\n\n"
            f"inline bool Add{kind}({kind}* ops) {{\n  return {calls};\n}}\n"
        )
    return _header("CBPNET_OPS_H_", "".join(lines) + "\n}  // namespace cbpnet\n")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
