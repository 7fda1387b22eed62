// An example: predict, learn the same image as a class, predict again, keep what was learned.
// Give the functions below your camera, your flash and your serial port.
#include <cstdio>

#include "cbpnet.h"

namespace {

alignas(4) uint8_t image[cbpnet::kImageBytes];
alignas(4) uint8_t saved[cbpnet::kStateBytes];  // on a board: a flash sector

void TakePicture() {
  for (size_t i = 0; i < sizeof(image); ++i) image[i] = static_cast<uint8_t>(i * 7);
}

bool Show(const char* what) {
  cbpnet::Prediction prediction;
  if (cbpnet::Predict(image, &prediction) != cbpnet::Status::kOk) return false;
  std::printf("%s: class %d, probability %.6f\n", what, prediction.label,
              static_cast<double>(prediction.probability));
  return true;
}

int Run() {
  const cbpnet::Status status = cbpnet::Init();
  if (status != cbpnet::Status::kOk) {
    std::printf("Init failed: %d\n", static_cast<int>(status));
    return 1;
  }
  TakePicture();
  if (!Show("before")) return 1;
  if (cbpnet::ExportState(saved, sizeof(saved)) != cbpnet::Status::kOk) return 1;
  const int label = cbpnet::kClasses < cbpnet::kSlots ? cbpnet::kClasses : 0;  // the first spare slot
  for (int step = 0; step < 10; ++step) {
    cbpnet::LearnResult result;
    if (cbpnet::Learn(image, label, &result, cbpnet::kLearningRate, step == 0) != cbpnet::Status::kOk) return 1;
    std::printf("step %d: loss %.6f, replaced %d\n", step, static_cast<double>(result.loss), result.replaced);
  }
  if (!Show("after")) return 1;
  if (cbpnet::ImportState(saved, sizeof(saved)) != cbpnet::Status::kOk) return 1;
  return Show("restored") ? 0 : 1;
}

}  // namespace

#ifdef ESP_PLATFORM
extern "C" void app_main() { Run(); }
#else
int main() { return Run(); }
#endif
