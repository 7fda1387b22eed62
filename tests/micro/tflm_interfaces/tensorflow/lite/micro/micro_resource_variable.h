// Interfaces for tests, not TFLM: see README.md.
#pragma once
#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_allocator.h"
namespace tflite {
struct MicroResourceVariables {
  static MicroResourceVariables* Create(MicroAllocator* allocator, int variables);
  int CreateIdIfNoneFound(const char* container, const char* name);
  TfLiteStatus Read(int id, const TfLiteEvalTensor* tensor);
  TfLiteStatus Assign(int id, size_t bytes, const void* input);
};
}  // namespace tflite
