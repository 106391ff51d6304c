// Softmax over the segments of ragged rows, column by column, and its backward: the first result of the graph
// room on a GPU, and the pattern of a differentiable operator in CUDA C++. Not yet measured on one.
//
// A short segment's column belongs to one thread: neighbours in a warp read neighbouring columns, and what
// they read again is still in the first-level cache. A long segment belongs to a block: each thread takes
// every so-many'th row of its column, and partial results are combined in shared memory in a fixed order. The
// long kernel is launched where there are rows enough for a long segment; its blocks walk all segments and
// pass the short ones by. Every element is written by one thread, and no atomics are used: the same bits at
// every run.
//
// Looking at ptr's values would wait for the device: bounds are clamped, so that a malformed ptr gives wrong
// numbers but every row is written and nothing outside. SSLKERNELS_CHECK=1 refuses it first.
#include <limits>

#include "../../common/accumulate.h"
#include "../../common/cuda_tensor.cuh"

namespace sslkernels {
namespace {

constexpr int kThreads = 128;         // of a block, in both kernels
constexpr int64_t kShortRows = 256;   // the most rows that one thread walks alone
constexpr int64_t kLongBlocks = 512;  // of the long kernel: a few for each multiprocessor

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

struct Rows {
  int64_t begin, end;
};

// The rows of a segment. The first begins at 0 and the last ends at `rows` whatever ptr says, and an end
// never lies before its begin: so all segments together cover every row.
template <class Id>
__device__ Rows rows_of(const Id* ptr, int64_t segment, int64_t segments, int64_t rows) {
  const int64_t begin = segment == 0 ? 0 : CLAMPED(static_cast<int64_t>(ptr[segment]), 0, rows);
  const int64_t end = segment == segments - 1 ? rows : static_cast<int64_t>(ptr[segment + 1]);
  return {begin, CLAMPED(end, begin, rows)};
}

// max that keeps a NaN.
template <class F>
__device__ F larger(F a, F b) {
  return a > b || a != a ? a : b;
}

// A column of -inf is shifted by nothing: its exponentials are 0, and so is its sum, which scales it by 0.
template <class F>
__device__ F shift_of(F maximum) {
  return maximum == -std::numeric_limits<F>::infinity() ? F(0) : maximum;
}

template <class F>
__device__ F scale_of(F sum) {
  return sum == F(0) ? F(0) : F(1) / sum;
}

// What the two passes of each direction do with one element; shared by the short and the long kernel.
template <class T>
struct Softmax {
  const T* x;
  T* out;

  __device__ Accumulate<T> value(int64_t at) const { return static_cast<Accumulate<T>>(x[at]); }
};

template <class T>
struct SoftmaxBackward {
  const T *grad_out, *out;
  T* grad_x;

