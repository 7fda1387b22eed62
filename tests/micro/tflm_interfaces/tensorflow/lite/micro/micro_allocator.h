// Interfaces for tests, not TFLM: see README.md.
#pragma once
#include <cstddef>
#include <cstdint>
namespace tflite {
struct MicroAllocator {
  static MicroAllocator* Create(uint8_t* arena, size_t size);
};
}  // namespace tflite
