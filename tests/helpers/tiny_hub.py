"""A checkpoint of a tiny ViT on a hub, and what cannot be fetched from it."""

import numpy as np
import pytest
from helpers import plain_vit
from safetensors.numpy import save

from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.hub import fetch

REPOSITORY = "someone/tiny_patch8_32"
FOLDER = "models--someone--tiny_patch8_32"
ADDRESS = f"hf:{REPOSITORY}"
CONFIG = BackboneConfig(
    image_size=32, stem=(), patch_size=8, width=16, depth=2, heads=2, mlp_width=24, activation="gelu"
)
CHECKPOINT = plain_vit.random_checkpoint(32, 8, 16, 2, 24)
CONTENT = save({name: np.ascontiguousarray(array) for name, array in CHECKPOINT.items()})


def refused(address=ADDRESS, *pinned):
    with pytest.raises(UserError) as error:
        fetch(address, *pinned)
    assert "\n" not in str(error.value)
    return str(error.value)
