// An end: it predicts by what an edge has learned, and takes that over as bytes. No TensorFlow in here.
//
// All sizes come from cbpnet_config.h, which belongs to one bundle. No heap, no exceptions, not thread-safe.
#ifndef CBPNET_END_H_
#define CBPNET_END_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "bank.h"
#include "block.h"
#include "cbpnet.h"
#include "cbpnet_models.h"

namespace cbpnet {

class End {
 public:
  // Takes what the bundle came with.
  void Init() {
    random_ = 1;
    std::memcpy(variables_, kHeadStart, kVariablesBytes);
    std::memcpy(&bank_.state, kBankStart, kBankStateBytes);
    Renew();
  }

  // feature: [kFeatures], as the backbone stores it.
  void Dequantize(const int8_t* feature, float* values) const {
    for (int i = 0; i < kFeatures; ++i) values[i] = static_cast<float>(feature[i] - kFeatureZeroPoint) * kFeatureScale;
  }

  // logits: [kSlots] of the block, before classes that are not known are left out.
  void Logits(const float* feature, float* logits) { block_.Logits(feature, logits); }

  Prediction Predict(const float* feature) {
    block_.Logits(feature, by_block_);
    const bool bank_knows = bank_.Predict(feature, by_bank_) >= 0;
    Softmax(by_block_);
    Softmax(by_bank_);
    const float share = bank_knows ? bank_.BlockShare(kBlockWeight) : 1.0f;
    const float exponent = bank_knows ? kBankExponent : 1.0f;
    float total = 0.0f;
    int best = -1;
    for (int slot = 0; slot < kSlots; ++slot) {
      by_block_[slot] = std::pow(share * by_block_[slot] + (1.0f - share) * by_bank_[slot], exponent);
      total += by_block_[slot];
      if (Known(slot) && (best < 0 || by_block_[slot] > by_block_[best])) best = slot;
    }
    return {best, best < 0 ? 0.0f : by_block_[best] / total};
  }

  Status Export(uint8_t* buffer, size_t size) const {
    if (buffer == nullptr || size < kStateBytes) return Status::kBadArgument;
    std::memcpy(buffer + kHeader, variables_, kVariablesBytes);
    std::memcpy(buffer + kHeader + kVariablesBytes, &bank_.state, kBankStateBytes);
    const uint32_t header[] = {kMagic, kBundle, random_, Checksum(buffer + kHeader, kStateBytes - kHeader)};
    std::memcpy(buffer, header, kHeader);
    return Status::kOk;
  }

  Status Import(const uint8_t* buffer, size_t size) {
    if (buffer == nullptr || size < kStateBytes) return Status::kBadArgument;
    uint32_t header[4];
    std::memcpy(header, buffer, kHeader);
    if (header[0] != kMagic || header[1] != kBundle || header[2] == 0 ||
        header[3] != Checksum(buffer + kHeader, kStateBytes - kHeader)) {
      return Status::kBadState;
    }
    random_ = header[2];
    std::memcpy(variables_, buffer + kHeader, kVariablesBytes);
    std::memcpy(&bank_.state, buffer + kHeader + kVariablesBytes, kBankStateBytes);
    Renew();
    return Status::kOk;
  }

 private:
  static constexpr uint32_t kMagic = 0x4e504243;  // "CBPN"
  static constexpr size_t kHeader = 4 * sizeof(uint32_t);  // magic, bundle, random numbers of a learning board, checksum

  static uint32_t Checksum(const uint8_t* bytes, size_t size) {  // FNV-1a
    uint32_t sum = 2166136261u;
    for (size_t i = 0; i < size; ++i) sum = (sum ^ bytes[i]) * 16777619u;
    return sum;
  }

  const float* Variable(int index) const { return index < 0 ? nullptr : variables_ + kVariableOffsets[index]; }

  bool Known(int slot) const { return Variable(kClassCount)[slot] > 0.0f; }

  void Renew() {
    block_.Init({Variable(kW1), Variable(kB1), Variable(kW2), Variable(kB2), Variable(kW3), Variable(kB3),
                 Variable(kClassMean)},
                kFeatureMeans, kFeatureScales, kLogitScale);
    bank_.Init(kFeatureMeans, kFeatureScales);
  }

  void Softmax(float* logits) const {  // logits become probabilities; those of classes that are not known, 0
    float most = 0.0f, total = 0.0f;
    bool any = false;
    for (int slot = 0; slot < kSlots; ++slot) {
      if (Known(slot) && (!any || logits[slot] > most)) most = logits[slot];
      any = any || Known(slot);
    }
    for (int slot = 0; slot < kSlots; ++slot) {
      logits[slot] = Known(slot) ? std::exp(logits[slot] - most) : 0.0f;
      total += logits[slot];
    }
    for (int slot = 0; any && slot < kSlots; ++slot) logits[slot] /= total;
  }

  uint32_t random_ = 1;
  float variables_[kVariablesBytes / sizeof(float)];
  Block<kFeatures, kUnits, kSlots, static_cast<BlockKind>(kBlock)> block_;
  Bank<kFeatures, kSlots, kBankDirections> bank_;
  float by_block_[kSlots], by_bank_[kSlots];
};

}  // namespace cbpnet

#endif  // CBPNET_END_H_