  __device__ Accumulate<T> product(int64_t at) const {
    return static_cast<Accumulate<T>>(grad_out[at]) * static_cast<Accumulate<T>>(out[at]);
  }
  __device__ void write(int64_t at, Accumulate<T> inner) const {
    const Accumulate<T> centred = static_cast<Accumulate<T>>(grad_out[at]) - inner;
    grad_x[at] = static_cast<T>(static_cast<Accumulate<T>>(out[at]) * centred);
  }
};

// -- a thread a column
// ----------------------------------------------------------------------------------------

template <class T, class Id>
__global__ void short_softmax_kernel(Softmax<T> data, const Id* ptr, int64_t segments, int64_t rows,
                                     int64_t columns) {
  using F = Accumulate<T>;
  const int64_t task = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (!IN_BOUNDS(task < segments * columns)) return;
  const Rows own = rows_of(ptr, task / columns, segments, rows);
  const int64_t column = task % columns;
  if (own.end - own.begin > kShortRows) return;
  F maximum = -std::numeric_limits<F>::infinity();
  for (int64_t row = own.begin; IN_BOUNDS(row < own.end); ++row) {
    maximum = larger(data.value(row * columns + column), maximum);
  }
  const F shift = shift_of(maximum);
  F sum = 0;
  for (int64_t row = own.begin; IN_BOUNDS(row < own.end); ++row) {
    sum += exponential(data.value(row * columns + column) - shift);
  }
  const F scale = scale_of(sum);
  for (int64_t row = own.begin; IN_BOUNDS(row < own.end); ++row) {
    const int64_t at = row * columns + column;
    data.out[at] = static_cast<T>(exponential(data.value(at) - shift) * scale);
  }
}

template <class T, class Id>
__global__ void short_backward_kernel(SoftmaxBackward<T> data, const Id* ptr, int64_t segments, int64_t rows,
                                      int64_t columns) {
  const int64_t task = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (!IN_BOUNDS(task < segments * columns)) return;
  const Rows own = rows_of(ptr, task / columns, segments, rows);
  const int64_t column = task % columns;
  if (own.end - own.begin > kShortRows) return;
  Accumulate<T> inner = 0;
  for (int64_t row = own.begin; IN_BOUNDS(row < own.end); ++row) {
    inner += data.product(row * columns + column);
  }
  for (int64_t row = own.begin; IN_BOUNDS(row < own.end); ++row) data.write(row * columns + column, inner);
}

// -- a block a segment
// ----------------------------------------------------------------------------------------

// Threads of a block as `lanes` rows of `width` columns, both powers of two.
struct Tile {
  int width, lanes;
};

// Combines the values of a column's lanes; every one of them gets the result. All threads of the block call
// it.
template <class F, class Combine>
__device__ F combine_lanes(F value, Tile tile, Combine combine) {
  SHARED(F, part, kThreads);
  const int thread = threadIdx.x;
  part[thread] = value;
  __syncthreads();
  for (int half = tile.lanes / 2; half > 0; half /= 2) {
    const int other = thread + half * tile.width;
    if (IN_BOUNDS(other < 2 * half * tile.width)) part[thread] = combine(part[thread], part[other]);
    __syncthreads();
  }
  const F combined = part[thread % tile.width];
  __syncthreads();  // the next call writes where slow threads still read
  return combined;
}

// Calls body(rows, column, whether there is such a column) for every tile of columns of every long segment of
// this block: by all its threads together, so that body may hold barriers.
template <class Id, class Body>
__device__ void for_long_segments(const Id* ptr, int64_t segments, int64_t rows, int64_t columns, Tile tile,
                                  Body body) {
  for (int64_t segment = blockIdx.x; IN_BOUNDS(segment < segments); segment += gridDim.x) {
    const Rows own = rows_of(ptr, segment, segments, rows);
    if (own.end - own.begin <= kShortRows) continue;
    for (int64_t first = 0; first < columns; first += tile.width) {
      body(own, first + static_cast<int>(threadIdx.x) % tile.width);
    }
  }
}

template <class T, class Id>
__global__ void long_softmax_kernel(Softmax<T> data, const Id* ptr, int64_t segments, int64_t rows,
                                    int64_t columns, Tile tile) {
  using F = Accumulate<T>;
  const int lane = static_cast<int>(threadIdx.x) / tile.width;
  for_long_segments(ptr, segments, rows, columns, tile, [&](Rows own, int64_t column) {
    // A thread beyond the last column has no rows, but takes part in the barriers.
    const int64_t end = IN_BOUNDS(column < columns) ? own.end : own.begin;
    F maximum = -std::numeric_limits<F>::infinity();
    for (int64_t row = own.begin + lane; IN_BOUNDS(row < end); row += tile.lanes) {
      maximum = larger(data.value(row * columns + column), maximum);
    }
    const F shift = shift_of(combine_lanes(maximum, tile, [](F a, F b) { return larger(a, b); }));
    F sum = 0;
    for (int64_t row = own.begin + lane; IN_BOUNDS(row < end); row += tile.lanes) {
      sum += exponential(data.value(row * columns + column) - shift);
    }
    const F scale = scale_of(combine_lanes(sum, tile, [](F a, F b) { return a + b; }));
    for (int64_t row = own.begin + lane; IN_BOUNDS(row < end); row += tile.lanes) {
      const int64_t at = row * columns + column;
      data.out[at] = static_cast<T>(exponential(data.value(at) - shift) * scale);
    }
  });
}

template <class T, class Id>
__global__ void long_backward_kernel(SoftmaxBackward<T> data, const Id* ptr, int64_t segments, int64_t rows,
                                     int64_t columns, Tile tile) {
  using F = Accumulate<T>;
  const int lane = static_cast<int>(threadIdx.x) / tile.width;
  for_long_segments(ptr, segments, rows, columns, tile, [&](Rows own, int64_t column) {
    const int64_t end = IN_BOUNDS(column < columns) ? own.end : own.begin;
    F inner = 0;
    for (int64_t row = own.begin + lane; IN_BOUNDS(row < end); row += tile.lanes) {
      inner += data.product(row * columns + column);
    }
    inner = combine_lanes(inner, tile, [](F a, F b) { return a + b; });
    for (int64_t row = own.begin + lane; IN_BOUNDS(row < end); row += tile.lanes) {
      data.write(row * columns + column, inner);
    }
  });
}

// -- host
// -----------------------------------------------------------------------------------------------------

// The first offset that is not what it must be, or segments + 1.
template <class Id>
__global__ void check_ptr_kernel(const Id* ptr, int64_t segments, int64_t rows, unsigned long long* first) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (!IN_BOUNDS(at <= segments)) return;
  const bool good = IN_BOUNDS(at > 0) ? ptr[at] >= ptr[at - 1] : ptr[at] == 0;
  if (!good || (at == segments && ptr[at] != rows)) atomicMin(first, static_cast<unsigned long long>(at));
}

template <class Id>
void check_ptr(const Tensor& ptr, int64_t segments, int64_t rows, void* stream) {
  // -1 is the largest of unsigned numbers.
  Tensor first = new_tensor(ptr, {1}, ScalarType::Long);
  torch::stable::fill_(first, -1);
  auto* found = reinterpret_cast<unsigned long long*>(first.mutable_data_ptr<int64_t>());
  launch(&check_ptr_kernel<Id>, blocks_for(segments + 1, kThreads), kThreads, 0, stream,
         ptr.const_data_ptr<Id>(), segments, rows, found);
  const unsigned long long at = read_back(found, stream);
  if (at > static_cast<unsigned long long>(segments)) return;
  const Id value = read_back(ptr.const_data_ptr<Id>() + at, stream);
  const std::string text = "ptr[" + std::to_string(at) + "] is " + std::to_string(value);
  if (at == 0 && value != 0) throw std::invalid_argument(text + ", it must be 0");
  if (at > 0 && value < read_back(ptr.const_data_ptr<Id>() + at - 1, stream)) {
    throw std::invalid_argument(text + ", less than the entry before it");
  }
  throw std::invalid_argument(text + ", it must be the number of rows, " + std::to_string(rows));
}

// The sizes of a call.
struct Sizes {
  int64_t segments, rows, columns;

