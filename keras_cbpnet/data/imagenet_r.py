"""ImageNet-R (Hendrycks et al., The Many Faces of Robustness, ICCV 2021): renditions of 200 ImageNet classes."""

from __future__ import annotations

from firmware_host.shared.folders import listed
from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.download import Archive, require_data
from keras_cbpnet.data.files import datasets_folder, user_errors
from keras_cbpnet.data.folder import load_class_folders
from keras_cbpnet.data.preprocessing import ImageSize
from keras_cbpnet.errors import UserError

__all__ = ["load_imagenet_r"]

ARCHIVE = Archive(
    "ImageNet-R",
    "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
    "a61312130a589d0ca1a8fca1f2bd3337",  # MD5, the one that is public
    "its authors state no licence; the pictures belong to their makers",
)
CLASSES = 200


def load_imagenet_r(image_size: ImageSize, seed: int = 0) -> Dataset:
    """Load the 30,000 images, downloading them once (2.2 GB); classes have their WordNet numbers as names.

    It has no official split; the shares are those of DualPrompt (Wang et al., ECCV 2022), drawn class by class.

    Args:
        image_size: side of the images in pixels, or (height, width).
        seed: seed of the 80/20 split into training and test images.

    Returns:
        The data set.

    Raises:
        UserError: the folder imagenet-r cannot be downloaded or is incomplete, or an image is damaged.
    """
    root = datasets_folder() / "imagenet-r"
    require_data(root, ARCHIVE)
    with user_errors():
        found = len(listed(root).folders)
    if found != CLASSES:
        raise UserError(f"{root} has {found} class folders, ImageNet-R has {CLASSES}; unpack imagenet-r.tar again")
    return load_class_folders(root, image_size, seed)
