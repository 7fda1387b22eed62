"""Image data: sources (a data set by name), streams (tasks made of it) and preprocessing."""

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.preprocessing import resize_images
from keras_cbpnet.data.sources import load_dataset
from keras_cbpnet.data.streams import Task, class_incremental

__all__ = ["Dataset", "Task", "class_incremental", "load_dataset", "resize_images"]
