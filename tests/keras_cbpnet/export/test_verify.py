"""What a conversion may lose: a point of accuracy, and what chance gives and takes; what it says of a wrong head."""

import re

import numpy as np
import pytest
from helpers.head_case import Case
from helpers.head_steps import head_layer

from firmware_host.shared.runtimes import installed_interpreters
from keras_cbpnet.errors import UserError
from keras_cbpnet.export import verify
from keras_cbpnet.export.verify import check_accuracy, check_features, mean_cosine

pytestmark = pytest.mark.slow  # each builds or trains networks


def hits(images, right, lost=0, gained=0):
    """Float32 model with `right` of `images` right, and a bundle that lost some of these and gained others."""
    expected = np.arange(images) < right
    found = expected.copy()
    found[:lost] = False
    found[right : right + gained] = True
    return found, expected


@pytest.mark.parametrize(
    ("images", "right", "lost", "gained"),
    [(216, 211, 0, 0), (216, 211, 4, 0), (216, 211, 4, 1), (5000, 2600, 57, 0), (5000, 2600, 400, 330), (20, 18, 1, 0)],
)
def test_a_point_and_one_standard_error_may_be_lost(images, right, lost, gained):
    check_accuracy(*hits(images, right, lost, gained))


@pytest.mark.parametrize(
    ("images", "right", "lost", "gained"),
    [(216, 211, 5, 0), (215, 209, 6, 0), (215, 209, 7, 1), (5000, 2600, 60, 0), (5000, 2600, 400, 320), (20, 18, 2, 0)],
)
def test_more_is_refused(images, right, lost, gained):
    with pytest.raises(UserError, match=r"at most one point may be lost"):
        check_accuracy(*hits(images, right, lost, gained))


@pytest.mark.parametrize(
    ("recipe", "qat", "expected"),
    [
        ("int8", False, "; train with --qat, or use --recipe mixed or hybrid or float32"),
        ("int8", True, "; use --recipe mixed or hybrid or float32"),
        ("mixed", True, "; use --recipe hybrid or float32"),
        ("hybrid", False, "; use --recipe float32"),
        ("float32", True, "; nothing is rounded by this recipe, so please report this with the command that led to it"),
    ],
)
def test_the_remedy_is_one_that_can_help(recipe, qat, expected):
    assert verify.remedy(recipe, qat) == expected


def test_gaining_is_no_loss():
    check_accuracy(*hits(200, 100, lost=3, gained=60))


def noisy(x, cosine, seed):
    """Return rows that have about this cosine to those of `x`."""
    noise = np.random.default_rng(seed).normal(size=x.shape)
    return x + x.std() * noise * np.sqrt(1 / cosine**2 - 1)


@pytest.mark.parametrize(("model", "allowed"), [(0.999, 0.99), (0.97, 0.97), (0.6, 0.95)])
def test_features_may_part_as_far_as_the_models_own_rounding(model, allowed):
    plain = np.random.default_rng(0).normal(size=(400, 192))
    expected = noisy(plain, model, seed=1)
    assert mean_cosine(expected, plain) == pytest.approx(model, abs=0.005)
    close = noisy(expected, allowed + 0.003, seed=2)
    assert check_features(close, expected, plain) == mean_cosine(close, expected)
    with pytest.raises(UserError, match=rf"cosine of 0\.\d{{4}} to the model's, needed {allowed:.2f}"):
        check_features(noisy(expected, allowed - 0.003, seed=2), expected, plain)
    with pytest.raises(UserError, match="cosine of nan"):
        check_features(np.full_like(plain, np.nan), expected, plain)


@pytest.mark.parametrize("runtime", installed_interpreters())
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_head_learns_as_keras_does_under_every_runtime(runtime, optimizer, monkeypatch):
    from keras_cbpnet.export.head import convert_head

    monkeypatch.setattr(verify, "HEAD_STEPS", 12)
    case = Case("prototype", 6, 4, 5, 8, {"maturity_threshold": 2, "replacement_rate": 0.2, "optimizer": optimizer})
    head = head_layer(case, case.start())
    assert 0 < verify.check_head(convert_head(head), head, runtime) < 1e-5


def test_what_a_runtime_says_of_a_broken_head_is_passed_on():
    case = Case("mlp", 6, 4, 5, 8, {})
    head = head_layer(case, case.start())
    with pytest.raises(
        UserError, match=r"ai_edge_litert cannot run the head \(.*Error: .*\); pip install --force-rein"
    ):
        verify.check_head(b"this is text", head, "ai_edge_litert")


@pytest.mark.parametrize("runtime", installed_interpreters())
def test_a_wrong_head_is_told_tensor_by_tensor(runtime, monkeypatch):
    from keras_cbpnet.export.head import convert_head

    monkeypatch.setattr(verify, "HEAD_STEPS", 3)
    case = Case("mlp", 6, 4, 5, 8, {"maturity_threshold": 100})
    head, state = head_layer(case, case.start()), case.start()
    state["mean_activation"][2] += 0.4
    state["utility"][1] += 0.25
    content = convert_head(head_layer(case, state))
    found = r"differs from Keras by 4\.0e-01 after 3 steps.*; worst first: mean_activation 4\.0e-01, utility 2\.5e-01, "
    with pytest.raises(UserError, match=found) as error:
        verify.check_head(content, head, runtime)
    assert len(re.findall(r"\d\.\de-\d\d", str(error.value).split("worst first")[1])) == verify.WORST
