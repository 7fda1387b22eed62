"""Recordings of sensors other than cameras, as the pictures that a backbone takes: the same on host and device.

To add a kind: a module here with a reader, a line in `readers.READERS`, and its name in `bundle.contract.INPUTS`.
"""
