"""The bank of a microcontroller, compiled for this machine, against the bank in NumPy."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from benchmarks.common.micro_bank import EXPORT, PREDICT, RENEW, CppBank
from firmware_host.shared.bank import Bank, bank_shapes, empty_bank
from keras_cbpnet.export.micro.bank import DIRECTIONS, STATE, memory, small_bank, state_bytes
from keras_cbpnet.export.micro.project import SOURCES

D, K, R = 64, 16, DIRECTIONS
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def cpp(tmp_path_factory):
    return CppBank(tmp_path_factory.mktemp("bank"), (D, K, R))


class Stream:
    """Images of classes that differ in mean and covariance; a bank in NumPy learns them, records are kept for C++."""

    def __init__(self, classes, seed, sizes=(D, K, R)):
        self.rng, self.classes, (self.d, slots, r) = np.random.default_rng(seed), classes, sizes
        self.centres = self.rng.normal(size=(classes, self.d)) * 0.8
        turn = self.rng.normal(size=(classes, self.d, self.d)) * 0.15
        self.turn = turn + np.diag(self.rng.uniform(0.2, 1.5, size=self.d))
        mean, scale = self.rng.normal(size=(2, self.d)).astype(np.float32)
        self.start = {"feature_mean": mean, "feature_scale": np.abs(scale) + 0.3}
        self.arrays = empty_bank(slots, slots, self.d, r)
        self.bank = Bank(self.arrays, mean, self.start["feature_scale"], rebinds=False)
        self.labels, self.features, self.expected = [], [], []

    def images(self, n):
        label = self.rng.integers(0, self.classes, n)
        x = self.centres[label] + np.einsum("nd,nde->ne", self.rng.normal(size=(n, self.d)), self.turn[label])
        return (x * self.start["feature_scale"] + self.start["feature_mean"]).astype(np.float32), label

    def learn(self, n):
        for feature, label in zip(*self.images(n)):
            self.bank.learn(feature[None], np.array([label]))
            self.record(label, feature)

    def renew(self):
        self.bank.renew()
        self.record(RENEW, np.zeros(self.d))

    def predict(self):
        test = self.images(6)[0]
        self.expected.append(self.bank.logits(test))
        for feature in test:
            self.record(PREDICT, feature)

    def record(self, label, feature):
        self.labels.append(label)
        self.features.append(feature)

    def difference(self, cpp):
        """Return the largest of the logits' differences, in units of what NumPy gives where that is above 1."""
        found, expected = cpp.logits(self.labels, self.features, self.start), np.concatenate(self.expected)
        np.testing.assert_array_equal(found == -1e9, expected == -1e9)
        return np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1.0))


def test_it_fits_into_64_kb_with_its_work_memory(cpp):
    assert cpp.bytes == memory(K, D) <= 64000


def test_the_state_that_is_kept_is_a_part_of_it(cpp):
    state = state_bytes(empty_bank(K, K, D, R))
    assert 4 * (3 + 2 * K + K * D + D * (D + 1) // 2) + 2 * K * 2 * R * D == len(state) < cpp.bytes
    assert cpp.stream([EXPORT], np.zeros((1, D))) == state


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "seed"), [(16, 0), (16, 1), (5, 2), (2, 3), (1, 4)])
def test_a_stream_gives_the_logits_of_numpy(cpp, classes, seed):
    """Below and above three images a class, ten settled classes, 2 r rows a class."""
    stream = Stream(classes, seed)
    for images in (1, 2, 5, 20, 60, 150, 250, 300):
        stream.learn(images)
        stream.renew()
        stream.predict()
    # 1e-4 but for an entry of the 16-bit rows that lies between two numbers: the processor decides which it becomes.
    assert stream.difference(cpp) < 2e-4


def test_what_came_since_the_metric_was_renewed_counts_too(cpp):
    stream = Stream(K, 5)
    stream.learn(600)
    stream.renew()
    stream.learn(10)  # less than the growth that renews it
    stream.predict()
    assert stream.difference(cpp) < 1e-4


def test_the_metric_is_renewed_when_enough_images_have_come_and_not_before(cpp):
    stream = Stream(4, 6)
    stream.learn(196)
    stream.renew()
    few, many = stream.images(3), stream.images(6)
    asked = stream.images(1)[0]
    for images, label in (few, many):
        records = [*stream.labels, *label, PREDICT, RENEW, PREDICT]
        features = [*stream.features, *images, *np.repeat(asked, 3, axis=0)]
        as_it_was, renewed = cpp.logits(records, features, stream.start)
        assert np.array_equal(as_it_was, renewed) == (len(label) == 6)


