// What a CUDA kernel may use. nvcc compiles it for the GPU; a C++ compiler turns the same source into a
// program for the CPU, where csrc/emulation runs a block's threads one after the other. No torch here:
// tensors and streams are in cuda_tensor.cuh.
//
//   launch(kernel, grid, block, bytes, stream, args...)   what <<<>>> does, and throws what it refused
//   SHARED(float, tile, 32);                              float* tile: static shared memory, uninitialised
//   dynamic_shared<float>()                               the `bytes` of the launch
//   IN_BOUNDS(i < n), CLAMPED(value, low, high)           checks that keep an access in its memory (bounds.h)
//   threadIdx, blockIdx, blockDim, gridDim, __syncthreads, __syncthreads_or, __syncwarp, __shfl_*_sync,
//   __ballot_sync, __any_sync, __all_sync, integer atomics, __popc, __ffs, __clz: CUDA's own
//
// Each barrier and each such check can be taken out of an emulated run by its line: a test does so with every
// one and sees another test fail. Not emulated, so not to be used: __activemask, asm, cp.async, mma,
// cooperative grids, waiting for another thread in a loop, and (for the sake of equal bits) float atomics.
#pragma once

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#define SHARED(type, name, n) __shared__ type name[n]

namespace sslkernels {

constexpr size_t kSharedWithoutAsking = 48 * 1024;

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char sslkernels_dynamic_shared[];
  return reinterpret_cast<T*>(sslkernels_dynamic_shared);
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t bytes, void* stream,
            Arguments... arguments) {
  if (bytes > kSharedWithoutAsking) {
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
               "shared memory");
  }
  kernel<<<grid, block, bytes, static_cast<cudaStream_t>(stream)>>>(static_cast<Parameters>(arguments)...);
  check_cuda(cudaGetLastError(), "kernel launch");
}

// One value from the device; waits for the stream.
template <class T>
T read_back(const T* value, void* stream) {
  T found;
  check_cuda(
      cudaMemcpyAsync(&found, value, sizeof(T), cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream)),
      "copy to the host");
  check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "kernel");
  return found;
}

// `count` values from the device; waits for the stream.
template <class T>
std::vector<T> copy_to_host(const T* values, int64_t count, void* stream) {
  std::vector<T> found(static_cast<size_t>(count));
  check_cuda(cudaMemcpyAsync(found.data(), values, found.size() * sizeof(T), cudaMemcpyDeviceToHost,
                             static_cast<cudaStream_t>(stream)),
             "copy to the host");
  check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "kernel");
  return found;
}

}  // namespace sslkernels

#else
#include "../emulation/device.h"
#endif

#include "bounds.h"

namespace sslkernels {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

}  // namespace sslkernels
