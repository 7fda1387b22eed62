"""What reads or edits a .tflite file, whatever is in it."""
