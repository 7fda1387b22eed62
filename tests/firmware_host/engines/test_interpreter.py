"""Interpreters behind the adapters: what is checked on opening, and that names and types arrive."""

import builtins
import sys
import warnings

import numpy as np
import pytest

from firmware_host.bundle import DeviceError, read_bundle, state_shapes
from firmware_host.engines.find import Runtime, find_runtime, open_backbone, open_head, recipe_of
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.shared.runtimes import RUNTIMES, interpreters

LITE, NUMPY = RUNTIMES["tflite_runtime"], RUNTIMES["numpy"]


def detail(shape, dtype):
    return {"shape": np.array(shape, np.int32), "dtype": np.dtype(dtype).type, "quantization": (0.0, 0)}


class FakeRunner:
    """A signature runner over a Python function, as picky about names as the real one."""

    def __init__(self, function, inputs, outputs):
        self.function, self.inputs, self.outputs = function, inputs, outputs

    def get_input_details(self):
        return {name: detail(*spec) for name, spec in self.inputs.items()}

    def get_output_details(self):
        return {name: detail(*spec) for name, spec in self.outputs.items()}

    def __call__(self, **values):
        assert values.keys() == self.inputs.keys()
        for name, value in values.items():
            shape, dtype = self.inputs[name]
            assert (value.shape, value.dtype) == (tuple(shape), np.dtype(dtype)), name
        return self.function(**values)


class FakeInterpreter:
    """head.tflite played by the NumPy head."""

    d, h, C, B = 6, 5, 4, 4

    def __init__(self, model_path, num_threads):
        assert num_threads == 2
        f, i = "float32", "int32"
        state = {name: (shape, f) for name, shape in state_shapes("prototype", self.d, self.h, self.C).items()}
        rows = {"feature": ([self.B, self.d], f), "label": ([self.B], i)}
        step = {"class_mask": ([self.C], f), "learning_rate": ([], f), "fresh": ([self.d], f)}
        scores = {"logits": ([1, self.C], f), "probabilities": ([1, self.C], f)}
        result = {"loss": ([], f), "accuracy": ([], f), "replaced": ([], i)}
        ok = {"ok": ([], i)}
        self.signatures = {
            "infer": FakeRunner(
                lambda **v: dict(zip(scores, self.head.infer(**v))), {"feature": ([1, self.d], f)}, scores
            ),
            "observe": FakeRunner(lambda **v: self.head.observe(**v), rows, ok),
            "train": FakeRunner(lambda **v: self.head.train(**v)._asdict(), {**rows, **step}, result),
            "get_state": FakeRunner(lambda: self.head.get_state(), {}, state),
            "set_state": FakeRunner(lambda **v: self.head.set_state(v), state, ok),
        }

    def allocate_tensors(self):
        pass

    def get_signature_list(self):
        return self.signatures

    def get_signature_runner(self, name):
        return self.signatures[name]


@pytest.fixture
def fake(make):
    config = make.head_config()
    FakeInterpreter.head = NumpyHead(config, make.start_state(config, known=2))
    return Runtime("fake", FakeInterpreter, LITE)


def test_the_interpreter_head_equals_the_numpy_head(bundle, fake, make):
    head = open_head(read_bundle(bundle), fake, threads=2)
    config = make.head_config()
    reference = NumpyHead(config, make.start_state(config, known=2))
    rng = np.random.default_rng(0)
    feature, label = rng.normal(size=(4, 6)), np.array([0, 1, -1, 2])  # float64 and int64 must arrive converted
    for one in (head, reference):
        one.observe(feature, label)
    for _ in range(3):
        row = (feature, label, np.ones(4), 1e-3, np.zeros(6))
        assert head.train(*row) == reference.train(*row)
    for name, value in reference.get_state().items():
        np.testing.assert_array_equal(head.get_state()[name], value)
    for found, expected in zip(head.infer(feature[:1]), reference.infer(feature[:1])):
        np.testing.assert_array_equal(found, expected)
    changed = {**head.get_state(), "step": np.float32(9)}
    head.set_state(changed)
    assert head.get_state()["step"] == 9
    with pytest.raises(DeviceError, match="'step' is missing"):
        head.set_state({name: value for name, value in changed.items() if name != "step"})


