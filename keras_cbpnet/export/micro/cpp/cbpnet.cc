#include "cbpnet.h"

#include <cmath>
#include <cstring>
#include <new>

#include "bank.h"
#include "cbpnet_models.h"
#include "cbpnet_ops.h"
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

constexpr uint32_t kMagic = 0x4e504243;  // "CBPN"
constexpr size_t kHeaderBytes = 4 * sizeof(uint32_t);  // magic, bundle, random numbers, checksum

alignas(16) EXT_RAM_BSS_ATTR uint8_t arena[kArenaBytes];  // of both models, which run one after the other
alignas(MicroInterpreter) uint8_t backbone_place[sizeof(MicroInterpreter)];
alignas(MicroInterpreter) uint8_t head_place[sizeof(MicroInterpreter)];

BackboneOps backbone_ops;
HeadOps head_ops;
MicroInterpreter* backbone = nullptr;
MicroInterpreter* head = nullptr;
EXT_RAM_BSS_ATTR Bank<kFeatures, kSlots, kBankDirections> bank;
static_assert(kBankDirections == 0 || sizeof(bank.state) == kBankStateBytes, "the state that the bank starts with");
float known[kSlots];  // 1 for a class that was seen
float by_block[kSlots], by_bank[kSlots];  // probabilities
float feature[kFeatures];
uint32_t random_state = 1;

float Uniform() {  // xorshift (Marsaglia 2003), in -1..1
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return static_cast<float>(random_state >> 8) * (2.0f / 16777216.0f) - 1.0f;
}

uint32_t Checksum(const uint8_t* bytes, size_t size) {  // FNV-1a
  uint32_t sum = 2166136261u;
  for (size_t i = 0; i < size; ++i) sum = (sum ^ bytes[i]) * 16777619u;
  return sum;
}

float* Variable(int index) { return head->output(kHeadState + index)->data.f; }

void ReadKnown() {
  const float* count = Variable(kClassCount);
  for (int slot = 0; slot < kSlots; ++slot) known[slot] = count[slot] > 0.0f ? 1.0f : 0.0f;
}

Status InvokeHead(int label, float learning_rate, bool observe) {
  std::memcpy(head->input(kHeadFeature)->data.f, feature, sizeof(feature));
  std::memcpy(head->input(kHeadClassMask)->data.f, known, sizeof(known));
  head->input(kHeadLabel)->data.i32[0] = label;
  head->input(kHeadLearningRate)->data.f[0] = learning_rate;
  head->input(kHeadObserve)->data.f[0] = observe ? 1.0f : 0.0f;
  float* fresh = head->input(kHeadFresh)->data.f;
  for (int i = 0; i < kFeatures; ++i) fresh[i] = learning_rate > 0.0f ? kFreshLimit * Uniform() : 0.0f;
  return head->Invoke() == kTfLiteOk ? Status::kOk : Status::kFailed;
}

Status ReadFeature(const uint8_t* image) {
  if (backbone == nullptr || image == nullptr) return Status::kBadArgument;
  std::memcpy(backbone->input(kBackboneImage)->data.uint8, image, kImageBytes);
  if (backbone->Invoke() != kTfLiteOk) return Status::kFailed;
  const TfLiteTensor* output = backbone->output(kBackboneFeature);
  for (int i = 0; i < kFeatures; ++i) {
    feature[i] = kFeatureQuantized
                     ? static_cast<float>(output->data.int8[i] - kFeatureZeroPoint) * kFeatureScale
                     : output->data.f[i];
  }
  return Status::kOk;
}

void Softmax(float* logits) {  // logits become probabilities; those of classes that are not known, 0
  float most = 0.0f, total = 0.0f;
  bool any = false;
  for (int slot = 0; slot < kSlots; ++slot) {
    if (known[slot] > 0.0f && (!any || logits[slot] > most)) most = logits[slot];
    any = any || known[slot] > 0.0f;
  }
  for (int slot = 0; slot < kSlots; ++slot) {
    logits[slot] = known[slot] > 0.0f ? std::exp(logits[slot] - most) : 0.0f;
    total += logits[slot];
  }
  for (int slot = 0; any && slot < kSlots; ++slot) logits[slot] /= total;
}

// Asks block and bank about `feature`; returns whether the bank knows a class.
Status Ask(bool* bank_knows) {
  const Status status = InvokeHead(-1, 0.0f, false);
  if (status != Status::kOk) return status;
  std::memcpy(by_block, head->output(kHeadLogits)->data.f, sizeof(by_block));
  *bank_knows = bank.Predict(feature, by_bank) >= 0;
  Softmax(by_block);
  Softmax(by_bank);
  return Status::kOk;
}

}  // namespace

