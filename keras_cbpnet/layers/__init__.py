"""Keras layers, one concept a file; float32 and channels last, whatever the user's keras.json says."""

import keras

from keras_cbpnet.keras_settings import apply_settings

apply_settings(keras)