def test_features_are_looked_at_together_or_one_by_one(bundle, fake):
    """A graph takes one feature at a time; what it says of several is what it says of each."""
    head = open_head(read_bundle(bundle), fake, threads=2)
    rows = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    for found, expected in zip(head.infer(rows), zip(*(head.infer(row[None]) for row in rows))):
        np.testing.assert_array_equal(found, np.concatenate(expected))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_head_is_opened_as_the_table_says_for_its_optimizer(make, tmp_path, fake, recwarn, optimizer):
    opened = []

    class Loud(FakeInterpreter):
        def __init__(self, model_path, num_threads, **options):
            opened.append(options)
            warnings.warn("this takes memory", UserWarning, stacklevel=2)
            super().__init__(model_path, num_threads)

    bundle = read_bundle(make.write_bundle(tmp_path / "b", optimizer=optimizer))
    row = RUNTIMES["ai_edge_litert"]._replace(sgd_options={"spare": True})
    open_head(bundle, Runtime("fake", Loud, row), threads=2)
    assert opened == [{"spare": True} if optimizer == "sgd" else {}]
    assert not recwarn.list  # a device's user can do nothing about it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("observe"), "signature 'observe' is missing: convert the run again"),
        (lambda s: s["train"].inputs.pop("fresh"), "signature 'train' has no input 'fresh'"),
        (
            lambda s: s["infer"].outputs.update(logits=([1, 9], "float32")),
            r"is float32 \[1, 9\], the manifest says .*4",
        ),
        (lambda s: s["train"].inputs.update(label=([4], "int64")), "input 'label' is int64"),
    ],
)
def test_a_head_that_breaks_the_contract_is_refused(bundle, fake, change, message):
    class Broken(FakeInterpreter):
        def __init__(self, **options):
            super().__init__(**options)
            change(self.signatures)

    with pytest.raises(DeviceError, match=message):
        open_head(read_bundle(bundle), Runtime("fake", Broken, LITE), threads=2)


def test_numpy_starts_from_the_golden_state(bundle):
    opened = read_bundle(bundle)
    head = open_head(opened, Runtime("numpy", None, NUMPY))
    golden = opened.arrays("golden.npz")
    for name, value in head.get_state().items():
        np.testing.assert_array_equal(value, golden[f"state.{name}"])


def test_without_a_golden_state_numpy_starts_from_the_heads_own(make, bundle, fake):
    opened = read_bundle(make.foreign(bundle, golden=("state.b",)))  # some tensors are not enough
    fake.interpreter.head.observe(np.ones((1, 6)), np.array([1]))
    head = open_head(opened, Runtime("numpy", fake.interpreter, NUMPY), threads=2)
    assert isinstance(head, NumpyHead)
    for name, value in fake.interpreter.head.get_state().items():
        np.testing.assert_array_equal(head.get_state()[name], value)


def test_the_backbone_is_dequantized_by_its_own_tensor(bundle):
    backbone = open_backbone(read_bundle(bundle), find_runtime("auto"))
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:, 2] = 200
    for shape in ((8, 8, 3), (1, 8, 8, 3)):
        feature = backbone(image.reshape(shape))
        np.testing.assert_array_equal(feature.raw, [[-128, -128, -128, -128, -128, 72]])
        np.testing.assert_allclose(feature.value, [0, 0, 0, 0, 0, 200 / 255], rtol=1e-6)
        assert feature.value.dtype == np.float32
        assert feature.prompt == 5


def test_a_backbone_unlike_the_manifest_is_refused(make, bundle):
    make.rewrite_manifest(bundle, lambda m: m["shapes"].update(image=[1, 9, 9, 3]))
    with pytest.raises(
        DeviceError, match=r"input 'image' is uint8 \[1, 8, 8, 3\], the manifest says uint8 \[1, 9, 9, 3\]"
    ):
        open_backbone(read_bundle(bundle), find_runtime("auto"))


def test_a_file_that_is_no_model_is_refused(bundle):
    runtime = find_runtime("auto")
    with pytest.raises(DeviceError, match=r"head.tflite does not open .*: use a newer runtime or convert again"):
        open_head(read_bundle(bundle), runtime)
    with pytest.raises(DeviceError, match="threads is 0"):
        open_head(read_bundle(bundle), runtime, threads=0)


