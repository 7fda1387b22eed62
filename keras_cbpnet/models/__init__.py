"""Models: the backbone and the prompted classifier, with what reads, calibrates and rotates their weights."""
