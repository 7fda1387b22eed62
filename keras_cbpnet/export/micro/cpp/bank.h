// A bank of class statistics that learns from one image at a time: firmware_host/shared/bank in C++.
//
// Class means, one covariance shared by all classes, and a few directions of each; the likeliest four are judged
// again in the covariance that they have in common. No heap, no exceptions; a Bank is its own arena, of
// sizeof(Bank) bytes, work memory included. Numbers written kBank... come from bank_constants.h.
//
// d features, K class slots, r directions of a class. White space is where the shared covariance C C' is the identity
// and the spread of class means lies along the axes: Whiten(x) = R C^-1 x, with a few reflections R.
#ifndef CBPNET_BANK_H_
#define CBPNET_BANK_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "bank_constants.h"

namespace cbpnet {

inline float FromHalf(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half & 0x7fffu) << 13;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  value *= 0x1p112f;  // the exponents' biases differ by 112
  return half & 0x8000u ? -value : value;
}

inline uint16_t ToHalf(float value) {  // rounds to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = bits & 0x80000000u;
  bits ^= sign;
  uint32_t half;
  if (bits >= 0x47800000u) {
    half = 0x7c00u;
  } else if (bits < 0x38800000u) {  // below the least normal half: this addition rounds to multiples of 2^-24
    const float shifted = std::fabs(value) + 0.5f;
    std::memcpy(&half, &shifted, sizeof(half));
    half -= 0x3f000000u;
  } else {
    half = (bits - (112u << 23) + 0xfffu + ((bits >> 13) & 1u)) >> 13;
  }
  return static_cast<uint16_t>(half | (sign >> 16));
}

inline float Dot(const float* one, const float* other, int n) {
  float sum = 0.0f;
  for (int i = 0; i < n; ++i) sum += one[i] * other[i];
  return sum;
}

// Jacobi's rotations: leaves the eigenvalues of the symmetric a [n, n] on its diagonal, eigenvectors in v's columns.
inline void Eigen(float* a, float* v, int n) {
  for (int i = 0; i < n * n; ++i) v[i] = i % (n + 1) == 0 ? 1.0f : 0.0f;
  for (int sweep = 0; sweep < 20; ++sweep) {
    float off = 0.0f, all = 0.0f;
    for (int p = 0; p < n; ++p) {
      all += a[p * n + p] * a[p * n + p];
      for (int q = 0; q < p; ++q) off += a[p * n + q] * a[p * n + q];
    }
    if (off <= 1e-14f * all) return;
    for (int p = 0; p < n; ++p) {
      for (int q = p + 1; q < n; ++q) {
        if (a[p * n + q] == 0.0f) continue;
        const float theta = (a[q * n + q] - a[p * n + p]) / (2.0f * a[p * n + q]);
        const float tangent = std::copysign(1.0f / (std::fabs(theta) + std::hypot(theta, 1.0f)), theta);
        const float c = 1.0f / std::sqrt(tangent * tangent + 1.0f), s = tangent * c;
        const auto turn = [c, s](float* one, float* other) {
          const float before = *one;
          *one = c * before - s * *other;
          *other = s * before + c * *other;
        };
        for (int k = 0; k < n; ++k) turn(a + k * n + p, a + k * n + q);
        for (int k = 0; k < n; ++k) turn(a + p * n + k, a + q * n + k);
        for (int k = 0; k < n; ++k) turn(v + k * n + p, v + k * n + q);
      }
    }
  }
}

// What was learned, and all that has to be kept. All zero: nothing.
template <int d, int K, int r>
struct BankState {
  float total;                     // images that `scatter` stands for
  float losses[2];                 // discounted, of block and bank
  float count[K];                  // images of each class
  float mean[K][d];                // of them, standardised
  float scatter[d * (d + 1) / 2];  // squares around the means, all classes together: the lower triangle, row by row
  int32_t rows[K];                 // of `factor` in use
  uint16_t factor[K][2 * r][d];    // half precision: rows whose squares are about the scatter of one class
};

template <int d, int K, int r>
class Bank {
  static_assert(d > r && K > 1 && r > 0, "sizes of the bank");