def test_auto_and_numpy_take_the_first_interpreter_that_imports():
    first = find_runtime("auto")
    assert first.name in interpreters()
    assert find_runtime("numpy") == ("numpy", first.interpreter, NUMPY, RUNTIMES[first.name].recipe, None, None)
    assert find_runtime("auto", "mixed").recipe == "mixed"


def test_a_backbone_is_chosen_by_the_table_or_by_name(bundle):
    opened = read_bundle(bundle)
    lite = Runtime("fake", FakeInterpreter, LITE, preferred="hybrid")
    assert recipe_of(opened, lite) == "int8"
    opened.manifest["backbones"] = {"hybrid": "backbone_hybrid.tflite"}
    assert recipe_of(opened, lite) == "hybrid"
    assert recipe_of(opened, lite._replace(recipe="int8")) == "int8"
    assert recipe_of(opened, lite._replace(preferred=None)) == "int8"
    with pytest.raises(DeviceError, match="no backbone by recipe 'mixed', it has int8 and hybrid: use one of"):
        recipe_of(opened, lite._replace(recipe="mixed"))


def test_a_runtime_that_is_not_there_is_refused(monkeypatch):
    with pytest.raises(
        DeviceError,
        match="unknown runtime 'torch': use one of auto, ai_edge_litert, tflite_runtime, numpy, litert_compiled, tflm",
    ):
        find_runtime("torch")
    original = builtins.__import__
    for name in [name for name in sys.modules if name.startswith(interpreters())]:
        monkeypatch.delitem(sys.modules, name)

    class Blocker:
        def find_spec(self, name, *_):
            if name.split(".")[0] in interpreters():
                raise ImportError(f"no {name}")

    monkeypatch.setattr(sys, "meta_path", [Blocker(), *sys.meta_path])
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(
        DeviceError, match=r"no interpreter for runtime 'auto': ai_edge_litert does not import.*install"
    ):
        find_runtime("auto")
    assert builtins.__import__ is original


def test_tflite_runtime_is_not_loaded_after_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    with pytest.raises(DeviceError, match="does not load after tensorflow in one process"):
        find_runtime("tflite_runtime")


class OldInterpreter:
    """An interpreter of before signature runners, such as Coral's tflite-runtime 2.5."""

    METHODS = ("allocate_tensors", "get_input_details", "get_output_details", "set_tensor", "get_tensor", "invoke")

    def __init__(self, **options):
        interpreter = find_runtime("auto").interpreter(**options)
        for name in self.METHODS:
            setattr(self, name, getattr(interpreter, name))


def test_an_interpreter_without_signature_runners_runs_the_backbone(bundle):
    opened, old = read_bundle(bundle), Runtime("numpy", OldInterpreter, NUMPY)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    expected = open_backbone(opened, find_runtime("auto"))(image)
    found = open_backbone(opened, old)(image)
    np.testing.assert_array_equal(found.raw, expected.raw)
    np.testing.assert_array_equal(found.value, expected.value)
    assert found.prompt == expected.prompt


def test_an_interpreter_without_signature_runners_leaves_the_head_to_numpy(bundle, monkeypatch):
    opened = read_bundle(bundle)
    assert isinstance(open_head(opened, Runtime("numpy", OldInterpreter, NUMPY)), NumpyHead)
    monkeypatch.setattr(OldInterpreter, "__init__", lambda self, **options: None)
    monkeypatch.setattr(OldInterpreter, "allocate_tensors", lambda self: None, raising=False)
    with pytest.raises(
        DeviceError, match="tflite_runtime is too old to run the head's signatures: use --runtime numpy"
    ):
        open_head(opened, Runtime("tflite_runtime", OldInterpreter, LITE))


def test_a_graph_whose_tensors_cannot_be_told_apart_is_refused(make, bundle):
    make.rewrite_manifest(bundle, lambda m: m["dtypes"].update(feature="float32"))
    with pytest.raises(DeviceError, match=r"0 tensors of the graph are float32 \[1, 6\], as 'feature' is: convert"):
        open_backbone(read_bundle(bundle), Runtime("numpy", OldInterpreter, NUMPY))
