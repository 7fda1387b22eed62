"""How fast, beside others and beside earlier commits: `python -m benchmarks.speed`, which is what `make bench` runs."""
