// An example: a feature is sent, its class is told, and what the edge learned is taken over.
// Give the functions below your sensor and your radio.
#include <cstdio>

#include "cbpnet.h"

namespace {

alignas(4) uint8_t image[cbpnet::kImageBytes];
alignas(4) uint8_t state[cbpnet::kStateBytes];
int8_t feature[cbpnet::kFeatures];

void TakePicture() {
  for (size_t i = 0; i < sizeof(image); ++i) image[i] = static_cast<uint8_t>(i * 7);
}

void Send(const int8_t* bytes, int size) {
  std::printf("feature of %s:", cbpnet::kBackbone);
  for (int i = 0; i < size; ++i) std::printf(" %d", bytes[i]);
  std::printf("\n");
}

bool Receive(uint8_t* bytes, size_t size) {  // here: what this end knows already
  return cbpnet::ExportState(bytes, size) == cbpnet::Status::kOk;
}

int Run() {
  const cbpnet::Status status = cbpnet::Init();
  if (status != cbpnet::Status::kOk) {
    std::printf("Init failed: %d\n", static_cast<int>(status));
    return 1;
  }
  TakePicture();
  if (cbpnet::Feature(image, feature) != cbpnet::Status::kOk) return 1;
  Send(feature, cbpnet::kFeatures);
  if (Receive(state, sizeof(state)) && cbpnet::ImportState(state, sizeof(state)) != cbpnet::Status::kOk) return 1;
  cbpnet::Prediction prediction;
  if (cbpnet::Predict(feature, &prediction) != cbpnet::Status::kOk) return 1;
  std::printf("class %d, probability %.6f\n", prediction.label, static_cast<double>(prediction.probability));
  return 0;
}

}  // namespace

#ifdef ESP_PLATFORM
extern "C" void app_main() { Run(); }
#else
int main() { return Run(); }
#endif