 public:
  BankState<d, K, r> state;  // call Init after a change

  // mean, scale: [d] each, by which features are standardised; they must stay where they are.
  void Init(const float* mean, const float* scale) {
    feature_mean_ = mean;
    feature_scale_ = scale;
    renewed_ = -1.0f;
  }

  // Takes one image in. label: 0 to K - 1.
  void Learn(const float* feature, int label) {
    float* mean = state.mean[label];
    float& n = state.count[label];
    Standardise(feature);
    if (n > 0.0f) {
      const float root = std::sqrt(n / (n + 1.0f)), share = 1.0f / (n + 1.0f);
      float* place = state.scatter;
      for (int i = 0; i < d; ++i) {
        const float shift = x_[i] - mean[i];
        mean[i] += share * shift;
        x_[i] = root * shift;
        for (int j = 0; j <= i; ++j) *place++ += x_[i] * x_[j];
      }
      state.total += 1.0f;
      Append(label);
    } else {
      std::memcpy(mean, x_, sizeof(x_));
      state.rows[label] = 0;
    }
    n += 1.0f;
    moved_[label] = true;
    if (n > kBankMost) {  // older images count for half, so that newer ones move the sums
      n *= 0.5f;
      for (auto& row : state.factor[label]) {
        for (uint16_t& half : row) half = ToHalf(FromHalf(half) * std::sqrt(0.5f));
      }
    }
    if (state.total > kBankMostTogether) {
      const float share = 0.5f * kBankMostTogether / state.total;
      for (float& square : state.scatter) square *= share;
      state.total *= share;
    }
  }

  // Writes a logit for each class, [K], -1e9 where there is no image of it; returns the likeliest, -1: none is known.
  int Predict(const float* feature, float* logits) {
    if (renewed_ < 0.0f || state.total > kBankGrowth * renewed_ + 1.0f) Renew();
    float all = 0.0f;
    for (int k = 0; k < K; ++k) {
      if (moved_[k] && state.count[k] > 0.0f) Look(k);
      moved_[k] = false;
      all += Youth(k);
    }
    Standardise(feature);
    std::memcpy(q_, x_, sizeof(x_));
    Whiten(q_);
    std::memcpy(s_, q_, sizeof(q_));
    WhitenTransposed(s_);
    for (int k = 0; k < K; ++k) {
      logits[k] = 0.0f;
      if (state.count[k] == 0.0f) continue;
      prior_[k] = -kBankCrowd * Youth(k) * std::log(1.0f + all - Youth(k));
      Mean(k, x_);
      float squared = determinant_[k];
      for (int i = 0; i < d; ++i) squared += (q_[i] - x_[i]) * (q_[i] - x_[i]) / (rest_[k] + Open(i, k));
      float along[r];
      for (int i = 0; i < r; ++i) along[i] = -along_mean_[k][i];
      for (int j = 0; j < state.rows[k]; ++j) {
        float product = 0.0f;
        for (int c = 0; c < d; ++c) product += FromHalf(state.factor[k][j][c]) * s_[c];
        for (int i = 0; i < r; ++i) along[i] += turn_[k][i][j] * product;
      }
      for (int i = 0; i < r; ++i) squared += along[i] * along[i] * gain_[k][i];
      logits[k] = prior_[k] - 0.5f * squared;
    }
    TellApart(logits);
    int best = -1;
    for (int k = 0; k < K; ++k) {
      logits[k] = state.count[k] > 0.0f ? kBankTemperature * logits[k] : -1e9f;
      if (state.count[k] > 0.0f && (best < 0 || logits[k] > logits[best])) best = k;
    }
    return best;
  }

  // Renews the shared covariance and what follows from it, which Predict does whenever enough images have come.
  void Renew() {
    renewed_ = state.total;
    Decompose();
    TakeSpread();
    for (bool& moved : moved_) moved = true;
  }

  // Takes note of the probabilities that block and bank gave an image's label before it was learned.
  void Judge(float block, float bank) {
    const float given[] = {block, bank};
    for (int i = 0; i < 2; ++i) {
      state.losses[i] = kMixtureForget * state.losses[i] - std::log(std::fmax(given[i], kMixtureWorst));
    }
  }

