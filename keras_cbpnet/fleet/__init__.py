"""A group of devices with a server in its middle: the server's part, a simulation, and both on Flower.

`hub`: what a server holds and says, whatever carries it; `simulation` of `inputs`: many devices in one process;
`server`: the ServerApp; `flower`: the folder that `flwr run` takes, and Flower's programs without telemetry; `cli`: the
command. A device's part is in `firmware_host.fleet`. Nothing here imports TensorFlow.
"""

from keras_cbpnet.fleet.cli import build_parser, main

__all__ = ["build_parser", "main"]
