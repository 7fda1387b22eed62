"""The device's surprise around any head against the rule that the host trains by."""

import numpy as np
import pytest
from helpers.head_case import Case

from firmware_host.bundle import BLOCKS, state_shapes
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.learning.surprise import SurprisedHead
from keras_cbpnet.config import HeadConfig, TrainConfig
from keras_cbpnet.export.bundle import head_entry
from keras_cbpnet.export.check import refusal
from keras_cbpnet.export.head import shipped
from keras_cbpnet.layers.cbp_head import CBPHead

D, H, C, B, STEPS = 8, 6, 3, 6, 120


def stream(rng):
    """Batches of three far classes, which swap names after half of the steps."""
    centres = rng.normal(0, 3, (C, D))
    for step in range(STEPS):
        label = rng.integers(0, C, B).astype(np.int32)
        feature = (centres[label] + rng.normal(0, 0.3, (B, D))).astype(np.float32)
        yield feature, (label if step < STEPS // 2 else (label + 1) % C).astype(np.int32)


LATER = pytest.mark.slow  # blocks whose parts the other one has
FIRST, *OTHERS = BLOCKS
CASES = [(FIRST, 0.0), *(pytest.param(block, 20.0, marks=LATER) for block in OTHERS)]


@pytest.mark.slow
@pytest.mark.parametrize(("block", "calming"), CASES)
def test_a_device_is_surprised_when_the_host_is(block, calming):
    rng = np.random.default_rng(3)
    settings = {**Case(block, D, H, C, B, {}).settings, "maturity_threshold": 20, "replacement_rate": 0.02}
    layer = CBPHead(HeadConfig(**{**settings, "learning_rate": 0.02}), f"cbp_surprise:calming={calming}", own_step=True)
    layer.build((None, D))
    layer.open(range(C))
    for slot in range(C):
        layer.observe(rng.normal(0, 3, (B, D)).astype(np.float32), np.full(B, slot, np.int32))
    start = {name: np.array(value) for name, value in layer.values().items()}
    manifest = {**layer.config.to_dict(), "feature_mean": [0.0] * D, "feature_scale": [1.0] * D}
    plain = NumpyHead(manifest, {name: value for name, value in start.items() if name != "calm"})
    device = SurprisedHead(plain, block, 20, calming, float(start["calm"]))
    mask, surprises = np.ones(C, np.float32), 0
    for feature, label in stream(rng):
        fresh = rng.uniform(-1, 1, D).astype(np.float32)
        expected = layer.learn(feature, label, mask, layer.config.learning_rate, fresh)
        found = device.train(feature, label, mask, layer.config.learning_rate, fresh)
        assert found.loss == pytest.approx(float(expected["loss"]), abs=1e-4)
        assert found.replaced == int(expected["replaced"])
        state = device.get_state()
        for name, value in layer.values().items():
            np.testing.assert_allclose(state[name], value, atol=1e-4, err_msg=name)
        surprises += float(state["calm"]) == 0
    assert surprises
    again = SurprisedHead(plain, block, 20, calming, 0.0)
    again.set_state(state)
    assert again.get_state()["calm"] == state["calm"]


def test_what_is_shipped_is_the_contract_s_head():
    layer = CBPHead(
        HeadConfig(units=H, slots=C, batch=B, replacement_rate=0.01), "cbp_surprise:calming=5", own_step=True
    )
    layer.build((None, D))
    head = shipped(layer)
    assert {name: tuple(value.shape) for name, value in head.state.items()} == state_shapes("prototype", D, H, C)
    assert head.config == layer.config
    layer.assign({"calm": 9.0})
    assert head_entry(head, layer)["surprise"] == {"calming": 5.0, "calm": 9.0}
    assert "surprise" not in head_entry(head, head)


@pytest.mark.parametrize(
    ("rule", "target", "reason"),
    [
        ("cbp", "micro", None),
        ("none", "linux", None),
        ("cbp_surprise:calming=5", "linux", None),
        ("cbp_surprise", "micro", "without drift detection; train with --plasticity cbp"),
        ("l2", "linux", "does not know --plasticity l2; it knows cbp, cbp_surprise, none"),
    ],
)
def test_rules_that_a_device_knows(rule, target, reason):
    found = refusal(TrainConfig(plasticity=rule), target)
    assert (found is None) if reason is None else found.endswith(reason)
