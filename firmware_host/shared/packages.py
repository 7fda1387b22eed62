"""What to install when a package does not import."""

from __future__ import annotations

import re

import numpy as np

from firmware_host.shared.errors import DeviceError

__all__ = ["missing_package", "need_pillow"]

OURS = ("firmware_host", "keras_cbpnet")
EXTRAS = {  # of this distribution; for every other package its own name is right
    "ai_edge_litert": "device",
    "cv2": "video",
    "keras": "train",
    "tensorflow": "train",
    "tensorflow_model_optimization": "train",
    "tf_keras": "train",
    "tflite_micro": "micro",
    "tflite_runtime": "device-legacy",
}
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn"}  # of a module whose package has another name


def missing_package(error: ImportError) -> str:
    """Return the line about a package that does not import, with the pip command that repairs it.

    Raises `error` itself when the module is one of ours: that is a defect.
    """
    reason = " ".join(str(error).split())
    quoted = re.search(r"'([\w.]+)'", reason)
    module = (error.name or (quoted[1] if quoted else "")).partition(".")[0]
    if module in OURS:
        raise error
    if "numpy" in reason and np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # built for NumPy 1
        return f'a package does not work with NumPy {np.__version__} ({reason}): pip install "numpy<2"'
    if not module:
        return f"a package cannot be imported ({reason}): install it again with pip install --force-reinstall"
    package = f'"keras-cbpnet[{EXTRAS[module]}]"' if module in EXTRAS else NAMES.get(module, module)
    return f"{module} cannot be imported ({reason}): install it with pip install {package}"


def need_pillow() -> None:
    """Raise DeviceError with what to do where Pillow is missing or damaged."""
    try:
        import PIL.Image
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise DeviceError(
            f"reading images needs Pillow ({reason}): install it with pip install --upgrade pillow"
        ) from None
    del PIL
