"""CBPNet for TensorFlow Lite: prompted vision transformers with a head that goes on learning on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firmware_host.shared.version import __version__

if TYPE_CHECKING:
    from keras_cbpnet.models.backbone import Backbone

__all__ = ["Backbone", "__version__"]


def __getattr__(name: str) -> Any:
    """Import what needs Keras only when it is asked for."""
    if name == "Backbone":
        from keras_cbpnet.models.backbone import Backbone

        return Backbone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
