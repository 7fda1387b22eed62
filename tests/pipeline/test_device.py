"""The device package on real bundles, each command a process of its own: self-test, prediction, learning."""

import json

import numpy as np
import pytest

from firmware_host.shared.runtimes import interpreters

RUNTIMES = interpreters()
CHANCE = 1 / 6


def read_state(folder):
    """The arrays and the meta of a state saved once, without when and how much was written, and by which device."""
    with np.load(folder / "state.a.npz") as file:
        arrays = {name: file[name] for name in file.files if name not in ("meta", "written", "running")}
        return arrays, known(file["meta"])


def known(meta):
    """What a state says, without the number of its device."""
    return {name: value for name, value in json.loads(str(meta)).items() if name != "device"}


@pytest.mark.parametrize("runtime", [*RUNTIMES, "numpy"])
def test_selftest(bundle, device, runtime, recipe):
    _, [result], err = device("selftest", bundle, "--runtime", runtime)
    assert (result["ok"], result["runtime"], err) == (True, runtime, "")
    assert result["backbone_max_quanta"] <= 1
    assert 0.9 < result["feature_error_ratio"] < 1.1 or recipe == "float32"
    assert result["head_max_error"] <= 1e-5
    if recipe in ("mixed", "int8") and runtime != "numpy":  # the integers were recorded with this very runtime
        assert (result["reference"], result["backbone_max_quanta"]) == (runtime, 0)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_device_learns_the_last_task(bundle, device, road, tree, tmp_path, runtime):
    options = ("--state", tmp_path / "state", "--runtime", runtime)
    images = road.images / "test"
    some = {name: sorted((images / name).iterdir())[:5] for name in (*road.known, *road.new)}
    paths = [path for group in some.values() for path in group]
    before = tree(bundle, road.images)

    _, records, err = device("predict", bundle, *paths, *options)
    assert err == ""
    assert [record["image"] for record in records] == [str(path) for path in paths]
    assert {record["label"] for record in records} <= set(road.known)
    right = [record["label"] == path.parent.name for record, path in zip(records, paths)]
    assert sum(right[:20]) >= 15
    assert all(0 < record["probability"] <= 1 and record["latency_ms"] > 0 for record in records)
    code, records, err = device("evaluate", bundle, road.images, *options, check=False)
    assert (code, records) == (2, [])
    assert "unknown label" in err
    assert not (tmp_path / "state").exists()

    data = road.images if runtime == RUNTIMES[0] else f"npz:{road.device_npz}"
    _, [learned], err = device("learn", bundle, data, *options, "--epochs", 5)
    assert learned["images"] == 48
    assert learned["steps"] == 5 * 48 // 8  # half of each batch of 16 is replayed
    assert 0 < learned["loss"] < 0.5
    assert err.splitlines() == ["reading 48/48", "training 30/30"]

    _, [after], _ = device("evaluate", bundle, road.images, *options)
    assert set(after["per_class"]) == {*road.known, *road.new}
    assert after["accuracy"] > 0.75 > 4 * CHANCE
    assert all(after["per_class"][name] > 0.6 for name in road.new)
    _, [from_npz], _ = device("evaluate", bundle, f"npz:{road.device_npz}", *options)
    assert from_npz == after
    _, records, _ = device("predict", bundle, *some[road.new[0]], *options)
    assert sum(record["label"] == road.new[0] for record in records) >= 3

    assert tree(bundle, road.images) == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["lock", "state", "state.a.npz"]
    _, [manifest], _ = device("info", bundle, *options[:2])
    assert manifest["state"]["classes"] == [*road.known, *sorted(road.new)]
    counts = read_state(tmp_path / "state")[0]["statistics.count"]
    assert counts.tolist() == [24] * 6 + [0] * 10


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runtimes_and_numpy_learn_alike(shipped, device, road, tmp_path, runtime):
    """The NumPy head over the same backbone: every state tensor, and the random numbers used."""
    others = [name for name in RUNTIMES if name != runtime]  # numpy takes the first backbone that it finds
    states = []
    for engine, without in ((runtime, ()), ("numpy", others)):
        options = ("--state", tmp_path / engine, "--runtime", engine, "--seed", 7)
        _, [result], _ = device("learn", shipped, road.images, *options, without=without)
        state, meta = read_state(tmp_path / engine)
        states.append((result, state, meta))
    (result, state, meta), (numpy_result, numpy_state, numpy_meta) = states
    assert meta == numpy_meta
    assert result["replaced"] == numpy_result["replaced"] > 0
    assert result["loss"] == pytest.approx(numpy_result["loss"], abs=1e-4)
    for name, value in state.items():
        # Both: a weight is small, a utility is a sum over outputs and reaches 10.
        np.testing.assert_allclose(value, numpy_state[name], rtol=1e-4, atol=1e-4, err_msg=name)
    assert np.abs(state["head.w2"]).max() > 1e-3


