"""What host and device share besides the bundle contract: pixels, statistics, files, errors (NumPy and Pillow only)."""
