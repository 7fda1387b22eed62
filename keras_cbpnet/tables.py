"""Every list of names that a user chooses from, once: what a name stands for is imported when it is asked for.

So `--help`, choices and errors need neither Keras nor TensorFlow. To add one: write its file, add its line here.
Presets are in `presets`, forms of the head's block in `firmware_host.bundle`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from keras_cbpnet.errors import UserError

__all__ = ["METHODS", "NAMED_SOURCES", "PATH_SOURCES", "RULES", "SELECTIONS", "STREAMS", "Table"]


class Table(Mapping[str, Any]):
    """Classes or functions by name; reading the names imports nothing.

    Args:
        kind: what the names are names of, for error messages.
        places: `module:attribute` by name.
    """

    def __init__(self, kind: str, places: dict[str, str]) -> None:
        self.kind, self.places = kind, places

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self.places[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def find(self, name: str) -> Any:
        """Return what `name` stands for.

        Raises:
            UserError: the table has no such name; the message lists those that it has.
        """
        self.check(name)
        return self[name]

    def check(self, name: str) -> None:
        """Refuse a name that the table does not have, as `find`, and import nothing."""
        if name not in self:
            raise UserError(f"unknown {self.kind} {name!r}; choose one of {', '.join(self)}")


METHODS = Table(  # `--method`: subclasses of methods.method.Method
    "method",
    {
        "cbpnet": "keras_cbpnet.methods.cbpnet:CBPNetMethod",
        "bank": "keras_cbpnet.methods.bank:BankMethod",
        "dualprompt": "keras_cbpnet.methods.dualprompt:DualPrompt",
        "l2p": "keras_cbpnet.methods.l2p:L2P",
        "finetune": "keras_cbpnet.methods.finetune:Finetune",
        "ncm": "keras_cbpnet.methods.ncm:NearestClassMean",
        "slda": "keras_cbpnet.methods.slda:SLDA",
        "ranpac": "keras_cbpnet.methods.ranpac:RanPAC",
        "klda": "keras_cbpnet.methods.klda:KLDA",
        "foster": "keras_cbpnet.methods.foster:FosterMethod",
    },
)
RULES = Table(  # `--plasticity`: subclasses of plasticity.rule.Rule
    "plasticity rule",
    {
        "cbp": "keras_cbpnet.plasticity.cbp:Cbp",
        "cbp_random": "keras_cbpnet.plasticity.cbp_random:CbpRandom",
        "cbp_surprise": "keras_cbpnet.plasticity.cbp_surprise:CbpSurprise",
        "none": "keras_cbpnet.plasticity.none:Nothing",
        "l2": "keras_cbpnet.plasticity.l2:L2",
        "l2_init": "keras_cbpnet.plasticity.l2_init:L2Init",
        "shrink_perturb": "keras_cbpnet.plasticity.shrink_perturb:ShrinkPerturb",
        "redo": "keras_cbpnet.plasticity.redo:ReDo",
        "swr": "keras_cbpnet.plasticity.swr:Swr",
        "adalin": "keras_cbpnet.plasticity.adalin:AdaLin",
        "head_reset": "keras_cbpnet.plasticity.head_reset:HeadReset",
        "stable": "keras_cbpnet.plasticity.stable:Stable",
    },
)
STREAMS = Table(  # `--stream`: functions as data.streams.make_stream calls them
    "stream",
    {
        "class": "keras_cbpnet.data.streams.class_incremental:class_incremental",
        "drifting": "keras_cbpnet.data.streams.drifting:drifting",
        "domain": "keras_cbpnet.data.streams.domain_incremental:domain_incremental",
    },
)
SELECTIONS = Table(  # `--prompt-selection`: layers of DualPrompt's prompts
    "prompt selection",
    {
        "key": "keras_cbpnet.layers.prompts:Prompts",
        "fixed": "keras_cbpnet.layers.fixed_prompt:FixedPrompt",
    },
)
NAMED_SOURCES = Table(  # `--dataset NAME`: functions of image size and seed that give a data.dataset.Dataset
    "data set",
    {
        "digits": "keras_cbpnet.data.digits:load_digits",
        "cifar100": "keras_cbpnet.data.cifar100:load_cifar100",
        "imagenet_r": "keras_cbpnet.data.imagenet_r:load_imagenet_r",
        "cub200": "keras_cbpnet.data.cub200:load_cub200",
        "core50": "keras_cbpnet.data.core50:load_core50",
    },
)
PATH_SOURCES = Table(  # `--dataset KIND:PATH`: functions of path and image size, likewise
    "kind of data set",
    {
        "folder": "keras_cbpnet.data.folder:load_folder",
        "domains": "keras_cbpnet.data.domains:load_domains",
        "npz": "keras_cbpnet.data.npz:load_npz",
        "csi": "keras_cbpnet.data.recordings:load_csi",
        "series": "keras_cbpnet.data.recordings:load_series",
    },
)
