// What the host side of a cuda.cu needs of torch: the stream of a tensor's device, and where its operators
// are registered. As C++ the same source serves CPU tensors, in the namespace of the emulation.
#pragma once

#include <cstdlib>
#include <string_view>

#include "cuda.cuh"
#include "tensor.h"

#ifdef __CUDACC__
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#define SSLK_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(sslkernels, CUDA, m)
#else
#define SSLK_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(sslkernels_emulated, CPU, m)
#endif

namespace sslkernels {

// While it lives, the tensor's device is the current one.
class OnDevice {
 public:
#ifdef __CUDACC__
  explicit OnDevice(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream_));
  }
#else
  explicit OnDevice(const Tensor& /*tensor*/) {}
#endif

  void* stream() const { return stream_; }

 private:
#ifdef __CUDACC__
  torch::stable::accelerator::DeviceGuard guard_;
#endif
  void* stream_ = nullptr;
};

// Looking at values on the device costs a synchronisation: it is done where SSLKERNELS_CHECK=1.
inline bool values_are_checked() {
  const char* setting = std::getenv("SSLKERNELS_CHECK");
  return setting != nullptr && std::string_view(setting) == "1";
}

// The blocks of `threads` threads that give every item one.
inline dim3 blocks_for(int64_t items, int64_t threads) {
  const int64_t blocks = (items + threads - 1) / threads;
  if (blocks >= int64_t{1} << 31) throw std::invalid_argument("more elements than one launch can serve");
  return dim3(blocks);
}

}  // namespace sslkernels
