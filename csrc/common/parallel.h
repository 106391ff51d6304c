// Parallel loops. A core is a template over its loop, so that one source serves torch's thread pool
// (TorchLoop in tensor.h) and the NumPy face (SerialLoop, under a released GIL).
#pragma once

#include <cstdint>

namespace sslkernels {

// loop(n, grain, body) calls body(begin, end) on ranges that cover [0, n); a range holds at least
// `grain` items unless n does not. A body may throw: the exception of the first range that threw
// reaches the caller with its text.
struct SerialLoop {
  template <class Body>
  void operator()(int64_t n, int64_t /*grain*/, Body&& body) const {
    if (n > 0) body(int64_t{0}, n);
  }
};

}  // namespace sslkernels