  // The block's share in a prediction, 0 to 1; start: the share where nothing has been judged yet.
  float BlockShare(float start) const {
    const float better = kMixtureRate * (state.losses[1] - state.losses[0]);
    const float odds = start / (1.0f - start) * std::exp(std::fmax(-50.0f, std::fmin(50.0f, better)));
    return odds / (1.0f + odds);
  }

 private:
  static constexpr int Larger(int one, int other) { return one > other ? one : other; }
  static constexpr int kRows = Larger(kBankNear * r, 2 * r + 1), kSquare = Larger(K, kRows);

  const float* feature_mean_;
  const float* feature_scale_;
  float renewed_;  // `total` when that was last done; below 0: not yet
  int reflections_;
  bool moved_[K];                     // what follows from the class's sums has to be computed again
  float cholesky_[d * (d + 1) / 2];   // C, row by row
  float reflection_[K][d];            // unit vectors of R; the first j numbers of row j are 0
  float centre_[d], spread_[d];       // of class means, in white space
  float turn_[K][r][2 * r];           // a class's directions: orthonormal combinations of its rows, whitened
  float along_mean_[K][r];            // products of the directions with the class's mean
  float gain_[K][r], excess_[K][r];   // what they change of the precision; their variance above the shared one
  float rest_[K], openness_[K], determinant_[K], prior_[K];
  float x_[d], q_[d], s_[d], rows_[kRows][d], square_[kSquare * kSquare], vectors_[kSquare * kSquare],
      value_[kSquare];  // work

  void Standardise(const float* feature) {
    for (int i = 0; i < d; ++i) x_[i] = (feature[i] - feature_mean_[i]) / feature_scale_[i];
  }

  float Youth(int k) const { return state.count[k] > 0.0f ? std::exp(-state.count[k] / kBankSettled) : 0.0f; }

  // Variance along axis i that the few images of class k leave open in its mean.
  float Open(int i, int k) const { return spread_[i] / (spread_[i] * state.count[k] + 1.0f); }

  // The mean of class k in white space, drawn to the centre direction by direction.
  void Mean(int k, float* mean) const {
    std::memcpy(mean, state.mean[k], sizeof(x_));
    Whiten(mean);
    for (int i = 0; i < d; ++i) mean[i] = centre_[i] + (mean[i] - centre_[i]) * Open(i, k) * state.count[k];
  }

  // --- white space ---------------------------------------------------------------------------------------------
  void Decompose() {  // Cholesky; double, because small differences of large sums decide
    float trace = 0.0f;
    for (int i = 0; i < d; ++i) trace += state.scatter[i * (i + 1) / 2 + i];
    const float total = std::fmax(state.total, 1.0f);
    const float variance = trace > 0.0f ? trace / total / d : 1.0f;
    const float prior = kBankPerFeature * d, share = std::fmax(kBankShrinkage, prior / (state.total + prior));
    float* row = cholesky_;
    const float* sums = state.scatter;
    for (int i = 0; i < d; row += ++i) {
      const float* other = cholesky_;
      for (int j = 0; j <= i; other += ++j) {
        double left = static_cast<double>((1.0f - share) / total) * static_cast<double>(*sums);
        if (i == j) left += static_cast<double>(share * std::fmax(*sums / total, kBankLeast * variance));
        ++sums;
        for (int k = 0; k < j; ++k) left -= static_cast<double>(row[k]) * static_cast<double>(other[k]);
        row[j] = static_cast<float>(i == j ? std::sqrt(left) : left / static_cast<double>(other[j]));
      }
    }
  }

  void Whiten(float* x) const {
    const float* row = cholesky_;
    for (int i = 0; i < d; row += ++i) x[i] = (x[i] - Dot(row, x, i)) / row[i];
    for (int j = 0; j < reflections_; ++j) Reflect(j, x);
  }

