// A sensor's classifier, on TensorFlow Lite for Microcontrollers, that an edge teaches: an end.
//
// The backbone runs here; the edge gets its features, kFeatures bytes a sample, learns from them, and sends back all
// that was learned. All sizes come from cbpnet_config.h, which belongs to one bundle. No heap, no exceptions.
#ifndef CBPNET_H_
#define CBPNET_H_

#include <cstddef>
#include <cstdint>

#include "cbpnet_config.h"

namespace cbpnet {

enum class Status {
  kOk,
  kWrongModel,     // the model and this TFLM have different schema versions
  kArenaTooSmall,  // see kArenaBytes
  kFailed,         // an operator failed
  kBadArgument,    // a null pointer, or a size out of range
  kBadState,       // not a state of this bundle, or damaged
};

struct Prediction {
  int label;          // index into kLabels, or a class learned since; -1: none is known yet
  float probability;  // among the classes known
};

// Sets up the backbone, with the head that the bundle came with. Call once, before all else.
Status Init();

// image: RGB, kImageHeight * kImageWidth * 3 bytes, row by row. feature: kFeatures bytes, to send to the edge with
// kBackbone, the first digits of its checksum.
Status Feature(const uint8_t* image, int8_t* feature);

// The class of a feature.
Status Predict(const int8_t* feature, Prediction* prediction);

// Takes what the edge has learned: kStateBytes of `cbpnet state BUNDLE export FILE --format micro`. Refuses what is
// damaged or of another bundle, and then nothing changes.
Status ImportState(const uint8_t* buffer, size_t size);

// The same bytes again, for flash or an edge that lost them.
Status ExportState(uint8_t* buffer, size_t size);

}  // namespace cbpnet

#endif  // CBPNET_H_
