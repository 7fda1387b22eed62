"""CBPNet and its rivals, by the name that `--method` takes."""

from __future__ import annotations

from keras_cbpnet.methods.cbpnet import CBPNetMethod
from keras_cbpnet.methods.dualprompt import DualPrompt
from keras_cbpnet.methods.finetune import Finetune
from keras_cbpnet.methods.l2p import L2P
from keras_cbpnet.methods.method import Method, Seen
from keras_cbpnet.methods.ncm import NearestClassMean
from keras_cbpnet.methods.ranpac import RanPAC
from keras_cbpnet.methods.slda import SLDA

__all__ = ["METHODS", "Method", "Seen"]

METHODS: dict[str, Method] = {
    "cbpnet": CBPNetMethod(),
    "dualprompt": DualPrompt(),
    "l2p": L2P(),
    "finetune": Finetune(),
    "ncm": NearestClassMean(),
    "slda": SLDA(),
    "ranpac": RanPAC(),
}