  void WhitenTransposed(float* x) const {
    for (int j = reflections_; j-- > 0;) Reflect(j, x);
    for (int i = d; i-- > 0;) {
      const float* row = cholesky_ + i * (i + 1) / 2;
      x[i] /= row[i];
      for (int j = 0; j < i; ++j) x[j] -= row[j] * x[i];
    }
  }

  void Reflect(int j, float* x) const {
    const float along = 2.0f * Dot(reflection_[j] + j, x + j, d - j);
    for (int i = j; i < d; ++i) x[i] -= along * reflection_[j][i];
  }

  // Turns white space so that class means are spread along its first axes: a Householder reflection for each. The
  // spread in all other directions, of which there are no classes enough to tell, is the least.
  void TakeSpread() {
    int settled = 0;
    for (int k = 0; k < K; ++k) settled += state.count[k] >= kBankSettled;
    const bool enough = settled >= 10;
    int n = 0;
    float inverse = 0.0f;
    std::memset(x_, 0, sizeof(x_));
    for (int k = 0; k < K; ++k) {
      if (state.count[k] < (enough ? kBankSettled : 1.0f)) continue;
      for (int i = 0; i < d; ++i) x_[i] += (state.mean[k][i] - x_[i]) / static_cast<float>(n + 1);
      inverse += (1.0f / state.count[k] - inverse) / static_cast<float>(++n);
    }
    for (float& spread : spread_) spread = enough ? kBankFloor : 0.5f;
    reflections_ = 0;
    if (enough) {
      n = 0;
      for (int k = 0; k < K; ++k) {
        if (state.count[k] < kBankSettled) continue;
        for (int i = 0; i < d; ++i) reflection_[n][i] = state.mean[k][i] - x_[i];
        Whiten(reflection_[n++]);
      }
      Gram(reflection_, n);
      Leading(n, n);
      int found = 0;
      for (; found < n; ++found) {
        const float spread = value_[found] / static_cast<float>(n - 1) - inverse;
        if (!(spread > kBankFloor)) break;
        spread_[found] = spread;
        for (int j = 0; j < n; ++j) square_[found * n + j] /= std::sqrt(value_[found]);
      }
      Combine(reflection_, found, n);
      for (int j = 0; j < found; ++j) {
        float* axis = reflection_[j];
        for (int before = 0; before < j; ++before) Reflect(before, axis);
        for (int i = 0; i < j; ++i) axis[i] = 0.0f;
        axis[j] += std::copysign(std::sqrt(Dot(axis, axis, d)), axis[j]);
        const float length = std::sqrt(Dot(axis, axis, d));
        for (int i = j; i < d; ++i) axis[i] /= length;
      }
      reflections_ = found;
    }
    std::memcpy(centre_, x_, sizeof(x_));
    Whiten(centre_);
  }

  // --- directions of a class -----------------------------------------------------------------------------------
  int Load(int k) {
    for (int j = 0; j < state.rows[k]; ++j) {
      for (int i = 0; i < d; ++i) rows_[j][i] = FromHalf(state.factor[k][j][i]);
    }
    return state.rows[k];
  }

  // Adds x_ to the rows of class k; where there is no room, they become the r rows that come nearest to all of them.
  void Append(int k) {
    int n = state.rows[k];
    if (n < 2 * r) {
      for (int i = 0; i < d; ++i) state.factor[k][n][i] = ToHalf(x_[i]);
      state.rows[k] = n + 1;
      return;
    }
    Load(k);
    std::memcpy(rows_[n++], x_, sizeof(x_));
    GramInDeviations(n);
    Leading(n, r);
    Combine(rows_, r, n);
    for (int j = 0; j < r; ++j) {
      for (int i = 0; i < d; ++i) state.factor[k][j][i] = ToHalf(rows_[j][i]);
    }
    state.rows[k] = r;
  }

