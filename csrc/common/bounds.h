// Checks that keep an access inside its memory, in code that a GPU runs, too.
//
//   IN_BOUNDS(i < n)             the condition
//   CLAMPED(value, low, high)    the nearest to `value` in [low, high]
//
// On the emulated GPU each of them can be taken away by its line (common/cuda.cuh), and a test sees that it
// is missed: one in a line.
#pragma once

#include <type_traits>

#include "philox.h"

#ifndef IN_BOUNDS  // else the emulated GPU's (emulation/device.h)
#define IN_BOUNDS(condition) (condition)
#define CLAMPED(value, low, high) ::sslkernels::clamped(value, low, high)

namespace sslkernels {

template <class T>
SSLK_HOST_DEVICE T clamped(T value, std::type_identity_t<T> low, std::type_identity_t<T> high) {
  return value < low ? low : value > high ? high : value;
}

}  // namespace sslkernels
#endif
