"""Class statistics: Welford against numpy on the whole batch, and what is drawn from them."""

import numpy as np
import pytest

from firmware_host.bundle import ClassStatistics


@pytest.fixture
def observed():
    rng = np.random.default_rng(0)
    label = rng.choice([0, 2, 3], 400, p=[0.2, 0.3, 0.5])
    mixing = rng.normal(size=(4, 4))
    feature = rng.normal(size=(5, 4))[label] * 10 + rng.normal(size=(400, 4)) @ mixing
    statistics = ClassStatistics.empty(5, 4)
    for row, slot in zip(feature, label):
        statistics.update(row, int(slot))
    return statistics, feature, label


def test_one_image_at_a_time_equals_the_batch(observed):
    statistics, feature, label = observed
    centred = np.concatenate([feature[label == slot] - feature[label == slot].mean(axis=0) for slot in (0, 2, 3)])
    np.testing.assert_array_equal(statistics.count, np.bincount(label, minlength=5))
    np.testing.assert_array_equal(statistics.seen, [0, 2, 3])
    for slot in (0, 2, 3):
        np.testing.assert_allclose(statistics.mean[slot], feature[label == slot].mean(axis=0))
    np.testing.assert_allclose(statistics.scatter, centred.T @ centred, atol=1e-9)
    expected = np.cov(centred, rowvar=False, bias=True) * 400 / 397
    np.testing.assert_allclose(statistics.covariance(), expected, atol=1e-10)


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_many_at_once_equal_one_by_one(observed, parts):
    statistics, feature, label = observed
    joined = ClassStatistics.empty(5, 4)
    for rows in np.array_split(np.arange(len(label)), parts):
        joined.update_all(feature[rows], label[rows])
    np.testing.assert_array_equal(joined.count, statistics.count)
    np.testing.assert_allclose(joined.mean, statistics.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(joined.scatter, statistics.scatter, rtol=1e-10, atol=1e-8)
    joined.update(feature[0], 0)  # and one by one from there
    statistics.update(feature[0], 0)
    np.testing.assert_allclose(joined.covariance(), statistics.covariance(), rtol=1e-10, atol=1e-10)


def test_many_at_once_reach_the_next_sample():
    statistics = ClassStatistics.empty(1, 2)
    statistics.update_all(np.array([[1.0, 2.0]]), np.array([0]))
    np.testing.assert_array_equal(statistics.sample(np.random.default_rng(0), 3)[0], [[1, 2]] * 3)
    statistics.update_all(np.array([[5.0, 2.0]]), np.array([0]))
    assert statistics.sample(np.random.default_rng(0), 500)[0].std(axis=0).min() > 0.1
    before = statistics.arrays()
    statistics.update_all(np.zeros((0, 2)), np.zeros(0, int))
    for name, value in statistics.arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_far_from_zero_the_scatter_keeps_its_digits():
    feature = 1e6 + np.random.default_rng(2).normal(size=(60, 3)).astype(np.float64)
    statistics = ClassStatistics.empty(1, 3)
    for rows in (feature[:20], feature[20:21], feature[21:]):
        statistics.update_all(rows, np.zeros(len(rows), int))
    np.testing.assert_allclose(statistics.covariance(), np.cov(feature, rowvar=False), rtol=1e-6, atol=1e-6)


def test_one_class_gives_numpys_covariance():
    feature = np.random.default_rng(1).normal(size=(30, 3))
    statistics = ClassStatistics.empty(2, 3)
    for row in feature:
        statistics.update(row, 1)
    np.testing.assert_allclose(statistics.covariance(), np.cov(feature, rowvar=False), atol=1e-12)


def test_shrinkage_keeps_the_total_variance(observed):
    statistics, *_ = observed
    full, half = statistics.covariance(), statistics.covariance(0.5)
    assert np.trace(half) == pytest.approx(np.trace(full))
    np.testing.assert_allclose(half - np.diag(np.diag(half)), 0.5 * (full - np.diag(np.diag(full))))
    np.testing.assert_allclose(statistics.covariance(1.0), np.eye(4) * np.trace(full) / 4)


def test_samples_are_balanced_and_have_the_statistics(observed):
    statistics, *_ = observed
    feature, label = statistics.sample(np.random.default_rng(0), 30_000)
    assert (feature.dtype, label.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(np.bincount(label, minlength=5), [10_000, 0, 10_000, 10_000, 0])
    for slot in (0, 2, 3):
        rows = feature[label == slot]
        np.testing.assert_allclose(rows.mean(axis=0), statistics.mean[slot], atol=0.15)
        np.testing.assert_allclose(np.cov(rows, rowvar=False), statistics.covariance(0.05), atol=0.4)


def test_a_short_sample_has_no_class_twice(observed):
    statistics, *_ = observed
    rng = np.random.default_rng(0)
    drawn = [sorted(statistics.sample(rng, 2)[1]) for _ in range(50)]
    assert {tuple(pair) for pair in drawn} == {(0, 2), (0, 3), (2, 3)}
    assert statistics.sample(rng, 0)[0].shape == (0, 4)


def test_the_same_generator_gives_the_same_rows(observed):
    statistics, *_ = observed
    first, second = (statistics.sample(np.random.default_rng(4), 7) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_an_update_reaches_the_next_sample():
    statistics = ClassStatistics.empty(1, 2)
    statistics.update(np.array([1.0, 2.0]), 0)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(statistics.sample(rng, 3)[0], [[1, 2]] * 3)  # one image: no spread
    statistics.update(np.array([5.0, 2.0]), 0)
    feature, _ = statistics.sample(rng, 4000)
    assert feature[:, 0].std() == pytest.approx(np.sqrt(8 * 0.975), rel=0.05)  # 5 % of the variance goes to both
    assert feature[:, 1].std() == pytest.approx(np.sqrt(8 * 0.025), rel=0.05)


@pytest.mark.parametrize("shrinkage", [0.0, 0.05])
def test_few_images_in_many_dimensions_can_be_sampled(shrinkage):
    statistics = ClassStatistics.empty(3, 50, shrinkage=shrinkage)
    rng = np.random.default_rng(0)
    for slot in (0, 1, 2):
        statistics.update(rng.normal(size=50), slot)
    feature, label = statistics.sample(rng, 6)
    np.testing.assert_allclose(feature, statistics.mean[label].astype(np.float32))  # as many images as classes
    statistics.update(rng.normal(size=50), 0)
    feature, _ = statistics.sample(rng, 6)
    assert np.all(np.isfinite(feature))
    assert feature.std() > 0


def test_bad_input_is_refused():
    statistics = ClassStatistics.empty(2, 3)
    with pytest.raises(ValueError, match="no image yet"):
        statistics.sample(np.random.default_rng(0), 1)
    for label in (-1, 2):
        with pytest.raises(ValueError, match=f"label {label} is not a slot: give 0 to 1"):
            statistics.update(np.zeros(3), label)
        with pytest.raises(ValueError, match=f"label {label} is not a slot: give 0 to 1"):
            statistics.update_all(np.zeros((3, 3)), np.array([0, 1, label]))
    with pytest.raises(ValueError, match="do not fit"):
        ClassStatistics(np.zeros((2, 3)), np.zeros(2), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="shrinkage is 2"):
        ClassStatistics.empty(2, 3, shrinkage=2)


def test_a_copy_is_independent(observed):
    statistics, *_ = observed
    copy = statistics.copy()
    copy.update(np.ones(4), 1)
    assert statistics.count[1] == 0
    assert sorted(copy.arrays()) == ["count", "mean", "scatter"]


def test_the_next_image_of_a_class_of_few_images_is_expected_where_it_comes():
    rng = np.random.default_rng(0)
    slots, n, d = 300, 3, 8
    mixing = np.eye(d) + 0.3 * rng.normal(size=(d, d))
    own = 5 + 1.5 * rng.normal(size=(slots, d)) @ mixing  # class means scatter 1.5 times as wide as images

    def images(label):
        return own[label] + rng.normal(size=(len(label), d)) @ mixing

    statistics = ClassStatistics.empty(slots, d, shrinkage=0.0)
    label = np.tile(np.arange(slots), n)
    statistics.update_all(images(label), label)
    label = np.tile(np.arange(slots), 40)
    drawn = {"next": images(label), "expected": statistics.expect(rng, label)}
    taken_as_it_is = statistics.mean[label] + rng.normal(size=(len(label), d)) @ mixing
    inverse = np.linalg.inv(mixing.T @ mixing)

    def along(feature):  # how far a feature goes into the direction in which its class's mean lies
        mean = statistics.mean[label] - 5
        return np.mean(np.einsum("nd,de,ne->n", feature - 5, inverse, mean))

    assert along(drawn["expected"]) == pytest.approx(along(drawn["next"]), rel=0.05)
    assert along(taken_as_it_is) > 1.1 * along(drawn["next"])
    spread = [np.trace(inverse @ np.cov(drawn[what].T)) for what in ("expected", "next")]
    assert spread[0] == pytest.approx(spread[1], rel=0.05)
    settled = ClassStatistics(own, np.full(slots, 1e6), np.eye(d) * slots * 1e6)
    assert np.abs(settled.expect(rng, label) - own[label]).std() == pytest.approx(0.603, abs=0.02)  # of |N(0, 1)|


def test_without_classes_to_judge_by_the_mean_is_taken_as_it_is():
    statistics = ClassStatistics([[5.0], [0.0]], [1, 0], np.eye(1) * 0)
    np.testing.assert_array_equal(statistics.expect(np.random.default_rng(0), np.array([0, 0])), [[5], [5]])


@pytest.mark.parametrize(("classes", "kept"), [(2, True), (3, False)])
def test_three_classes_are_enough_to_judge_by(classes, kept):
    """Means that differ by less than the images' own spread say nothing: each class's next image is at the centre."""
    mean = np.array([[1.0], [1.6], [0.4]])[:classes]
    statistics = ClassStatistics(mean, np.ones(classes), np.eye(1))  # images spread by 1 around their class mean
    label = np.arange(classes).repeat(20_000)
    expected = statistics.expect(np.random.default_rng(0), label)
    for slot in range(classes):
        wanted = mean[slot, 0] if kept else 1.0
        assert expected[label == slot].mean() == pytest.approx(wanted, abs=0.05)


def test_a_scatter_that_no_images_can_have_is_an_error():
    statistics = ClassStatistics(np.zeros((1, 2)), [9], np.diag([10.0, -5.0]), shrinkage=0.0)
    with pytest.raises(np.linalg.LinAlgError):
        statistics.sample(np.random.default_rng(0), 1)


def test_features_in_single_precision_are_summed_in_double():
    feature = (1e3 + np.random.default_rng(3).normal(size=(50, 3))).astype(np.float32)
    label = [0, 1] * 25
    joined, single = ClassStatistics.empty(2, 3), ClassStatistics.empty(2, 3)
    joined.update_all(feature, label)
    for row, slot in zip(feature, label):
        single.update(row, slot)
    np.testing.assert_allclose(joined.mean, single.mean, rtol=1e-12)
    np.testing.assert_allclose(joined.scatter, single.scatter, rtol=1e-6, atol=1e-6)


def test_how_far_class_means_scatter_is_taken_without_bias():
    """Four means whose unbiased variance is 2, each of one image of variance 1: true means scatter by 2 - 1 = 1."""
    away = np.sqrt(3.0)
    statistics = ClassStatistics([[5.0], [5.0], [5 + away], [5 - away]], np.ones(4), np.eye(1))
    expected = statistics.expect(np.random.default_rng(0), np.full(40_000, 2))
    assert expected.mean() == pytest.approx(5 + away / 2, abs=0.03)  # 1 / (1 + 1) of the way is kept
    assert expected.var() == pytest.approx(1.5, abs=0.05)


def test_the_covariance_may_be_its_diagonal_alone():
    feature = np.random.default_rng(4).normal(size=(40, 2)) @ np.array([[1.0, 1.0], [0.0, 1.0]])
    statistics = ClassStatistics.empty(1, 2, shrinkage=1.0)
    statistics.update_all(feature, np.zeros(40, int))
    drawn = statistics.sample(np.random.default_rng(0), 20_000)[0]
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(2) * np.trace(np.cov(feature.T)) / 2, atol=0.1)
