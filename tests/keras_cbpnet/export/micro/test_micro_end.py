"""The end: what an edge learned, exported, taken over by the C++ of a board, and given back byte for byte."""

import shutil
import struct
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from helpers import end_board
from helpers.paths import TESTS

from firmware_host.bundle import Bundle, ClassStatistics, DeviceError
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.shared.bank import Mixture, empty_bank
from firmware_host.state import Snapshot, from_board, to_board
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.micro.bank import DIRECTIONS
from keras_cbpnet.export.micro.project import Learner, write_end
from keras_cbpnet.layers.cbp_head import CBPHead

D, H, C, KNOWN = 6, 5, 4, 3  # features as tests/firmware_host/tiny_backbone.tflite gives them
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class Edge:
    """A bundle of an end, and a device that has learned with it: head and bank in NumPy."""

    def __init__(self, folder, block="prototype", bank=True):
        self.backbone = (TESTS / "firmware_host" / "tiny_backbone.tflite").read_bytes()
        config = HeadConfig(block=block, units=H, slots=C, batch=4)
        head = CBPHead(config, "cbp", own_step=True)
        head.build((None, D))
        mean, scale = np.full(D, 0.4, np.float32), np.full(D, 0.3, np.float32)
        head.feature_mean.assign(mean)
        head.feature_scale.assign(scale)
        rng = np.random.default_rng(3)
        self.rows = np.clip(rng.normal(size=(60, D)) * 9 + 60 * (np.arange(60) % KNOWN - 1)[:, None], -128, 127)
        self.rows, label = np.rint(self.rows).astype(np.int8), np.arange(60) % KNOWN
        self.feature = (self.rows.astype(np.float32) + 128) * np.float32(1 / 255)
        start = empty_bank(C, C, D, DIRECTIONS)
        learner = Learner(head, start if bank else {}, 0.05, ["a", "b"])
        self.written = write_end(folder / "micro", self.backbone, learner, 1000)
        entry = {**config.to_dict(), "feature_mean": mean.tolist(), "feature_scale": scale.tolist()}
        if bank:
            entry["bank"] = {"slots": C, "directions": DIRECTIONS, "block_weight": 0.05}
            np.savez(folder / "statistics.npz", **{f"bank.{name}": value for name, value in start.items()})
        manifest = {
            "head": entry, "shapes": {"feature": [1, D], "image": [1, 8, 8, 3]}, "classes": ["a", "b"],
            "sha256": {"statistics.npz": ""} if bank else {},
            "micro": {"bundle": self.written.bundle, "variables": self.written.variables},
        }  # fmt: skip
        self.bundle = Bundle(folder, manifest, "")
        state = {name: np.asarray(value) for name, value in head.state.items()}
        self.start = Snapshot(state, ClassStatistics.empty(C, D), ("a", "b"), {}, bank=start if bank else None)
        trained = {name: rng.normal(size=value.shape).astype(np.float32) / 3 for name, value in state.items()}
        self.head = NumpyHead(entry, {**trained, "class_count": np.zeros(C), "class_mean": np.zeros((C, D))})
        self.head.observe(self.feature, label)
        self.head.state["age"][:] = np.arange(H) + 100
        copies = {name: value.copy() for name, value in start.items()}
        self.mixture = Mixture(copies, mean, scale, 0.05, rebinds=False) if bank else None
        if bank:
            self.mixture.bank.learn(self.feature, label)
            self.mixture.bank.renew()
        state = self.head.get_state()
        state["class_mask"] = (state["class_count"] > 0).astype(np.float32)
        self.head.set_state(state)
        statistics = ClassStatistics(state["class_mean"], state["class_count"], np.eye(D))
        arrays = self.mixture.arrays() if bank else None
        self.learned = Snapshot(state, statistics, ("a", "b", "c"), {}, bank=arrays)

    def expected(self):
        """Return logits [N, C] and probabilities [N, C]."""
        logits, probabilities = self.head.infer(self.feature)
        return logits, probabilities if self.mixture is None else self.mixture.probabilities(
            probabilities, self.feature
        )


