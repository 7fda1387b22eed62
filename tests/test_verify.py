"""What a conversion may lose: a point of accuracy, and what chance gives and takes."""

import numpy as np
import pytest

from keras_cbpnet.errors import UserError
from keras_cbpnet.export.verify import check_accuracy


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
    with pytest.raises(UserError, match=r"at most one point may be lost.*use --recipe float32"):
        check_accuracy(*hits(images, right, lost, gained))


def test_gaining_is_no_loss():
    check_accuracy(*hits(200, 100, lost=3, gained=60))
