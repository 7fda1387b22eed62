"""Models: backbone, head and CBPNet."""
