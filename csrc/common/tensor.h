// What a cpu.cpp needs of torch's stable ABI: tensor views, allocation, the parallel loop.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>

#include "memory.h"
#include "parallel.h"

namespace sslkernels {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// torch's own thread pool. What a body throws would lose its text there: it is kept and thrown again
// by the calling thread, the lowest range first, whatever the number of threads.
struct TorchLoop {
  template <class Body>
  void operator()(int64_t n, int64_t grain, Body&& body) const {
    if (n <= 0) return;
    std::mutex mutex;
    std::exception_ptr error;
    int64_t error_at = std::numeric_limits<int64_t>::max();
    torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
      try {
        body(begin, end);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (begin < error_at) {
          error_at = begin;
          error = std::current_exception();
        }
      }
    });
    if (error) std::rethrow_exception(error);
  }
};

// A tensor with its strides in order: itself where they are, which the dispatcher would say in a microsecond.
inline Tensor in_order(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline std::optional<Tensor> in_order(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? std::optional<Tensor>(in_order(*tensor)) : std::nullopt;
}

// Memory for a result on the device of `like`, with its dtype unless one is given. torch::stable::new_empty
// looks its operator up by name at each call, which takes as long again as the allocation.
inline Tensor new_tensor(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
                         std::optional<ScalarType> dtype = std::nullopt) {
  int32_t type =
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype.value_or(like.scalar_type())));
  AtenTensorHandle made;
  TORCH_ERROR_CODE_CHECK(aoti_torch_aten_new_empty(like.get(), sizes.data(),
                                                   static_cast<int64_t>(sizes.size()), &type, nullptr,
                                                   nullptr, 0, nullptr, &made));
  Tensor tensor(made);
  if (!tensor.is_cpu()) return tensor;
  int64_t bytes;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(made, &bytes));
  keep_freed_memory(bytes);
  prefer_huge_pages(tensor.mutable_data_ptr(), bytes);
  return tensor;
}

// The same for a result of the shape of `like`.
inline Tensor new_tensor(const Tensor& like) {
  int64_t* sizes;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(like.get(), &sizes));
  return new_tensor(like, {sizes, static_cast<size_t>(like.dim())});
}

// A null pointer stands for an absent optional tensor.
template <class T>
const T* data_or_null(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr<T>() : nullptr;
}

// dispatch_integer(dtype, "name", [&](auto zero) { using Id = decltype(zero); ... });
template <class F>
auto dispatch_integer(ScalarType dtype, const char* name, F&& body) {
  switch (dtype) {
    case ScalarType::Int:
      return body(int32_t{0});
    case ScalarType::Long:
      return body(int64_t{0});
    default:
      throw std::invalid_argument(std::string(name) + " must be int32 or int64");
  }
}

template <class F>
auto dispatch_float(ScalarType dtype, const char* name, F&& body) {
  switch (dtype) {
    case ScalarType::Float:
      return body(float{0});
    case ScalarType::Double:
      return body(double{0});
    case ScalarType::Half:
      return body(c10::Half{});
    case ScalarType::BFloat16:
      return body(c10::BFloat16{});
    default:
      throw std::invalid_argument(std::string(name) + " must be float32, float64, float16 or bfloat16");
  }
}

}  // namespace sslkernels
