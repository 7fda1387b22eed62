"""From a trained model to a bundle: backbone and head to TFLite, golden vectors, verification."""
