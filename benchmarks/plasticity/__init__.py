"""Loss of plasticity over a thousand tasks, rule by rule: `python -m benchmarks.plasticity`."""