def test_other_sizes_give_the_logits_of_numpy_too(tmp_path):
    stream = Stream(12, 7, (20, 12, 2))
    for images in (30, 200, 400):
        stream.learn(images)
        stream.renew()
        stream.predict()
    assert stream.difference(CppBank(tmp_path, (20, 12, 2))) < 1e-4


def test_memory_is_known_without_a_compiler(tmp_path):
    assert CppBank(tmp_path, (97, 33, DIRECTIONS), ("-O0",)).bytes == memory(33, 97)


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path):
    options = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    try:
        checked = CppBank(tmp_path, (D, K, R), options)
    except subprocess.CalledProcessError:
        pytest.skip("this compiler has no address and undefined behaviour sanitizers")
    stream = Stream(K, 8)
    for images in (3, 40, 400):
        stream.learn(images)
        stream.renew()
        stream.predict()
    assert stream.difference(checked) < 1e-4  # CppBank raises an error where the program ends with one


def test_rows_are_rounded_to_half_precision_as_numpy_does(cpp):
    sizes = 10.0 ** np.random.default_rng(9).uniform(-8, 4.5, size=(2 * R, D))
    feature = np.concatenate([np.zeros((1, D)), sizes * np.where(np.arange(D) % 2, -1, 1)]).astype(np.float32)
    arrays = empty_bank(K, K, D, R)
    bank = Bank(arrays, np.zeros(D), np.ones(D), rebinds=False)
    for row in feature:
        bank.learn(row[None], np.array([0]))
    records = [0] * len(feature) + [EXPORT]
    content = cpp.stream(records, np.concatenate([feature, feature[:1]]))
    factor = np.frombuffer(content[-2 * K * 2 * R * D :], "<f2").reshape(K, 2 * R, D)
    rounded = np.abs(arrays["factor"][0].astype(np.float32) - factor[0].astype(np.float32))
    ulp = np.spacing(np.abs(arrays["factor"][0])).astype(np.float32)
    assert (rounded <= ulp).all()  # the products themselves differ in their last bit
    assert np.mean(rounded == 0) > 0.99


@pytest.mark.slow
def test_a_large_bank_is_taken_over_with_the_leading_rows_of_each_class(cpp):
    stream = Stream(K - 2, 10, (D, K, 16))
    stream.learn(700)
    small = small_bank(stream.arrays, K)
    assert {name: value.shape for name, value in small.items()} == bank_shapes(K, K, D, R)
    bank = Bank({name: value.copy() for name, value in small.items()}, *stream.start.values(), rebinds=False)
    test, label = stream.images(200)
    found = cpp.logits(np.full(200, PREDICT), test, {**small, **stream.start})
    np.testing.assert_allclose(found, bank.logits(test), rtol=1e-4, atol=1e-4)
    assert np.mean(found.argmax(axis=1) == label) > np.mean(stream.bank.logits(test).argmax(axis=1) == label) - 0.03


def test_the_state_names_are_those_of_the_struct():
    struct = re.search(r"struct BankState \{(.*?)\n\};", (SOURCES / "bank.h").read_text(), re.DOTALL).group(1)
    assert tuple(re.findall(r"(\w+)(?:\[.*?\])*;", struct)) == STATE


def test_it_uses_no_heap_and_no_exceptions(cpp, tmp_path):
    (tmp_path / "bank_constants.h").write_text((cpp.folder / "bank_constants.h").read_text())
    (tmp_path / "use.cc").write_text(
        '#include "bank.h"\nstatic cbpnet::Bank<64, 16, 4> bank;\n'
        "int Use(const float* f, float* z) { bank.Init(f, f); bank.Learn(f, 3); return bank.Predict(f, z); }\n"
    )
    flags = ("-std=c++17", "-O1", f"-I{SOURCES}", f"-I{tmp_path}", "-c")
    subprocess.run(["g++", *flags, str(tmp_path / "use.cc"), "-o", str(tmp_path / "use.o")], check=True)
    needed = subprocess.run(["nm", "-u", str(tmp_path / "use.o")], capture_output=True, text=True, check=True).stdout
    assert "memcpy" in needed or "sqrtf" in needed
    assert not re.search(r"malloc|_Znw|_Zna|__cxa_throw|_ZSt", needed)
