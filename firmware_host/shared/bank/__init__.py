"""The bank, a learner made of sums, and its mixture with the block: the same on the host and on the device."""

from firmware_host.shared.bank.bank import Bank
from firmware_host.shared.bank.mixture import Mixture
from firmware_host.shared.bank.tensors import BANK, bank_axes, bank_shapes, empty_bank

__all__ = ["BANK", "Bank", "Mixture", "bank_axes", "bank_shapes", "empty_bank"]