  Sizes(const Tensor& x, const Tensor& ptr)
      : segments(ptr.size(0) - 1), rows(x.size(0)), columns(x.dim() == 1 ? 1 : x.size(1)) {}

  Tile tile() const {
    int width = 1;
    while (width < columns && width < kWarp) width *= 2;
    return {width, kThreads / width};
  }
};

// Both kernels of a direction over all segments.
template <class Data, class Id, class Short, class Long>
void launch_both(Short short_kernel, Long long_kernel, Data data, const Id* ptr, const Sizes& sizes,
                 void* stream) {
  const auto [segments, rows, columns] = std::tuple(sizes.segments, sizes.rows, sizes.columns);
  if (rows == 0 || columns == 0) return;
  if (segments == 0) throw std::invalid_argument("ptr[0] is the only offset, but there are rows");
  launch(short_kernel, blocks_for(segments * columns, kThreads), kThreads, 0, stream, data, ptr, segments,
         rows, columns);
  if (rows > kShortRows) {
    const int64_t blocks = segments < kLongBlocks ? segments : kLongBlocks;
    launch(long_kernel, dim3(blocks), kThreads, 0, stream, data, ptr, segments, rows, columns, sizes.tile());
  }
}

Tensor segment_softmax_cuda(const Tensor& x_any, const Tensor& ptr_any) {
  const Tensor x = torch::stable::contiguous(x_any), ptr = torch::stable::contiguous(ptr_any);
  const OnDevice device(x);
  const Sizes sizes(x, ptr);
  return dispatch_integer(ptr.scalar_type(), "ptr", [&](auto id) {
    using Id = decltype(id);
    if (values_are_checked()) check_ptr<Id>(ptr, sizes.segments, sizes.rows, device.stream());
    return dispatch_float(x.scalar_type(), "x", [&](auto zero) {
      using T = decltype(zero);
      Tensor out = new_tensor(x);
      const Softmax<T> data{x.const_data_ptr<T>(), out.mutable_data_ptr<T>()};
      launch_both(&short_softmax_kernel<T, Id>, &long_softmax_kernel<T, Id>, data, ptr.const_data_ptr<Id>(),
                  sizes, device.stream());
      return out;
    });
  });
}

Tensor segment_softmax_backward_cuda(const Tensor& grad_any, const Tensor& out_any, const Tensor& ptr_any) {
  const Tensor grad_out = torch::stable::contiguous(grad_any), out = torch::stable::contiguous(out_any);
  const Tensor ptr = torch::stable::contiguous(ptr_any);
  const OnDevice device(out);
  const Sizes sizes(out, ptr);
  return dispatch_integer(ptr.scalar_type(), "ptr", [&](auto id) {
    using Id = decltype(id);
    if (values_are_checked()) check_ptr<Id>(ptr, sizes.segments, sizes.rows, device.stream());
    return dispatch_float(out.scalar_type(), "out", [&](auto zero) {
      using T = decltype(zero);
      Tensor grad_x = new_tensor(out);
      const SoftmaxBackward<T> data{grad_out.const_data_ptr<T>(), out.const_data_ptr<T>(),
                                    grad_x.mutable_data_ptr<T>()};
      launch_both(&short_backward_kernel<T, Id>, &long_backward_kernel<T, Id>, data, ptr.const_data_ptr<Id>(),
                  sizes, device.stream());
      return grad_x;
    });
  });
}

}  // namespace

SSLK_CUDA_LIBRARY(m) {
  m.impl("segment_softmax", TORCH_BOX(&segment_softmax_cuda));
  m.impl("segment_softmax_backward", TORCH_BOX(&segment_softmax_backward_cuda));
}

}  // namespace sslkernels
