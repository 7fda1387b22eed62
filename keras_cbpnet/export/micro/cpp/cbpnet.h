// A camera's classifier that goes on learning, on TensorFlow Lite for Microcontrollers.
//
// A block that learns by training steps and, where kBankDirections is above 0, a bank of class statistics beside it; a
// prediction mixes both, weighed by what they got right so far. No heap, no exceptions, not thread-safe. All sizes come
// from cbpnet_config.h, which belongs to one bundle.
#ifndef CBPNET_H_
#define CBPNET_H_

#include <cstddef>
#include <cstdint>

#include "cbpnet_config.h"

namespace cbpnet {

enum class Status {
  kOk,
  kWrongModel,     // the models and this TFLM have different schema versions
  kArenaTooSmall,  // see kArenaBytes
  kFailed,         // an operator failed
  kBadArgument,    // a class or a size out of range
  kBadState,       // not a state of this bundle, or damaged
};

struct Prediction {
  int label;          // index into kLabels, or a class learned since; -1: none is known yet
  float probability;  // among the classes known
};

struct LearnResult {
  float loss;    // before the step
  int replaced;  // the hidden unit reborn in it, -1: none
};

// Sets up both models with the state they were converted with. Call once, before all else.
Status Init();

// image: RGB, kImageHeight * kImageWidth * 3 bytes, row by row. Changes nothing that was learned.
Status Predict(const uint8_t* image, Prediction* prediction);

// One training step on one image. Class mean and bank take the image in if `observe`; do that once an image.
// A label that was not known yet takes its class slot: any from 0 to kSlots - 1.
Status Learn(const uint8_t* image, int label, LearnResult* result, float learning_rate = kLearningRate,
             bool observe = true);

// All that was learned, kStateBytes, for flash or a file.
Status ExportState(uint8_t* buffer, size_t size);

// Takes back what ExportState gave; refuses what is damaged or of another bundle, and then nothing changes.
Status ImportState(const uint8_t* buffer, size_t size);

}  // namespace cbpnet

#endif  // CBPNET_H_
