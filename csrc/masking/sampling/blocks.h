// The weights of blocks of logits, in vector registers. A is double for double, float for everything else.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "common/exponential.h"
#include "common/simd.h"

namespace sslkernels::sampling {

constexpr int64_t kBlock = 256;  // frozen: another size draws other tokens
constexpr int64_t kLanes = 32;   // running values, so that the order of a sum is the same everywhere

// Two numbers a block of columns, and room for the weights of a row's blocks.
template <class A>
struct Masses {
  explicit Masses(int64_t blocks)
      : largest(static_cast<size_t>(blocks)),
        sum(static_cast<size_t>(blocks)),
        weight(static_cast<size_t>(blocks)) {}
  std::vector<A> largest, sum, weight;
};

// 2 / T, finite and above 0 in A; 0 stands for T = 0, where the largest logit is taken. The factor 2 is
// because logits are halved first: the difference of two large ones must not overflow.
template <class A>
A rate_of(double temperature) {
  if (temperature == 0) return 0;
  const double low = static_cast<double>(std::numeric_limits<A>::min());
  const double high = static_cast<double>(std::numeric_limits<A>::max());
  return static_cast<A>(std::clamp(2 / temperature, low, high));
}

// exp((x - largest) / T), or at T = 0 whether x is the largest. NaN stays NaN.
template <class A>
SSLK_INLINE A weight_of(A x, A half_largest, A rate) {
  return exp_nonpositive((x * A(0.5) - half_largest) * rate);
}

template <class A>
SSLK_INLINE A is_largest(A x, A largest) {
  return x == largest ? A(1) : (x != x ? x : A(0));
}

// Half of it, or 0 for -inf, so that -inf - -inf does not arise.
template <class A>
SSLK_INLINE A half_of(A largest) {
  return largest == -std::numeric_limits<A>::infinity() ? A(0) : largest * A(0.5);
}

// A block's entries as A, -inf where forbidden or past the row's end.
template <class T, class A>
SSLK_INLINE void load(const T* x, const uint8_t* allowed, int64_t n, A* block) {
  constexpr A kNone = -std::numeric_limits<A>::infinity();
  if (n == kBlock && allowed == nullptr) {
    for (int64_t j = 0; j < kBlock; ++j) block[j] = static_cast<A>(x[j]);
  } else if (allowed == nullptr) {
    for (int64_t j = 0; j < n; ++j) block[j] = static_cast<A>(x[j]);
  } else {
    for (int64_t j = 0; j < n; ++j) {
      const A value = static_cast<A>(x[j]);  // read in any case, so that the loop has no branch
      block[j] = allowed[j] != 0 ? value : kNone;
    }
  }
  for (int64_t j = n; j < kBlock; ++j) block[j] = kNone;
}

template <class A>
SSLK_INLINE A largest_of(const A* block) {
  A lane[kLanes];
  for (int64_t l = 0; l < kLanes; ++l) lane[l] = block[l];
  for (int64_t j = kLanes; j < kBlock; j += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lane[l] = block[j + l] > lane[l] ? block[j + l] : lane[l];
  }
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t l = 0; l < width; ++l) lane[l] = lane[l + width] > lane[l] ? lane[l + width] : lane[l];
  }
  return lane[0];
}

// The entries become their weights; returns the sum.
template <bool kArgmax, class A>
SSLK_INLINE A to_weights(A* block, A largest, A rate) {
  const A half = half_of(largest);
  A lane[kLanes] = {};
  for (int64_t j = 0; j < kBlock; j += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) {
      const A weight = kArgmax ? is_largest(block[j + l], largest) : weight_of(block[j + l], half, rate);
      block[j + l] = weight;
      lane[l] += weight;
    }
  }
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t l = 0; l < width; ++l) lane[l] += lane[l + width];
  }
  return lane[0];
}

// largest[b] and sum[b] of the blocks [first, last) of a row; `block` is left with the weights of the last.
// A NaN where allowed makes its block's sum NaN, and so does +inf unless T = 0.
template <class T, class A>
SSLK_INLINE void weigh_body(const T* x, const uint8_t* allowed, int64_t columns, int64_t first, int64_t last,
                            A rate, A* largest, A* sum, A* block) {
  for (int64_t b = first; b < last; ++b) {
    const int64_t begin = b * kBlock;
    load(x + begin, allowed == nullptr ? nullptr : allowed + begin, std::min(kBlock, columns - begin), block);
    largest[b - first] = largest_of(block);
    const A most = largest[b - first];
    sum[b - first] = rate == 0 ? to_weights<true>(block, most, rate) : to_weights<false>(block, most, rate);
  }
}

SSLK_CLONES static void weigh_blocks(const float* x, const uint8_t* allowed, int64_t columns, int64_t first,
                                     int64_t last, float rate, float* largest, float* sum, float* block) {
  weigh_body(x, allowed, columns, first, last, rate, largest, sum, block);
}
SSLK_CLONES static void weigh_blocks(const double* x, const uint8_t* allowed, int64_t columns, int64_t first,
                                     int64_t last, double rate, double* largest, double* sum, double* block) {
  weigh_body(x, allowed, columns, first, last, rate, largest, sum, block);
}
SSLK_CLONES static void weigh_blocks(const c10::Half* x, const uint8_t* allowed, int64_t columns,
                                     int64_t first, int64_t last, float rate, float* largest, float* sum,
                                     float* block) {
  weigh_body(x, allowed, columns, first, last, rate, largest, sum, block);
}
SSLK_CLONES static void weigh_blocks(const c10::BFloat16* x, const uint8_t* allowed, int64_t columns,
                                     int64_t first, int64_t last, float rate, float* largest, float* sum,
                                     float* block) {
  weigh_body(x, allowed, columns, first, last, rate, largest, sum, block);
}

// The weights of a row's n blocks; NaN where some allowed entry is NaN or +inf, or all are -inf.
template <class A>
SSLK_INLINE void weigh_masses_body(const A* largest, const A* sum, int64_t n, A rate, A* weight) {
  A top = -std::numeric_limits<A>::infinity();
  for (int64_t b = 0; b < n; ++b) top = largest[b] > top ? largest[b] : top;
  const A half = half_of(top), spoils = top - top;
  for (int64_t b = 0; b < n; ++b) {
    const A scale = rate == 0 ? is_largest(largest[b], top) : weight_of(largest[b], half, rate);
    weight[b] = sum[b] * scale + spoils;
  }
}

SSLK_CLONES static void weigh_masses(const float* largest, const float* sum, int64_t n, float rate,
                                     float* weight) {
  weigh_masses_body(largest, sum, n, rate, weight);
}
SSLK_CLONES static void weigh_masses(const double* largest, const double* sum, int64_t n, double rate,
                                     double* weight) {
  weigh_masses_body(largest, sum, n, rate, weight);
}

}  // namespace sslkernels::sampling
