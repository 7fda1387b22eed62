"""A state moves to a bundle with more class slots, and back to one of as many, with all that was learned."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_host.bundle import Bundle, ClassStatistics, DeviceError
from firmware_host.state import Snapshot, snapshot_for, to_bytes
from firmware_host.state.buffer import ReplayBuffer
from firmware_host.state.encoding import decode

D, H = 3, 2
CLASS_TENSORS = {"prototype": [], "mlp": ["w2", "b2"], "residual": ["w3", "b3"]}
BLOCKS = st.sampled_from(sorted(CLASS_TENSORS))
QUIET = settings(derandomize=True, deadline=None, max_examples=60)


def bundle(block, slots, classes=(), backbone="b" * 64, **changes):
    """A bundle as its manifest describes it; no file is needed to move a state."""
    head = {
        "block": block, "optimizer": "adam", "units": H, "slots": slots, "logit_scale": 20.0,
        "feature_mean": [0.0] * D, "feature_scale": [1.0] * D, **changes,
    }  # fmt: skip
    manifest = {
        "classes": list(classes),
        "head": head,
        "shapes": {"feature": [1, D], "image": [1, 8, 8, 3]},
        "sha256": {"backbone.tflite": backbone, "head.tflite": f"{slots:064d}"},
    }
    return Bundle(Path("bundle"), manifest, "")


def learned(of, classes, seed, kept):
    """A snapshot in which every number is another."""
    rng = np.random.default_rng(seed)
    head = {name: rng.normal(size=shape).astype(np.float32) for name, shape in of.learned_shapes.items()}
    statistics = ClassStatistics(rng.normal(size=(of.slots, D)), rng.integers(1, 9, of.slots), rng.normal(size=(D, D)))
    buffer = pending = doubted = None
    if kept:
        label = rng.integers(0, len(classes), 4).astype(np.int32)
        buffer = ReplayBuffer(9, rng.integers(-9, 9, (4, D)).astype(np.int8), label, rng.integers(0, 50, of.slots))
        pending = (rng.integers(-9, 9, (2, D)).astype(np.int8), label[:2].copy())
        doubted = rng.integers(1, 4, of.slots)
    generator = dict(rng.bit_generator.state)
    return Snapshot(head, statistics, tuple(classes), generator, buffer, pending, seed % 7, doubted)


def moved(snapshot, of, to):
    return snapshot_for(to, decode(to_bytes(snapshot, of, 3), Path("state.npz")))


def assert_kept(before, after, slots):
    """All that was known is there, in the slots of before; slots beyond those are empty."""
    old = len(before.statistics.count)
    assert (after.classes, after.generator, after.rolled_back) == (before.classes, before.generator, before.rolled_back)
    pairs = [(name, value, after.head[name]) for name, value in before.head.items()]
    pairs += [(name, value, after.statistics.arrays()[name]) for name, value in before.statistics.arrays().items()]
    if before.buffer is None:
        assert (after.buffer, after.pending, after.doubted) == (None, None, None)
    else:
        pairs += [(name, value, after.buffer.arrays()[name]) for name, value in before.buffer.arrays().items()]
        pairs += [("pending", a, b) for a, b in zip(before.pending, after.pending)]
        pairs.append(("doubted", before.doubted, after.doubted))
    for name, value, grown in pairs:
        assert grown.dtype == value.dtype, name
        assert all(b in (a, slots) for a, b in zip(value.shape, grown.shape)), name
        same = tuple(slice(size) for size in value.shape)
        np.testing.assert_array_equal(grown[same], value, err_msg=name)
        rest = grown.copy()
        rest[same] = 0
        assert not rest.any(), name
    assert after.statistics.mean.shape == (slots, D)
    assert after.head["class_mask"].shape == (slots,)
    assert slots >= old


@pytest.mark.slow
@given(BLOCKS, st.integers(1, 5), st.integers(0, 5), st.booleans(), st.integers(0, 2**16))
@QUIET
def test_more_slots_take_over_everything(block, slots, more, kept, seed):
    small, large = bundle(block, slots), bundle(block, slots + more)
    before = learned(small, [f"class {n}" for n in range(1 + seed % slots)], seed, kept)
    after = moved(before, small, large)
    assert_kept(before, after, slots + more)
    grown = {f"{prefix}{name}" for name in CLASS_TENSORS[block] for prefix in ("", "m_", "v_")}
    grown |= {"class_mask", "class_mean", "class_count"}
    assert {n for n, v in before.head.items() if v.shape != after.head[n].shape} == (grown if more else set())
    assert_kept(after, moved(after, large, large), slots + more)  # there and nothing more is changed
    if more:
        with pytest.raises(DeviceError, match=rf"has {slots + more} class slots, bundle has {slots}: train the run"):
            moved(after, large, small)


@given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd"), min_size=1))
@QUIET
def test_a_state_must_know_the_classes_of_the_larger_bundle(known, taught):
    small, large = bundle("mlp", 4), bundle("mlp", 6, sorted(known))
    before = learned(small, sorted(taught), 1, True)
    missing = sorted(known - taught)
    if not missing:
        assert_kept(before, moved(before, small, large), 6)
        return
    with pytest.raises(DeviceError, match=rf"does not know {', '.join(missing)}, which bundle does"):
        moved(before, small, large)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("backbone", {"backbone": "c" * 64}),
        ("head", {"logit_scale": 10.0}),
        ("head", {"feature_mean": [0.0, 0.0, 1.0]}),
        ("head", {"feature_scale": [1.0, 1.0, 2.0]}),
        ("head", {"units": H + 1}),
    ],
)
def test_features_that_mean_something_else_are_refused(what, changes):
    small = bundle("mlp", 2)
    before = learned(small, ["a"], 0, True)
    for slots in (2, 3):
        if slots == 2 and what == "head":
            continue  # the same head.tflite cannot have other constants
        with pytest.raises(DeviceError, match=rf"with another {what} than that of bundle, its features mean something"):
            moved(before, small, bundle("mlp", slots, **changes))
    for one, other in itertools.permutations(CLASS_TENSORS, 2):
        with pytest.raises(DeviceError, match="with another head than"):
            moved(learned(bundle(one, 2), ["a"], 0, True), bundle(one, 2), bundle(other, 3))


def test_a_head_that_learns_to_be_surprised_has_the_bundles_clock():
    before = learned(bundle("mlp", 2), ["a"], 0, False)
    able = bundle("mlp", 3, surprise={"calming": 1.0, "calm": 9.0})
    after = moved(before, bundle("mlp", 2), able)
    assert after.completed({"calm": 9.0}, None).head["calm"] == 9
    clock = moved(learned(able, ["a"], 4, False), able, bundle("mlp", 5, surprise={"calming": 1.0, "calm": 9.0}))
    assert clock.head["calm"] == learned(able, ["a"], 4, False).head["calm"] != 0


def test_the_same_head_in_another_file_keeps_the_state():
    """As when a run is converted again, by another version of the converter: the constants are the same."""
    bundle_then, bundle_now = bundle("mlp", 3), bundle("mlp", 3)
    bundle_now.manifest["sha256"]["head.tflite"] = "f" * 64
    before = learned(bundle_then, ["a", "b"], 5, True)
    assert_kept(before, moved(before, bundle_then, bundle_now), 3)