@pytest.mark.slow
def test_the_two_runtimes_learn_alike(bundles, device, road, tmp_path):
    """Each with its own float32 backbone, whose features differ in the last digits."""
    float32, states = bundles("float32"), []
    for runtime in RUNTIMES:
        options = ("--state", tmp_path / runtime, "--runtime", runtime, "--seed", 7)
        device("learn", float32, road.images, *options)
        states.append(read_state(tmp_path / runtime))
    assert states[0][1] == states[1][1]
    for name, value in states[0][0].items():
        assert_alike(value, states[1][0][name], name)


def assert_alike(one, other, name):
    """Equal but for float32 rounding; the rows of a factor, in half precision, by the squares that they stand for."""
    if one.dtype.kind == "U":
        assert one == other, name
    elif one.dtype == np.float16:
        one, other = (
            np.einsum("kre,krf->kef", each.astype(np.float32), each.astype(np.float32)) for each in (one, other)
        )
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-2 * np.abs(other).max(), err_msg=name)
    elif name.endswith("bank.novelties"):  # a histogram: an image at the edge of a bin falls to either side
        np.testing.assert_allclose(one.sum(), other.sum(), rtol=1e-6, err_msg=name)
        assert np.abs(np.cumsum(one) - np.cumsum(other)).max() <= 1.001, name
    else:
        # Densities have the size of d squared deviations, whose last digit is not that of the features.
        of_densities = name.endswith(("bank.usual", "bank.losses", "bank.page", "bank.tried", "bank.sure"))
        last_digit = 4e-7 * np.max(np.abs(other), initial=0)  # of a sum that reaches the largest element
        rtol, atol = (1e-3, 2e-3) if of_densities else (1e-6, max(1e-4, last_digit))
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.slow
def test_a_state_goes_on_under_any_runtime(bundles, device, road, tmp_path):
    """Made by tflite-runtime, taken on by each engine in a process of its own; float32, where features agree."""
    float32, states = bundles("float32"), {}
    data = f"npz:{road.device_npz}"
    device("learn", float32, data, "--state", tmp_path / "made", "--runtime", "tflite_runtime", "--replay", "buffer:20")
    for engine in (*RUNTIMES, "numpy"):
        device("state", float32, "import", tmp_path / "made" / "state.a.npz", "--state", tmp_path / engine)
        options = ("--state", tmp_path / engine, "--runtime", engine, "--replay", "buffer:20")
        device("learn", float32, data, *options)
        with np.load(tmp_path / engine / "state.b.npz") as file:
            states[engine] = {name: file[name] for name in file.files if name not in ("written", "running")}
    made = states.pop("tflite_runtime")
    for engine, state in states.items():
        assert known(state.pop("meta")) == known(made["meta"]), engine
        for name, value in state.items():
            assert_alike(value, made[name], f"{engine} {name}")


@pytest.mark.slow
def test_a_bundle_with_more_slots_takes_over_what_was_learned(bundles, convert, device, road, tmp_path):
    float32, wider = bundles("float32"), tmp_path / "wider"
    assert convert.main([str(road.run), "--output", str(wider), "--recipe", "float32", "--slots", "20"]) == 0
    assert (wider / "backbone.tflite").read_bytes() == (float32 / "backbone.tflite").read_bytes()
    assert device("selftest", wider)[1][0]["ok"]
    data = f"npz:{road.device_npz}"
    device("learn", float32, data, "--state", tmp_path / "state")
    device("state", float32, "export", tmp_path / "learned.npz", "--state", tmp_path / "state")
    _, [imported], _ = device("state", wider, "import", tmp_path / "learned.npz")
    assert imported["classes"] == [*road.known, *sorted(road.new)]
    _, [before], _ = device("evaluate", float32, data, "--state", tmp_path / "state")
    assert device("evaluate", wider, data)[1][0] == before


def test_the_same_seed_gives_the_same_state(shipped, device, road, tmp_path):
    states = {}
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        device("learn", shipped, f"npz:{road.device_npz}", "--state", tmp_path / name, "--seed", seed)
        states[name] = read_state(tmp_path / name)[0]["head.w1"]
    np.testing.assert_array_equal(states["one"], states["same"])
    assert np.abs(states["one"] - states["other"]).max() > 1e-3
