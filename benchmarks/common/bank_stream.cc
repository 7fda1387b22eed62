// The bank of a microcontroller on this machine: reads mean, scale [d] and a BankState, then records of a label and
// a feature [d] from standard input. A label from 0 on is learned; for label -1 the logits [K] are written to standard
// output; -2 renews the metric; -3 writes the state. Without input it writes sizeof(Bank). All binary.
#include <cstdio>

#include "bank.h"

namespace {

constexpr int kFeatures = BANK_FEATURES, kSlots = BANK_SLOTS;
cbpnet::Bank<kFeatures, kSlots, BANK_DIRECTIONS> bank;
float mean[kFeatures], scale[kFeatures], feature[kFeatures], logits[kSlots];

bool Read(void* place, size_t bytes) { return std::fread(place, 1, bytes, stdin) == bytes; }
bool Write(const void* place, size_t bytes) { return std::fwrite(place, 1, bytes, stdout) == bytes; }

}  // namespace

int main() {
  if (!Read(mean, sizeof(mean))) {
    std::printf("%zu\n", sizeof(bank));
    return 0;
  }
  if (!Read(scale, sizeof(scale)) || !Read(&bank.state, sizeof(bank.state))) return 1;
  bank.Init(mean, scale);
  int32_t label;
  while (Read(&label, sizeof(label))) {
    if (!Read(feature, sizeof(feature))) return 1;
    if (label >= 0) {
      bank.Learn(feature, label);
    } else if (label == -1) {
      bank.Predict(feature, logits);
      if (!Write(logits, sizeof(logits))) return 1;
    } else if (label == -2) {
      bank.Renew();
    } else if (!Write(&bank.state, sizeof(bank.state))) {
      return 1;
    }
  }
  return 0;
}
