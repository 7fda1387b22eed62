"""What the benchmarks share: runs of the trainer, result files, tables, stages of a pipeline."""
