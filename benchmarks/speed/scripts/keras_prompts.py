"""One training step of prompts and head as `keras_cbpnet.train` does it: `keras_prompts.py CONFIG.json BATCH`.

CONFIG.json has the sizes of a backbone. The queries are known. The answer is microseconds an image.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.update(dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from answer import answer

from keras_cbpnet.keras_settings import use_keras


def main() -> None:
    """Answer until the input ends."""
    source, batch = sys.argv[1], int(sys.argv[2])
    use_keras("tensorflow")
    import keras

    from keras_cbpnet.config import BackboneConfig, HeadConfig, PromptConfig
    from keras_cbpnet.models.prompted_classifier import PromptedClassifier
    from keras_cbpnet.training.trainer import compile_prompts

    keras.utils.set_random_seed(0)
    config = BackboneConfig.from_dict(json.loads(Path(source).read_text()))
    model = PromptedClassifier(config, PromptConfig(), HeadConfig(batch=batch))
    model.build()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, config.image_size, config.image_size, 3)).astype(np.float32)
    labels = (np.arange(batch) % 16).astype(np.int32)
    query = rng.normal(size=(batch, config.width)).astype(np.float32)
    model.begin_task(query, range(16))
    compile_prompts(model, 1e-3)
    answer(lambda: model.train_on_batch({"images": images, "query": query}, labels), batch)


if __name__ == "__main__":
    main()
