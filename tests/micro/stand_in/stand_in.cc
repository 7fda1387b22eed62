// Stands in for TFLM, so that the API of cbpnet.h runs without it: the feature of an image is made of its first pixels,
// the block's logits are the feature's first numbers, and training does nothing. Reads records from standard input, a
// letter, an int32 label and an image: L learns it, R learns it again without counting it, P writes label and
// probability of a prediction, E keeps the state, D damages it, I takes it back; L, R and I write the status.
#include <cstdio>
#include <cstring>

#include "cbpnet.h"
#include "cbpnet_models.h"
#include "tensorflow/lite/micro/micro_interpreter.h"

namespace {

float feature[cbpnet::kFeatures], mask[cbpnet::kSlots], fresh[cbpnet::kFeatures], rate, observe;
float loss, logits[cbpnet::kSlots], counts[cbpnet::kSlots] = STAND_IN_COUNTS;
int32_t label, replaced = -1;
uint8_t image[cbpnet::kImageBytes], saved[cbpnet::kStateBytes];
float seen[cbpnet::kFeatures];
TfLiteTensor inputs[6], outputs[4], image_tensor, feature_tensor;
tflite::MicroInterpreter* backbone = nullptr;

bool Read(void* place, size_t bytes) { return std::fread(place, 1, bytes, stdin) == bytes; }
bool Write(const void* place, size_t bytes) { return std::fwrite(place, 1, bytes, stdout) == bytes; }
bool Write(cbpnet::Status status) {
  const int32_t number = static_cast<int32_t>(status);
  return Write(&number, sizeof(number));
}

}  // namespace

namespace cbpnet {
const unsigned char kBackboneModel[] = {0};
const unsigned char kHeadStepModel[] = {0};
}  // namespace cbpnet

namespace tflite {

uint32_t Model::version() const { return TFLITE_SCHEMA_VERSION; }
const Model* GetModel(const void* content) { return static_cast<const Model*>(content); }
MicroAllocator* MicroAllocator::Create(uint8_t* arena, size_t) { return reinterpret_cast<MicroAllocator*>(arena); }

MicroInterpreter::MicroInterpreter(const Model* model, const MicroOpResolver&, MicroAllocator*) {
  if (model == GetModel(cbpnet::kBackboneModel)) backbone = this;
}
MicroInterpreter::~MicroInterpreter() {}

TfLiteStatus MicroInterpreter::AllocateTensors() {
  static uint8_t pixels[cbpnet::kImageBytes];
  float* floats[] = {feature, nullptr, mask, &rate, fresh, &observe};
  for (int i = 0; i < 6; ++i) inputs[i].data.f = floats[i];
  inputs[cbpnet::kHeadLabel].data.i32 = &label;
  outputs[cbpnet::kHeadLoss].data.f = &loss;
  outputs[cbpnet::kHeadLogits].data.f = logits;
  outputs[cbpnet::kHeadReplaced].data.i32 = &replaced;
  outputs[cbpnet::kHeadState].data.f = counts;
  image_tensor.data.uint8 = pixels;
  feature_tensor.data.f = seen;
  return kTfLiteOk;
}

TfLiteStatus MicroInterpreter::Invoke() {
  if (this == backbone) {
    for (int i = 0; i < cbpnet::kFeatures; ++i) seen[i] = image_tensor.data.uint8[i] / 32.0f - 4.0f;
  } else {
    if (observe > 0.0f && label >= 0) counts[label] += 1.0f;
    std::memcpy(logits, feature, sizeof(logits));
  }
  return kTfLiteOk;
}

TfLiteTensor* MicroInterpreter::input(size_t index) { return this == backbone ? &image_tensor : &inputs[index]; }
TfLiteTensor* MicroInterpreter::output(size_t index) { return this == backbone ? &feature_tensor : &outputs[index]; }

}  // namespace tflite

int main() {
  if (cbpnet::Init() != cbpnet::Status::kOk) return 1;
  char letter;
  int32_t slot;
  while (Read(&letter, 1) && Read(&slot, sizeof(slot)) && Read(image, sizeof(image))) {
    bool written = true;
    if (letter == 'P') {
      cbpnet::Prediction found;
      if (cbpnet::Predict(image, &found) != cbpnet::Status::kOk) return 1;
      const float numbers[] = {static_cast<float>(found.label), found.probability};
      written = Write(numbers, sizeof(numbers));
    } else if (letter == 'E') {
      if (cbpnet::ExportState(saved, sizeof(saved)) != cbpnet::Status::kOk) return 1;
    } else if (letter == 'D') {
      saved[sizeof(saved) - 1] ^= 1;  // of the bank
    } else if (letter == 'I') {
      written = Write(cbpnet::ImportState(saved, sizeof(saved)));
    } else {
      written = Write(cbpnet::Learn(image, slot, nullptr, cbpnet::kLearningRate, letter == 'L'));
    }
    if (!written) return 1;
  }
  return 0;
}
