"""The C++ API of a microcontroller, with a stand-in for TFLM, against the same block and bank in NumPy."""

import shutil
import subprocess

import numpy as np
import pytest
from helpers.paths import TESTS

from firmware_host.shared.bank import Mixture, empty_bank
from keras_cbpnet.export.micro.bank import DIRECTIONS, constants, state_bytes
from keras_cbpnet.export.micro.project import SOURCES

D, K, KNOWN, PIXELS = 20, 6, 3, 48
EXPONENT = 0.7
OK, BAD_ARGUMENT, BAD_STATE = 0, 4, 5
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
WARNINGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti")
CONFIG = f"""#include <cstddef>
#include <cstdint>
namespace cbpnet {{
constexpr size_t kImageBytes = {PIXELS}, kArenaBytes = 64, kStateBytes = 16 + {4 * K} + BANK_BYTES;
constexpr size_t kBankStateBytes = BANK_BYTES, kVariableBytes[] = {{{4 * K}}};
constexpr int kFeatures = {D}, kSlots = {K}, kFeatureZeroPoint = 0, kBankDirections = BANK_DIRECTIONS;
constexpr bool kFeatureQuantized = false;
constexpr float kFeatureScale = 1.0f, kLearningRate = 0.01f, kFreshLimit = 0.5f;
constexpr float kBlockWeight = BLOCK_WEIGHT, kBankExponent = {EXPONENT}f;
constexpr int kBackboneImage = 0, kBackboneFeature = 0, kHeadFeature = 0, kHeadLabel = 1, kHeadClassMask = 2;
constexpr int kHeadLearningRate = 3, kHeadFresh = 4, kHeadObserve = 5, kHeadLoss = 0, kHeadLogits = 1;
constexpr int kHeadReplaced = 2, kHeadState = 3, kVariables = 1, kClassCount = 0;
constexpr uint32_t kBundle = 7;
constexpr float kFeatureMeans[] = {{MEANS}}, kFeatureScales[] = {{SCALES}};
}}
"""
OPS = """#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
namespace tflite { namespace micro {} }
namespace cbpnet {
using namespace tflite;
using BackboneOps = MicroMutableOpResolver<1>;
using HeadOps = MicroMutableOpResolver<2>;
inline bool AddBackboneOps(BackboneOps*) { return true; }
inline bool AddHeadOps(HeadOps*) { return true; }
}
"""


def listed(values):
    return ", ".join(str(value) for value in values)


