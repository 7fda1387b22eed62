"""The C++ of an end, compiled for this machine without TFLM: what it says of features, and what it exports."""

import subprocess

import numpy as np

HARNESS = """#include "end.h"
#include <cstdio>
#include <vector>
// state file, file of features, file to write: what it says of each feature
int main(int, char** argv) {
  static cbpnet::End end;
  end.Init();
  std::vector<uint8_t> state(cbpnet::kStateBytes + 1);
  if (FILE* file = std::fopen(argv[1], "rb")) {
    const size_t size = std::fread(state.data(), 1, state.size(), file);
    std::fclose(file);
    if (end.Import(state.data(), size) != cbpnet::Status::kOk) return 3;
  }
  FILE* features = std::fopen(argv[2], "rb");
  int8_t stored[cbpnet::kFeatures];
  while (std::fread(stored, 1, sizeof(stored), features) == sizeof(stored)) {
    float feature[cbpnet::kFeatures], logits[cbpnet::kSlots];
    end.Dequantize(stored, feature);
    end.Logits(feature, logits);
    const cbpnet::Prediction found = end.Predict(feature);
    std::printf("%d %.9g", found.label, static_cast<double>(found.probability));
    for (float logit : logits) std::printf(" %.9g", static_cast<double>(logit));
    std::printf("\\n");
  }
  end.Export(state.data(), cbpnet::kStateBytes);
  FILE* out = std::fopen(argv[3], "wb");
  std::fwrite(state.data(), 1, cbpnet::kStateBytes, out);
  std::fclose(out);
}
"""


def build(micro, folder):
    """run(state, rows): label and logits of each row of int8 features, and the state that is then exported.

    Args:
        micro: the folder of that name in a bundle.
        folder: for the program and its files.
    """
    (folder / "harness.cc").write_text(HARNESS)
    sources = [folder / "harness.cc", micro / "cbpnet_models.cc"]
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", f"-I{micro}"]
    subprocess.run(["g++", *flags, *map(str, sources), "-o", str(folder / "board")], check=True)

    def run(state, rows):
        (folder / "rows").write_bytes(rows.tobytes())
        (folder / "state").write_bytes(state)
        files = [str(folder / name) for name in ("state" if state else "none", "rows", "out")]
        done = subprocess.run([str(folder / "board"), *files], capture_output=True, text=True)
        if done.returncode:
            return done.returncode, None, None
        found = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
        return found[:, 0].astype(int), found[:, 2:], (folder / "out").read_bytes()

    return run
