"""What the device has learned: complete and checked, in two slots of a folder that are written in turn."""

from firmware_host.state.board import from_board, is_of_board, to_board
from firmware_host.state.encoding import to_bytes
from firmware_host.state.folder import StateFolder, default_folder, read_file, state_path
from firmware_host.state.growth import snapshot_for, state_from_bytes
from firmware_host.state.snapshot import Snapshot

__all__ = [
    "Snapshot",
    "StateFolder",
    "default_folder",
    "from_board",
    "is_of_board",
    "read_file",
    "snapshot_for",
    "state_from_bytes",
    "state_path",
    "to_board",
    "to_bytes",
]
