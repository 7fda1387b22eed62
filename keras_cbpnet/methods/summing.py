"""What methods share whose head sums over the images of all tasks."""

from __future__ import annotations

from keras_cbpnet.config import TrainConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.methods.method import Method


class SummingMethod(Method):
    """A head with sums of its own, that no task starts again."""

    in_bundle = False

    def check(self, config: TrainConfig) -> None:
        super().check(config)
        if config.stream == "drifting":
            raise UserError(
                f"--method {config.method} sums over all tasks: --stream drifting, which uses labels again, is not "
                "for it"
            )