@needs_compiler
@pytest.mark.parametrize(
    ("block", "bank"),
    [
        ("prototype", True),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("prototype", False), ("mlp", False))),
        ("residual", True),
    ],
)
def test_a_board_says_what_the_edge_says_and_gives_the_same_bytes_back(tmp_path, block, bank):
    edge = Edge(tmp_path, block, bank)
    content, (logits, probabilities) = to_board(edge.learned, edge.bundle), edge.expected()
    assert len(content) == edge.written.state_bytes
    run = end_board.build(edge.bundle.path / "micro", tmp_path)
    label, found, given = run(content, edge.rows)
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(label, probabilities.argmax(axis=1))
    assert len(set(label)) > 1
    assert given == content
    for wrong in (content[:-1], bytes([content[0] ^ 1]) + content[1:], content[:99] + b"\x07" + content[100:]):
        assert run(wrong, edge.rows)[0] == 3
    start = run(b"", edge.rows)[2]
    assert start == to_board(edge.start, edge.bundle)


@pytest.mark.parametrize("bank", [True, False])
def test_the_edge_takes_a_boards_bytes_and_exports_the_same(tmp_path, bank):
    edge = Edge(tmp_path, bank=bank)
    content = bytearray(to_board(edge.learned, edge.bundle))
    content[8:12] = struct.pack("<I", 123456789)  # random numbers of a board that learned
    read = from_board(bytes(content), edge.bundle, edge.start)
    assert read.classes == ("a", "b", "class 2")
    assert read.board == 123456789
    np.testing.assert_array_equal(read.head["age"], np.arange(H) + 100)
    assert not read.head["m_w1"].any()
    np.testing.assert_array_equal(read.head["class_mask"], [1, 1, 1, 0])
    assert to_board(read, edge.bundle) == content
    if bank:
        again = Mixture(read.bank, edge.mixture._mean, edge.mixture._scale, 0.05, rebinds=False)
        probabilities = NumpyHead(edge.bundle.head, read.head).infer(edge.feature)[1]
        np.testing.assert_allclose(again.probabilities(probabilities, edge.feature), edge.expected()[1], atol=1e-4)


def test_slots_of_the_bank_go_where_a_board_looks_for_them(tmp_path):
    edge = Edge(tmp_path)
    content, bank = to_board(edge.learned, edge.bundle), edge.learned.bank
    order = np.array([2, 0, 1, 3])  # class 0 in slot 1, class 1 in slot 2, class 2 in slot 0
    moved = {**bank, **{name: bank[name][order] for name in ("count", "mean", "rows", "factor")}}
    moved["binding"] = np.array([2, 3, 1, 0], np.int32)
    assert to_board(replace(edge.learned, bank=moved), edge.bundle) == content


def test_what_is_of_another_bundle_or_damaged_is_refused_in_a_line(tmp_path):
    edge = Edge(tmp_path)
    content = to_board(edge.learned, edge.bundle)
    other = Bundle(tmp_path, {**edge.bundle.manifest, "micro": {**edge.bundle.manifest["micro"], "bundle": 7}}, "")
    plain = Bundle(tmp_path, {key: value for key, value in edge.bundle.manifest.items() if key != "micro"}, "")
    calibrated = replace(edge.learned, camera={"offset": np.ones(D, np.float32)})
    for said, act in {
        "has 17 bytes, this bundle's have": lambda: from_board(content[:17], edge.bundle, edge.start),
        "its checksum does not hold": lambda: from_board(content[:-1] + b"\x99", edge.bundle, edge.start),
        "is 00000007: give one of a board with this bundle": lambda: from_board(content, other, edge.start),
        "convert the run with --target micro": lambda: to_board(edge.learned, plain),
        "use calibrate --reset first": lambda: to_board(calibrated, edge.bundle),
    }.items():
        with pytest.raises(DeviceError) as error:
            act()
        assert said in str(error.value)
        assert "\n" not in str(error.value)


@needs_compiler
@pytest.mark.parametrize("source", ["cbpnet.cc", "main.cc"])
def test_the_project_compiles_without_a_warning(tmp_path, source):
    edge = Edge(tmp_path)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti"]
    include = f"-I{TESTS / 'micro' / 'tflm_interfaces'}"
    file = edge.bundle.path / "micro" / source
    subprocess.run(["g++", *flags, include, "-c", str(file), "-o", str(tmp_path / "out.o")], check=True)
    assert "malloc" not in file.read_text()


def test_features_of_floats_are_not_for_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_cbpnet.export.micro.project._numbers", lambda *_: {"kFeatureQuantized": False})
    with pytest.raises(UserError, match="give --recipe int8"):
        Edge(tmp_path)