def built(folder, arrays, mean, scale, weight):
    """Compile the project of a head with a bank of `arrays`, or without one; return the program."""
    state = state_bytes(arrays) if arrays else b""
    words = {"BANK_BYTES": len(state), "BANK_DIRECTIONS": DIRECTIONS if arrays else 0, "BLOCK_WEIGHT": f"{weight}f"}
    words.update(MEANS=listed(f"{x:.9e}f" for x in mean), SCALES=listed(f"{x:.9e}f" for x in scale))
    config = CONFIG
    for name, value in words.items():
        config = config.replace(name, str(value))
    often = constants().replace("kBankGrowth = 1.02f", "kBankGrowth = 0.0f")  # the metric is renewed every time
    models = "extern const unsigned char kBackboneModel[], kHeadStepModel[], kBankStart[];"
    files = {
        "cbpnet_config.h": config,
        "cbpnet_ops.h": OPS,
        "bank_constants.h": often,
        "cbpnet_models.h": f"namespace cbpnet {{ {models} }}\n",
        "start.cc": f'#include "cbpnet_models.h"\nalignas(16) const unsigned char cbpnet::kBankStart[] = '
        f"{{{listed(state or [0])}}};\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    counts = listed([30] * KNOWN + [0] * (K - KNOWN))
    sources = [SOURCES / "cbpnet.cc", TESTS / "micro" / "stand_in" / "stand_in.cc", folder / "start.cc"]
    includes = [f"-I{folder}", f"-I{SOURCES}", f"-I{TESTS / 'micro' / 'tflm_interfaces'}"]
    command = ["g++", *WARNINGS, f"-DSTAND_IN_COUNTS={{{counts}}}", *includes, *map(str, sources)]
    subprocess.run([*command, "-o", str(folder / "board")], check=True)
    return folder / "board"


def run(program, records):
    content = b"".join(letter.encode() + np.int32(slot).tobytes() + image.tobytes() for letter, slot, image in records)
    return subprocess.run([str(program)], input=content, capture_output=True, check=True).stdout


def feature_of(image):
    return (image[:D] / np.float32(32) - np.float32(4)).astype(np.float32)


class Board:
    """What the C++ is expected to do."""

    def __init__(self, weight=0.05):
        self.rng = np.random.default_rng(0)
        self.centres = self.rng.uniform(70, 180, size=(K, PIXELS))
        label = np.repeat(np.arange(KNOWN), 30)
        feature = np.stack([feature_of(self.image(c)) for c in label])
        self.mean, self.scale = feature.mean(axis=0), feature.std(axis=0)
        arrays = empty_bank(K, K, D, DIRECTIONS)
        self.mixture = Mixture(arrays, self.mean, self.scale, weight, rebinds=False)
        self.mixture.bank.learn_classes(feature, label)
        self.start = {name: value.copy() for name, value in arrays.items()}
        self.known = np.arange(K) < KNOWN

    def image(self, c):
        return np.clip(self.centres[c] + self.rng.normal(size=PIXELS) * 25, 0, 255).astype(np.uint8)

    def block(self, feature):
        powers = np.where(self.known, np.exp(feature[:K]), 0)
        return (powers / powers.sum()).astype(np.float32)

    def learn(self, image, c):
        feature = feature_of(image)
        self.mixture.bank.renew()
        self.mixture.learn(self.block(feature)[None], feature[None], np.array([c]))
        self.known[c] = True

    def predict(self, image):
        feature = feature_of(image)
        self.mixture.bank.renew()
        z = self.mixture.bank.logits(feature[None])[0].astype(np.float64)
        bank, share = np.exp(z - z.max()), self.mixture.weight
        mixed = (share * self.block(feature) + (1 - share) * bank / bank.sum()) ** EXPONENT
        return mixed.argmax(), mixed.max() / mixed.sum()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    board = Board()
    return built(tmp_path_factory.mktemp("board"), board.start, board.mean, board.scale, 0.05)


def test_it_mixes_block_and_bank_as_the_device_package_does(program):
    board = Board()
    records, expected, weights = [], [], []
    for step in range(60):
        image = board.image(step % 5)
        expected.append(board.predict(image))
        weights.append(board.mixture.weight)
        board.learn(image, step % 5)
        records += [("P", 0, image), ("L", step % 5, image)]
    found = np.frombuffer(run(program, records), [("label", "<f4"), ("probability", "<f4"), ("status", "<i4")])
    assert (found["status"] == OK).all()
    assert found["label"].tolist() == [label for label, _ in expected]
    np.testing.assert_allclose(found["probability"], [probability for _, probability in expected], atol=1e-4)
    assert np.ptp(weights) > 0.01  # what both got right has moved them


def test_what_it_learned_is_kept_and_what_is_damaged_is_refused(program):
    board = Board()
    asked, new = board.image(0), [board.image(4) for _ in range(8)]
    ask, keep, take, damage = (("P", 0, asked), ("E", 0, asked), ("I", 0, asked), ("D", 0, asked))
    teach = [("L", 4, image) for image in new]
    content = run(program, [ask, keep, *teach, ("P", 0, new[0]), take, ask, damage, *teach, take, ("P", 0, new[0])])
    before, learned, restored, again = (np.frombuffer(content, "<f4", 2, at) for at in (0, 40, 52, 96))
    assert np.frombuffer(content, "<i4", 1, 48) == OK
    assert np.frombuffer(content, "<i4", 1, 92) == BAD_STATE
    assert learned[0] == again[0] == 4 != before[0]
    np.testing.assert_array_equal(restored, before)
    np.testing.assert_array_equal(again, learned)  # refused: what was learned since is still there


def test_an_image_that_is_not_counted_leaves_the_bank_alone(program):
    board = Board()
    image, other = board.image(1), board.image(2)
    content = run(program, [("P", 0, other), *[("R", 1, image)] * 3, ("P", 0, other), ("R", 5, image)])
    np.testing.assert_array_equal(*(np.frombuffer(content, "<f4", 2, at) for at in (0, 20)))
    assert np.frombuffer(content, "<i4", 1, 28) == BAD_ARGUMENT  # nothing is known of that class


def test_a_bank_alone_predicts_without_the_block(tmp_path):
    board = Board(weight=0.0)
    program = built(tmp_path, board.start, board.mean, board.scale, 0.0)
    records, expected = [], []
    for step in range(12):
        image = board.image(step % 4)
        board.learn(image, step % 4)
        expected.append(board.predict(image))
        records += [("L", step % 4, image), ("P", 0, image)]
    found = np.frombuffer(run(program, records), [("status", "<i4"), ("label", "<f4"), ("probability", "<f4")])
    assert found["label"].tolist() == [label for label, _ in expected]
    np.testing.assert_allclose(found["probability"], [probability for _, probability in expected], atol=1e-4)


def test_without_a_bank_the_block_predicts(tmp_path):
    board = Board()
    program = built(tmp_path, None, board.mean, board.scale, 1.0)
    images = [board.image(c) for c in range(5)]
    found = np.frombuffer(run(program, [("P", 0, image) for image in images]), "<f4").reshape(-1, 2)
    expected = np.stack([board.block(feature_of(image)) for image in images])
    assert found[:, 0].tolist() == expected.argmax(axis=1).tolist()
    np.testing.assert_allclose(found[:, 1], expected.max(axis=1), atol=1e-5)
