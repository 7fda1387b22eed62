"""`train_folder.py FOLDER WORK` trains ncm on an image folder at 448 px, and prints the peak of its memory in MiB."""

import sys
import tempfile
from pathlib import Path

from helpers import tiny_stream

from firmware_host.process_memory import peak_memory_mb
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.training.trainer import train

SIZE = 448
BACKBONE = BackboneConfig(image_size=SIZE, stem=(), patch_size=64, width=16, depth=2, heads=2, mlp_width=16)

if __name__ == "__main__":
    folder, work = sys.argv[1], Path(sys.argv[2])
    with tiny_stream.opened(Path(tempfile.mkdtemp(dir=work)), BACKBONE) as stream:
        config = stream.config(dataset=f"folder:{folder}", method="ncm", epochs=0, head_epochs=1)
        train(config, work / "run")
    sys.stdout.write(f"peak {peak_memory_mb()}\n")
