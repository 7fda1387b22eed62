// The head's block, inference alone: firmware_host/engines/numpy_head.py in C++.
//
// d features, h hidden units, C class slots. Weights are read where they lie; nothing is copied.
#ifndef CBPNET_BLOCK_H_
#define CBPNET_BLOCK_H_

#include <cmath>

namespace cbpnet {

enum BlockKind { kPrototype, kMlp, kResidual };

struct BlockWeights {  // row by row; what a block does not have is null
  const float* w1;     // [d, h]
  const float* b1;     // [h]
  const float* w2;     // [h, d], of an mlp [h, C]
  const float* b2;     // [d], of an mlp [C]
  const float* w3;     // [d, C], of a residual block
  const float* b3;     // [C]
  const float* class_mean;  // [C, d]
};

template <int d, int h, int C, BlockKind kind>
class Block {
 public:
  // Call after a change of the weights. mean, scale: [d] each, by which features are standardised.
  void Init(const BlockWeights& weights, const float* mean, const float* scale, float logit_scale) {
    weights_ = weights;
    mean_ = mean;
    scale_ = scale;
    logit_scale_ = logit_scale;
    if (kind != kPrototype) return;
    for (int c = 0; c < C; ++c) Unit(weights_.class_mean + c * d, prototype_[c]);
  }

  // logits: [C] of feature [d].
  void Logits(const float* feature, float* logits) {
    float out[d > C ? d : C];
    if (kind == kMlp) {
      Standardise(feature, out_);
      Hidden(out_);
      Dense(hidden_, weights_.w2, weights_.b2, h, C, logits);
    } else if (kind == kResidual) {
      Adapt(feature, out);
      Dense(out, weights_.w3, weights_.b3, d, C, logits);
    } else {
      Unit(feature, out);
      for (int c = 0; c < C; ++c) {
        float cosine = 0.0f;
        for (int i = 0; i < d; ++i) cosine += out[i] * prototype_[c][i];
        logits[c] = cosine * logit_scale_;
      }
    }
  }

 private:
  void Standardise(const float* feature, float* x) const {
    for (int i = 0; i < d; ++i) x[i] = (feature[i] - mean_[i]) / scale_[i];
  }

  static void Dense(const float* x, const float* weight, const float* bias, int rows, int columns, float* y) {
    for (int j = 0; j < columns; ++j) y[j] = bias[j];
    for (int i = 0; i < rows; ++i) {
      if (x[i] == 0.0f) continue;  // most hidden units
      for (int j = 0; j < columns; ++j) y[j] += x[i] * weight[i * columns + j];
    }
  }

  void Hidden(const float* x) {
    Dense(x, weights_.w1, weights_.b1, d, h, hidden_);
    for (int j = 0; j < h; ++j) hidden_[j] = hidden_[j] > 0.0f ? hidden_[j] : 0.0f;
  }

  void Adapt(const float* feature, float* y) {  // x + relu(x w1 + b1) w2 + b2
    Standardise(feature, out_);
    Hidden(out_);
    Dense(hidden_, weights_.w2, weights_.b2, h, d, y);
    for (int i = 0; i < d; ++i) y[i] += out_[i];
  }

  void Unit(const float* feature, float* y) {
    Adapt(feature, y);
    float length = 0.0f;
    for (int i = 0; i < d; ++i) length += y[i] * y[i];
    length = 1.0f / std::sqrt(length + 1e-12f);
    for (int i = 0; i < d; ++i) y[i] *= length;
  }

  BlockWeights weights_;
  const float* mean_;
  const float* scale_;
  float logit_scale_;
  float hidden_[h];
  float out_[d];
  float prototype_[kind == kPrototype ? C : 1][d];
};

}  // namespace cbpnet

#endif  // CBPNET_BLOCK_H_
