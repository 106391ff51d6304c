// Exponentials of whole arrays, in vector registers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "simd.h"

namespace sslkernels {

// 2^n for -150 < n < 128, whatever the bits of a NaN's n.
inline float power_of_two(int32_t n) {
  const uint32_t bits = static_cast<uint32_t>(n + 127) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// exp(x) for x <= 88: within 2 units in the last place, underflow gradual, exp(-inf) = 0, NaN stays NaN.
// x = n log 2 + r with |r| <= log(2) / 2 and log 2 in two parts (Cody and Waite, "Software manual for the
// elementary functions", 1980); e^r by its Taylor polynomial of degree 7.
inline float exponential(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  x = x < -104.0f ? -104.0f : x;
  const float shifted = x * 1.44269504f + kRound;
  int32_t bits, zero;
  std::memcpy(&bits, &shifted, sizeof(bits));
  std::memcpy(&zero, &kRound, sizeof(zero));
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  // In two steps, so that the result may be subnormal.
  const int32_t power = static_cast<int32_t>(static_cast<uint32_t>(bits) - static_cast<uint32_t>(zero));
  const int32_t half = power >> 1;
  return p * power_of_two(half) * power_of_two(power - half);
}

SSLK_CLONES static void exponentiate(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = exponential(x[i]);
}

static inline void exponentiate(double* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::exp(x[i]);
}

}  // namespace sslkernels
