// Checks of values that the operators of this family share.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace sslkernels::walks {

inline std::string entry(const char* name, int64_t at) { return name + ("[" + std::to_string(at) + "]"); }

// A ptr of segments starts at 0, never descends, and ends at `end` (unless that is negative).
inline void check_ptr(const char* name, const int64_t* ptr, int64_t segments, int64_t end) {
  if (ptr[0] != 0) {
    throw std::invalid_argument(entry(name, 0) + " is " + std::to_string(ptr[0]) + ", it must be 0");
  }
  for (int64_t i = 0; i < segments; ++i) {
    if (ptr[i + 1] < ptr[i]) {
      throw std::invalid_argument(entry(name, i + 1) + " is " + std::to_string(ptr[i + 1]) +
                                  ", below the entry before it, " + std::to_string(ptr[i]));
    }
  }
  if (end >= 0 && ptr[segments] != end) {
    throw std::invalid_argument(entry(name, segments) + " is " + std::to_string(ptr[segments]) +
                                ", it must be " + std::to_string(end));
  }
}

}  // namespace sslkernels::walks
