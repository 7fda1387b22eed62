"""None of these: images of no known class are told, and of the known ones as many are rejected as was asked for."""

import numpy as np
import pytest

from firmware_host.shared.bank import Mixture, empty_bank
from firmware_host.shared.bank.novelty import Novelty, signals

D, C, K, R = 24, 10, 14, 4


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def learned(rng, each, classes=8):
    centres = rng.normal(size=(C, D)) * 0.8
    label = np.repeat(np.arange(classes), each)
    mixture = Mixture(empty_bank(C, K, D, R), np.zeros(D), np.ones(D), 0.0)
    feature = (centres[label] + rng.normal(size=(len(label), D))).astype(np.float32)
    mixture.learn_apart(np.zeros((len(label), C), np.float32), feature, label, rng)
    return mixture, centres


def judged(mixture, rng, centres, classes, each=300):
    label = np.repeat(classes, each)
    feature = (centres[label] + rng.normal(size=(len(label), D))).astype(np.float32)
    return mixture.judge(np.zeros((len(label), C), np.float32), feature)


@pytest.mark.slow
@pytest.mark.parametrize(("each", "off"), [(10, 0.04), (40, 0.02), (400, 0.02)])
def test_as_many_known_images_are_rejected_as_was_asked_for(rng, each, off):
    mixture, centres = learned(rng, each)
    novelty = judged(mixture, rng, centres, np.arange(8))[1]
    for rate in (0.05, 0.1):
        assert np.mean(novelty > 1 - rate) == pytest.approx(rate, abs=off)


def test_images_of_other_classes_are_more_novel_than_by_either_signal_alone(rng):
    mixture, centres = learned(rng, 60)
    known, old = judged(mixture, rng, centres, np.arange(8))
    probability, new = judged(mixture, rng, centres, np.array([8, 9]))

    def told(a, b):
        return np.mean(a[:, None] < b[None, :]) + np.mean(a[:, None] == b[None, :]) / 2

    assert told(old, new) > 0.8
    assert told(old, new) > told(-known.max(axis=1), -probability.max(axis=1))


def test_a_camera_that_makes_all_images_more_novel_is_allowed_for(rng):
    mixture, centres = learned(rng, 60)
    none = np.zeros((800, C), np.float32)

    def noisy(count):
        label = np.repeat(np.arange(8), count)
        return (centres[label] + rng.normal(size=(len(label), D)) * 1.5).astype(np.float32)

    seen = noisy(100)
    assert np.mean(mixture.judge(none, seen)[1] > 0.95) > 0.3
    few = noisy(4)
    mixture.bank.novelty.camera = mixture.bank.novelty.through(mixture.signals(none[: len(few)], few))
    assert np.mean(mixture.judge(none, seen)[1] > 0.95) == pytest.approx(0.05, abs=0.04)
    strange = judged(mixture, rng, centres * 3, np.array([8, 9]))[1]
    assert np.mean(strange > 0.95) > 0.5
    before = mixture.bank.novelty.usual.copy()
    mixture.learn(none[:100], seen[:100], np.repeat(0, 100))  # which are taken in as the host would have seen them
    assert mixture.bank.novelty.usual[1] < before[1] + np.sqrt(before[2] / before[0])


def test_images_of_the_same_camera_change_little(rng):
    mixture, centres = learned(rng, 60)
    novelty, usual = mixture.bank.novelty, judged(mixture, rng, centres, np.arange(8))[1]
    rejected = []
    for _ in range(40):
        label = np.arange(8)
        feature = (centres[label] + rng.normal(size=(8, D))).astype(np.float32)
        novelty.camera = novelty.through(mixture.signals(np.zeros((8, C), np.float32), feature))
        rejected.append(np.mean(judged(mixture, rng, centres, np.arange(8), 40)[1] > 0.95))
    assert np.mean(rejected) == pytest.approx(np.mean(usual > 0.95), abs=0.03)


def test_where_nothing_was_seen_a_camera_tells_nothing():
    mixture = Mixture(empty_bank(C, K, D, R), np.zeros(D), np.ones(D), 0.0)
    np.testing.assert_array_equal(mixture.bank.novelty.through(np.ones((9, 2))), [[0, 0], [1, 1]])


@pytest.mark.slow
def test_one_at_a_time_the_rate_holds_too(rng):
    centres = rng.normal(size=(C, D)) * 0.8
    mixture = Mixture(empty_bank(C, K, D, R), np.zeros(D), np.ones(D), 0.0)
    for slot in rng.integers(0, 8, 800):
        row = (centres[slot] + rng.normal(size=D)).astype(np.float32)
        mixture.learn(np.zeros((1, C), np.float32), row[None], np.array([slot]))
    novelty = judged(mixture, rng, centres, np.arange(8))[1]
    assert np.mean(novelty > 0.95) == pytest.approx(0.05, abs=0.03)


def test_nothing_is_novel_before_enough_was_seen(rng):
    mixture, centres = learned(rng, 2)
    assert not judged(mixture, rng, centres, np.arange(10))[1].any()


def test_signals_are_finite_for_certainties():
    found = signals(np.array([-1e3, 0.0]), np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1], [0.0, 0.0], atol=1e-9)


def test_what_was_seen_when_the_bank_was_small_counts_less():
    arrays = {"usual": np.zeros(6), "novelties": np.zeros(80, np.float32)}
    novelty = Novelty(arrays)
    novelty.take(np.tile([1.0, 0.0], (40, 1)), known=40.0)
    novelty.take(np.tile([5.0, 0.0], (1, 1)), known=80.0)
    assert arrays["usual"][0] == pytest.approx(21.0, abs=0.3)
    novelty.take(np.zeros((0, 2)), known=160.0)  # nothing seen, nothing changed
    assert arrays["usual"][5] == 80.0
