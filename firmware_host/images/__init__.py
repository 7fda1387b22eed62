"""Images: where they come from, with or without labels, and how any of them becomes the pixels a bundle takes."""

from firmware_host.images.loading import ImageLike, load_image

__all__ = ["ImageLike", "load_image"]
