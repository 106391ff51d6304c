// Rows of logits on raw pointers: the online log-sum-exp and the gradient of a tile. The products between
// them are the library's (cpu.cpp). A is float or double; 16-bit inputs are widened first.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/exponential.h"
#include "common/simd.h"

namespace sslkernels::linear_cross_entropy {

// Numbers of the scored rows, ascending, and their classes.
struct Scored {
  std::vector<int64_t> row, target;

  int64_t size() const { return static_cast<int64_t>(row.size()); }
};

template <class Id>
Scored scored_rows(const Id* labels, int64_t rows, int64_t classes, int64_t ignore_index) {
  Scored scored;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t label = labels[i];
    if (label == ignore_index) continue;
    if (label < 0 || label >= classes) {
      throw std::invalid_argument("labels[" + std::to_string(i) + "] is " + std::to_string(label) +
                                  ", outside [0, " + std::to_string(classes) + ") and not ignore_index " +
                                  std::to_string(ignore_index));
    }
    scored.row.push_back(i);
    scored.target.push_back(label);
  }
  return scored;
}

// -- SIMD loops -----------------------------------------------------------------------------------------
// Bodies are templates, inlined into one clone an instruction set; sums keep kLanes running values, so that
// the compiler may use vectors and yet adds in the same order everywhere.

constexpr int64_t kLanes = 32;

template <class A>
SSLK_INLINE A max_body(const A* x, int64_t n) {
  constexpr A kLowest = -std::numeric_limits<A>::infinity();
  A lane[kLanes];
  for (int64_t l = 0; l < kLanes; ++l) lane[l] = kLowest;
  const int64_t whole = n - n % kLanes;
  for (int64_t j = 0; j < whole; j += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lane[l] = x[j + l] > lane[l] ? x[j + l] : lane[l];
  }
  for (int64_t j = whole; j < n; ++j) lane[j - whole] = x[j] > lane[j - whole] ? x[j] : lane[j - whole];
  A result = kLowest;
  for (int64_t l = 0; l < kLanes; ++l) result = lane[l] > result ? lane[l] : result;
  return result;
}

template <class A>
SSLK_INLINE A exp_sum_body(const A* x, int64_t n, A shift) {
  A lane[kLanes] = {};
  const int64_t whole = n - n % kLanes;
  for (int64_t j = 0; j < whole; j += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lane[l] += exp_nonpositive(x[j + l] - shift);
  }
  for (int64_t j = whole; j < n; ++j) lane[j - whole] += exp_nonpositive(x[j] - shift);
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t l = 0; l < width; ++l) lane[l] += lane[l + width];
  }
  return lane[0];
}

// x[j] <- factor * exp(x[j] - lse); rounding may leave lse a little below the largest logit.
template <class A>
SSLK_INLINE void softmax_body(A* x, int64_t n, A lse, A factor) {
  for (int64_t j = 0; j < n; ++j) x[j] = factor * exp_nonpositive(x[j] - lse);
}

template <class To, class From>
SSLK_INLINE void add_body(To* x, const From* y, int64_t n) {
  for (int64_t j = 0; j < n; ++j) x[j] += y[j];
}

SSLK_CLONES static float row_max(const float* x, int64_t n) { return max_body(x, n); }
SSLK_CLONES static double row_max(const double* x, int64_t n) { return max_body(x, n); }
SSLK_CLONES static float exp_sum(const float* x, int64_t n, float shift) { return exp_sum_body(x, n, shift); }
SSLK_CLONES static double exp_sum(const double* x, int64_t n, double shift) {
  return exp_sum_body(x, n, shift);
}
SSLK_CLONES static void softmax(float* x, int64_t n, float lse, float factor) {
  softmax_body(x, n, lse, factor);
}
SSLK_CLONES static void softmax(double* x, int64_t n, double lse, double factor) {
  softmax_body(x, n, lse, factor);
}
SSLK_CLONES static void add(float* x, const float* y, int64_t n) { add_body(x, y, n); }
SSLK_CLONES static void add(double* x, const double* y, int64_t n) { add_body(x, y, n); }
SSLK_CLONES static void add(double* x, const float* y, int64_t n) { add_body(x, y, n); }

// -- one row --------------------------------------------------------------------------------------------

// The log-sum-exp of a row, block after block: the sum is relative to the largest logit so far.
template <class A>
struct OnlineLse {
  A largest = -std::numeric_limits<A>::infinity();
  A sum = 0;
  A target = 0;  // the label's logit

  // x: the row's logits of the classes [first, first + n).
  void add_block(const A* x, int64_t n, int64_t first, int64_t label) {
    const A block = row_max(x, n);
    if (block > largest) {
      sum *= std::exp(largest - block);
      largest = block;
    }
    const bool nothing = largest == -std::numeric_limits<A>::infinity();  // -inf - -inf would be NaN
    sum += exp_sum(x, n, nothing ? A(0) : largest);
    if (label >= first && label < first + n) target = x[label - first];
  }

  A lse() const { return largest + std::log(sum); }
  A loss() const { return (largest - target) + std::log(sum); }
};

// A row's logits of the classes [first, first + n) become the gradient: factor * (softmax - onehot).
template <class A>
void logits_to_gradient(A* x, int64_t n, int64_t first, int64_t label, A lse, A factor) {
  softmax(x, n, lse, factor);
  if (label >= first && label < first + n) x[label - first] -= factor;
}

}  // namespace sslkernels::linear_cross_entropy