  // Computes what follows from the sums of class k.
  void Look(int k) {
    const float n = state.count[k];
    const int held = n > 2.0f ? Load(k) : 0, m = held < r ? held : r;
    float mix[r * 2 * r] = {};
    if (held > r) {
      GramInDeviations(held);
      Leading(held, r);
      std::memcpy(mix, square_, sizeof(float) * static_cast<size_t>(m * held));
      Combine(rows_, m, held);
    } else {
      for (int i = 0; i < m; ++i) mix[i * held + i] = 1.0f;
    }
    for (int i = 0; i < m; ++i) Whiten(rows_[i]);
    Gram(rows_, m);
    Leading(m, m);
    std::memset(turn_[k], 0, sizeof(turn_[k]));
    float own = 0.0f;
    for (int i = 0; i < m; ++i) {
      value_[i] = std::fmax(value_[i], 1e-9f);
      own += value_[i] / (n - 1.0f);
      for (int j = 0; j < m; ++j) {
        square_[i * m + j] /= std::sqrt(value_[i]);
        for (int c = 0; c < held; ++c) turn_[k][i][c] += square_[i * m + j] * mix[j * held + c];
      }
    }
    Combine(rows_, m, m);
    const float shared = kBankPrior / (kBankPrior + n), outside = (d - own) / static_cast<float>(d - m);
    const float rest = std::fmax(kBankRest[0], std::fmin(kBankRest[1], outside));
    rest_[k] = m > 0 ? (1.0f - shared) * rest + shared : 1.0f;
    openness_[k] = determinant_[k] = 0.0f;
    for (int i = 0; i < d; ++i) {
      openness_[k] += std::log1p(Open(i, k));
      determinant_[k] += std::log(rest_[k] + Open(i, k));
    }
    const float spared = kBankBoost * (1.0f - std::pow(kBankHeld, n)) * openness_[k];
    determinant_[k] -= spared;
    openness_[k] -= spared;
    Mean(k, x_);
    for (int i = 0; i < r; ++i) {
      along_mean_[k][i] = gain_[k][i] = excess_[k][i] = 0.0f;
      if (i >= m) continue;
      const float variance = value_[i] / (n - 1.0f);
      float open = 0.0f;
      for (int c = 0; c < d; ++c) open += rows_[i][c] * rows_[i][c] * Open(c, k);
      const float with = (1.0f - shared) * variance + shared + open, without = rest_[k] + open;
      along_mean_[k][i] = Dot(rows_[i], x_, d);
      gain_[k][i] = 1.0f / with - 1.0f / without;
      excess_[k][i] = std::fmax(variance - 1.0f, 0.0f) * n / (n + kBankTrust);
      determinant_[k] += std::log(with / without);
    }
  }

  // Judges the likeliest classes again, in the covariance that they have in common; z: [K] scores of all classes.
  void TellApart(float* z) {
    int chosen[kBankNear], few = 0;
    for (; few < kBankNear; ++few) {
      int best = -1;
      for (int k = 0; k < K; ++k) {
        bool open = state.count[k] > 0.0f;
        for (int i = 0; i < few; ++i) open = open && k != chosen[i];
        if (open && (best < 0 || z[k] > z[best])) best = k;
      }
      if (best < 0) break;
      chosen[few] = best;
    }
    if (few < 2) return;
    const int n = few * r;
    for (int i = 0; i < n; ++i) {
      const int k = chosen[i / r];
      for (int c = 0; c < d; ++c) {
        rows_[i][c] = 0.0f;
        for (int j = 0; j < state.rows[k]; ++j) rows_[i][c] += turn_[k][i % r][j] * FromHalf(state.factor[k][j][c]);
      }
      Whiten(rows_[i]);
    }
    float common[kBankNear], images = 0.0f;
    for (int place = 0; place < few; ++place) {
      const int k = chosen[place];
      float squared = 0.0f, determinant = openness_[k], along[kBankNear * r];
      Mean(k, x_);
      for (int c = 0; c < d; ++c) {
        s_[c] = 1.0f / (1.0f + Open(c, k));
        x_[c] = q_[c] - x_[c];
        squared += x_[c] * x_[c] * s_[c];
      }
      for (int i = 0; i < n; ++i) {  // Woodbury, by a Cholesky decomposition
        float* row = square_ + i * n;
        along[i] = 0.0f;
        for (int c = 0; c < d; ++c) along[i] += x_[c] * s_[c] * rows_[i][c];
        for (int j = 0; j <= i; ++j) {
          const float* other = square_ + j * n;
          row[j] = 0.0f;
          for (int c = 0; c < d; ++c) row[j] += rows_[i][c] * s_[c] * rows_[j][c];
          if (i == j) row[j] += 1.0f / std::fmax(excess_[chosen[i / r]][i % r] * kBankShare / few, 1e-6f);
          row[j] -= Dot(row, other, j);
          row[j] = i == j ? std::sqrt(row[j]) : row[j] / other[j];
        }
        along[i] = (along[i] - Dot(row, along, i)) / row[i];
        squared -= along[i] * along[i];
        determinant += 2.0f * std::log(row[i]);
      }
      common[place] = prior_[k] - 0.5f * (squared + determinant);
      images += state.count[k] / few;
    }
    const float weight = kBankWeight + kBankFew / images;
    float shift = 0.0f, least = 0.0f;
    for (int place = 0; place < few; ++place) {
      const float again = common[place] + weight * z[chosen[place]];
      shift += (common[place] - z[chosen[place]]) / few;
      least = place == 0 ? again : std::fmin(least, again);
      common[place] = again;
    }
    for (int k = 0; k < K; ++k) z[k] = std::fmin((1.0f + weight) * z[k] + shift, least - 1e-3f);
    for (int place = 0; place < few; ++place) z[chosen[place]] = common[place];
    for (int k = 0; k < K; ++k) z[k] *= (1.0f + kBankWeight) / (1.0f + weight);  // as sure of few images as of many
  }

