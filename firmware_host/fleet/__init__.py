"""Many devices that share what they learned: sums over images are exchanged, never images and never weights.

`delta`: what one device was taught, as an object and as bytes; `check`: which deltas are refused; `merge`: what a set
of deltas amounts to; `own`: what this device itself was taught; `base`: what a bundle starts with; `sign`: the group's
key; `peers`: what others taught, on disk; `exchange`: who tells what to whom; `member`: a device that takes part;
`group`: the same over MQTT.

The heart is small: `Delta.to_bytes`, `Delta.from_bytes`, and `merged(base, deltas, slots)`, a function of the set of
deltas alone. Import it from its modules.
"""
