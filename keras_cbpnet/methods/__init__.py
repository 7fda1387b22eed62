"""CBPNet and the methods it is compared with; `keras_cbpnet.tables.METHODS` lists them as `--method` takes them."""
