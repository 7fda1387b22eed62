"""Training: the loop over tasks, quantization-aware training, the report."""
