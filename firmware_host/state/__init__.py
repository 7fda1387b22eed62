"""What the device has learned: complete and checked, in two slots of a folder that are written in turn."""

from firmware_host.state.encoding import STATE_SCHEMA_VERSION
from firmware_host.state.folder import StateFolder, default_folder, read_state
from firmware_host.state.learned import LearnedState

__all__ = ["STATE_SCHEMA_VERSION", "LearnedState", "StateFolder", "default_folder", "read_state"]
