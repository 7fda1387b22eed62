"""CBPNet for TensorFlow Lite: prompted vision transformers with a head that goes on learning on the device."""

__version__ = "0.1.0"
