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

// What differs between float and double in exp(x), x <= 0: Cephes' expf, and Taylor's series of degree 13,
// whose remainder on |r| <= ln 2 / 2 is below 2^-57.
template <class A>
struct ExpTable;

template <>
struct ExpTable<float> {
  using Bits = uint32_t;
  static constexpr int kMantissa = 23;
  static constexpr uint32_t kBias = 127;
  static constexpr float kLeast = -88.02f;      // there n = -127, whose scale is 0: below 2^-126.5 all is 0
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kSeries[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                      4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
};

template <>
struct ExpTable<double> {
  using Bits = uint64_t;
  static constexpr int kMantissa = 52;
  static constexpr uint64_t kBias = 1023;
  static constexpr double kLeast = -709.08;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 6.93145751953125e-1, kLn2Low = 1.42860682030941723212e-6;
  static constexpr double kSeries[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                       1.0 / 362880,     1.0 / 40320,     1.0 / 5040,     1.0 / 720,
                                       1.0 / 120,        1.0 / 24,        1.0 / 6,        1.0 / 2};
};

// exp(x) for x <= 0 (or hardly above), NaN for NaN: x = n ln 2 + r, exp(x) = 2^n exp(r). exp(0) is exactly 1.
template <class A>
SSLK_INLINE A exp_nonpositive(A x) {
  using Table = ExpTable<A>;
  using Bits = typename Table::Bits;
  constexpr A kLog2E = A(1.44269504088896340736);
  const A kept = x < Table::kLeast ? Table::kLeast : x;
  const A shifted = kept * kLog2E + Table::kRound;
  const A n = shifted - Table::kRound;
  const A r = (kept - n * Table::kLn2High) - n * Table::kLn2Low;
  A series = Table::kSeries[0];
  for (size_t i = 1; i < sizeof(Table::kSeries) / sizeof(A); ++i) series = series * r + Table::kSeries[i];
  Bits bits, integer;
  std::memcpy(&bits, &shifted, sizeof bits);
  integer = (bits + Table::kBias) << Table::kMantissa;  // the low bits of `shifted` hold n
  A scale;
  std::memcpy(&scale, &integer, sizeof scale);
  return ((series * r) * r + r + A(1)) * scale;
}

// x = exp(x) for x <= 0. Of doubles, what is below 2^-1022.5 is 0.
[[maybe_unused]] SSLK_CLONES static void exponentiate(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = exponential(x[i]);
}

[[maybe_unused]] SSLK_CLONES static void exponentiate(double* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = exp_nonpositive(x[i]);
}

}  // namespace sslkernels