Status Init() {
  const tflite::Model* backbone_model = tflite::GetModel(kBackboneModel);
  const tflite::Model* head_model = tflite::GetModel(kHeadStepModel);
  if (backbone_model->version() != TFLITE_SCHEMA_VERSION || head_model->version() != TFLITE_SCHEMA_VERSION) {
    return Status::kWrongModel;
  }
  if (!AddBackboneOps(&backbone_ops) || !AddHeadOps(&head_ops)) return Status::kFailed;
  MicroAllocator* allocator = MicroAllocator::Create(arena, sizeof(arena));
  if (allocator == nullptr) return Status::kArenaTooSmall;
  backbone = new (backbone_place) MicroInterpreter(backbone_model, backbone_ops, allocator);
  if (backbone->AllocateTensors() != kTfLiteOk) return Status::kArenaTooSmall;
  head = new (head_place) MicroInterpreter(head_model, head_ops, allocator);
  if (head->AllocateTensors() != kTfLiteOk) return Status::kArenaTooSmall;
  random_state = 1;
  std::memset(feature, 0, sizeof(feature));
  std::memset(known, 0, sizeof(known));
  std::memcpy(&bank.state, kBankStart, kBankStateBytes);
  bank.Init(kFeatureMeans, kFeatureScales);
  const Status status = InvokeHead(-1, 0.0f, false);  // the first run gives the variables their first values
  if (status == Status::kOk) ReadKnown();
  return status;
}

Status Predict(const uint8_t* image, Prediction* prediction) {
  if (prediction == nullptr) return Status::kBadArgument;
  bool bank_knows = false;
  Status status = ReadFeature(image);
  if (status == Status::kOk) status = Ask(&bank_knows);
  if (status != Status::kOk) return status;
  const float share = bank_knows ? bank.BlockShare(kBlockWeight) : 1.0f;
  const float exponent = bank_knows ? kBankExponent : 1.0f;
  float total = 0.0f;
  int best = -1;
  for (int slot = 0; slot < kSlots; ++slot) {
    by_block[slot] = std::pow(share * by_block[slot] + (1.0f - share) * by_bank[slot], exponent);
    total += by_block[slot];
    if (known[slot] > 0.0f && (best < 0 || by_block[slot] > by_block[best])) best = slot;
  }
  prediction->label = best;
  prediction->probability = best < 0 ? 0.0f : by_block[best] / total;
  return Status::kOk;
}

Status Learn(const uint8_t* image, int label, LearnResult* result, float learning_rate, bool observe) {
  if (label < 0 || label >= kSlots || !(learning_rate >= 0.0f)) return Status::kBadArgument;
  if (!observe && known[label] == 0.0f) return Status::kBadArgument;  // its mean comes from images observed
  Status status = ReadFeature(image);
  if (status != Status::kOk) return status;
  if (observe) {
    bool bank_knows = false;
    if (known[label] > 0.0f && (status = Ask(&bank_knows)) != Status::kOk) return status;
    if (bank_knows) bank.Judge(by_block[label], by_bank[label]);
    bank.Learn(feature, label);
  }
  known[label] = 1.0f;
  status = InvokeHead(label, kBlockWeight > 0.0f ? learning_rate : 0.0f, observe);  // 0: the bank predicts alone
  if (status != Status::kOk) return status;
  if (result != nullptr) {
    result->loss = head->output(kHeadLoss)->data.f[0];
    result->replaced = static_cast<int>(head->output(kHeadReplaced)->data.i32[0]);
  }
  return Status::kOk;
}

Status ExportState(uint8_t* buffer, size_t size) {
  if (head == nullptr || buffer == nullptr || size < kStateBytes) return Status::kBadArgument;
  uint8_t* place = buffer + kHeaderBytes;
  for (int i = 0; i < kVariables; ++i) {
    std::memcpy(place, Variable(i), kVariableBytes[i]);
    place += kVariableBytes[i];
  }
  std::memcpy(place, &bank.state, kBankStateBytes);
  const uint32_t header[] = {kMagic, kBundle, random_state,
                             Checksum(buffer + kHeaderBytes, kStateBytes - kHeaderBytes)};
  std::memcpy(buffer, header, sizeof(header));
  return Status::kOk;
}

Status ImportState(const uint8_t* buffer, size_t size) {
  if (head == nullptr || buffer == nullptr || size < kStateBytes) return Status::kBadArgument;
  uint32_t header[4];
  std::memcpy(header, buffer, sizeof(header));
  if (header[0] != kMagic || header[1] != kBundle || header[2] == 0 ||
      header[3] != Checksum(buffer + kHeaderBytes, kStateBytes - kHeaderBytes)) {
    return Status::kBadState;
  }
  const uint8_t* place = buffer + kHeaderBytes;
  for (int i = 0; i < kVariables; ++i) {
    std::memcpy(Variable(i), place, kVariableBytes[i]);
    place += kVariableBytes[i];
  }
  std::memcpy(&bank.state, place, kBankStateBytes);
  bank.Init(kFeatureMeans, kFeatureScales);
  random_state = header[2];
  ReadKnown();
  return Status::kOk;
}

}  // namespace cbpnet
