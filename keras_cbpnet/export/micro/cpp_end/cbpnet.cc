#include "cbpnet.h"

#include <cstring>
#include <new>

#include "cbpnet_models.h"
#include "cbpnet_ops.h"
#include "end.h"
#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

#ifdef ESP_PLATFORM
#include "esp_attr.h"  // EXT_RAM_BSS_ATTR: in PSRAM where the project's settings allow that
#else
#define EXT_RAM_BSS_ATTR
#endif

namespace cbpnet {
namespace {

alignas(16) EXT_RAM_BSS_ATTR uint8_t arena[kArenaBytes];
alignas(MicroInterpreter) uint8_t backbone_place[sizeof(MicroInterpreter)];

BackboneOps backbone_ops;
MicroInterpreter* backbone = nullptr;
EXT_RAM_BSS_ATTR End knower;
float values[kFeatures];

}  // namespace

Status Init() {
  const tflite::Model* model = tflite::GetModel(kBackboneModel);
  if (model->version() != TFLITE_SCHEMA_VERSION) return Status::kWrongModel;
  if (!AddBackboneOps(&backbone_ops)) return Status::kFailed;
  MicroAllocator* allocator = MicroAllocator::Create(arena, sizeof(arena));
  if (allocator == nullptr) return Status::kArenaTooSmall;
  backbone = new (backbone_place) MicroInterpreter(model, backbone_ops, allocator);
  if (backbone->AllocateTensors() != kTfLiteOk) return Status::kArenaTooSmall;
  knower.Init();
  return Status::kOk;
}

Status Feature(const uint8_t* image, int8_t* feature) {
  if (backbone == nullptr || image == nullptr || feature == nullptr) return Status::kBadArgument;
  std::memcpy(backbone->input(kBackboneImage)->data.uint8, image, kImageBytes);
  if (backbone->Invoke() != kTfLiteOk) return Status::kFailed;
  std::memcpy(feature, backbone->output(kBackboneFeature)->data.int8, kFeatures);
  return Status::kOk;
}

Status Predict(const int8_t* feature, Prediction* prediction) {
  if (backbone == nullptr || feature == nullptr || prediction == nullptr) return Status::kBadArgument;
  knower.Dequantize(feature, values);
  *prediction = knower.Predict(values);
  return Status::kOk;
}

Status ImportState(const uint8_t* buffer, size_t size) {
  return backbone == nullptr ? Status::kBadArgument : knower.Import(buffer, size);
}

Status ExportState(uint8_t* buffer, size_t size) {
  return backbone == nullptr ? Status::kBadArgument : knower.Export(buffer, size);
}

}  // namespace cbpnet
