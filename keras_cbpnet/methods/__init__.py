"""CBPNet and its rivals, one a file; `keras_cbpnet.tables.METHODS` has them by the name that `--method` takes."""