  // --- small matrices ------------------------------------------------------------------------------------------
  void Gram(const float (*rows)[d], int n) {
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j <= i; ++j) square_[i * n + j] = square_[j * n + i] = Dot(rows[i], rows[j], d);
    }
  }

  // The same of rows_, in units of each feature's deviation within the classes.
  void GramInDeviations(int n) {
    float mean = 0.0f;
    for (int c = 0; c < d; ++c) mean += state.scatter[c * (c + 3) / 2] / d;
    for (int c = 0; c < d; ++c) s_[c] = 1.0f / std::fmax(state.scatter[c * (c + 3) / 2], kBankLeast * mean + 1e-12f);
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j <= i; ++j) {
        double sum = 0.0;  // directions of nearly the same size are sensitive to rounding
        for (int c = 0; c < d; ++c) sum += static_cast<double>(s_[c] * rows_[i][c]) * static_cast<double>(rows_[j][c]);
        square_[i * n + j] = square_[j * n + i] = static_cast<float>(sum);
      }
    }
  }

  // From square_ [n, n]: leaves its largest eigenvalues in value_, and their vectors as the first rows of square_.
  void Leading(int n, int most) {
    float left[kSquare];
    Eigen(square_, vectors_, n);
    for (int i = 0; i < n; ++i) left[i] = square_[i * n + i];
    for (int i = 0; i < most; ++i) {
      int best = 0;
      for (int j = 1; j < n; ++j) best = left[j] > left[best] ? j : best;
      value_[i] = left[best];
      left[best] = -HUGE_VALF;
      for (int j = 0; j < n; ++j) square_[i * n + j] = vectors_[j * n + best];
    }
  }

  // Replaces the first m rows by combinations of n rows, with square_ [m, n].
  void Combine(float (*rows)[d], int m, int n) {
    float column[kSquare];
    for (int c = 0; c < d; ++c) {
      for (int j = 0; j < n; ++j) column[j] = rows[j][c];
      for (int i = 0; i < m; ++i) rows[i][c] = Dot(square_ + i * n, column, n);
    }
  }
};

// No bank: the block predicts alone.
template <int d, int K>
class Bank<d, K, 0> {
 public:
  uint8_t state;

  void Init(const float*, const float*) {}
  void Learn(const float*, int) {}
  int Predict(const float*, float* logits) {
    std::memset(logits, 0, K * sizeof(float));
    return -1;
  }
  void Judge(float, float) {}
  float BlockShare(float) const { return 1.0f; }
};

}  // namespace cbpnet

#endif  // CBPNET_BANK_H_
