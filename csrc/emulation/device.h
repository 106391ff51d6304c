// CUDA's device language as C++ on the emulated machine: included by common/cuda.cuh, never by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

#define threadIdx (::sslkernels::emulation::here().thread)
#define blockIdx (::sslkernels::emulation::here().block)
#define blockDim (::sslkernels::emulation::here().launch->block)
#define gridDim (::sslkernels::emulation::here().launch->grid)

// A static variable stands for the declaration: each instance of a template has its own.
#define SHARED(type, name, n) \
  static char name##_key;     \
  type* const name =          \
      static_cast<type*>(::sslkernels::emulation::shared_memory(&name##_key, sizeof(type) * (n)))
#define IN_BOUNDS(condition) ((condition) || ::sslkernels::emulation::forgotten({__FILE__, __LINE__}))

#define CLAMPED(value, low, high) \
  ::sslkernels::emulation::clamped(value, low, high, ::sslkernels::emulation::Place{__FILE__, __LINE__})

// The place of the call, for messages.
#define SSLK_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace sslkernels {

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::dynamic_memory());
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t bytes, void* /*stream*/,
            Arguments... arguments) {
  using Call = std::pair<void (*)(Parameters...), std::tuple<Parameters...>>;
  Call call(kernel, {static_cast<Parameters>(arguments)...});
  const auto body = [](void* opaque) {
    const Call& made = *static_cast<const Call*>(opaque);
    std::apply(made.first, made.second);
  };
  emulation::run({grid, block, bytes, body, &call});
}

template <class T>
T read_back(const T* value, void* /*stream*/) {
  return *value;
}

template <class T>
std::vector<T> copy_to_host(const T* values, int64_t count, void* /*stream*/) {
  return std::vector<T>(values, values + count);
}

namespace emulation {

template <class T>
T clamped(T value, std::type_identity_t<T> low, std::type_identity_t<T> high, Place place) {
  if (low <= value && value <= high) return value;
  return forgotten(place) ? value : value < low ? low : high;
}

template <class T>
T shuffle(unsigned mask, T value, unsigned source, Place place) {
  static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = meet_warp(Kind::kShuffle, mask, bits, source, place);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// The lane that a shuffle inside sub-warps of `width` lanes reads: its own where `source` leaves them.
inline unsigned within(int source, int first, int width) {
  return static_cast<unsigned>(source >= first && source < first + width ? source
                                                                         : static_cast<int>(here().lane));
}

inline int first_lane(int width) { return static_cast<int>(here().lane) / width * width; }

}  // namespace emulation
}  // namespace sslkernels

// -- barriers ---------------------------------------------------------------------------------------------

inline void __syncthreads(SSLK_PLACE) {
  if (!sslkernels::emulation::removed({file, line})) sslkernels::emulation::meet_block(0, {file, line});
}

// One that is taken away knows its own thread alone.
inline int __syncthreads_count(int predicate, SSLK_PLACE) {
  if (sslkernels::emulation::removed({file, line})) return predicate != 0;
  return static_cast<int>(sslkernels::emulation::meet_block(predicate != 0, {file, line}));
}

inline int __syncthreads_or(int predicate, SSLK_PLACE) {
  if (sslkernels::emulation::removed({file, line})) return predicate != 0;
  return sslkernels::emulation::meet_block(predicate != 0, {file, line}) != 0;
}

inline int __syncthreads_and(int predicate, SSLK_PLACE) {
  if (sslkernels::emulation::removed({file, line})) return predicate != 0;
  return sslkernels::emulation::meet_block(predicate == 0, {file, line}) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, SSLK_PLACE) {
  if (sslkernels::emulation::removed({file, line})) return;
  sslkernels::emulation::meet_warp(sslkernels::emulation::Kind::kWarpBarrier, mask, 0, 0, {file, line});
}

// Threads run one at a time, and the race check knows only the edges of barriers and atomics.
inline void __threadfence() {}

// -- warps ------------------------------------------------------------------------------------------------

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SSLK_PLACE) {
  const int lane = sslkernels::emulation::first_lane(width) + (source & (width - 1));
  return sslkernels::emulation::shuffle(mask, value, static_cast<unsigned>(lane), {file, line});
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SSLK_PLACE) {
  const int first = sslkernels::emulation::first_lane(width);
  const int source = static_cast<int>(sslkernels::emulation::here().lane) - static_cast<int>(delta);
  return sslkernels::emulation::shuffle(mask, value, sslkernels::emulation::within(source, first, width),
                                        {file, line});
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SSLK_PLACE) {
  const int first = sslkernels::emulation::first_lane(width);
  const int source = static_cast<int>(sslkernels::emulation::here().lane + delta);
  return sslkernels::emulation::shuffle(mask, value, sslkernels::emulation::within(source, first, width),
                                        {file, line});
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, SSLK_PLACE) {
  const int first = sslkernels::emulation::first_lane(width);
  const int source = static_cast<int>(sslkernels::emulation::here().lane) ^ lanes;
  // A lane of an earlier sub-warp may be read, one of a later sub-warp not.
  const unsigned from = static_cast<unsigned>(
      source < first + width ? source : static_cast<int>(sslkernels::emulation::here().lane));
  return sslkernels::emulation::shuffle(mask, value, from, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SSLK_PLACE) {
  return static_cast<unsigned>(sslkernels::emulation::meet_warp(sslkernels::emulation::Kind::kBallot, mask,
                                                                predicate != 0, 0, {file, line}));
}

inline int __any_sync(unsigned mask, int predicate, SSLK_PLACE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, SSLK_PLACE) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}

// -- atomics on integers, and bits ------------------------------------------------------------------------

namespace sslkernels::emulation {

template <class T>
using Integer = std::enable_if_t<std::is_integral_v<T>, T>;

// *address = combine(*address); the value before.
template <class T, class Combine>
T update(T* address, Combine combine) {
  T before = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &before, combine(before), false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED)) {
  }
  return before;
}

}  // namespace sslkernels::emulation

template <class T>
sslkernels::emulation::Integer<T> atomicAdd(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

template <class T>
sslkernels::emulation::Integer<T> atomicOr(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_or(address, value, __ATOMIC_RELAXED);
}

template <class T>
sslkernels::emulation::Integer<T> atomicAnd(T* address, std::type_identity_t<T> value) {
  return __atomic_fetch_and(address, value, __ATOMIC_RELAXED);
}

template <class T>
sslkernels::emulation::Integer<T> atomicExch(T* address, std::type_identity_t<T> value) {
  return __atomic_exchange_n(address, value, __ATOMIC_RELAXED);
}

template <class T>
sslkernels::emulation::Integer<T> atomicMin(T* address, std::type_identity_t<T> value) {
  return sslkernels::emulation::update(address, [=](T now) { return now < value ? now : value; });
}

template <class T>
sslkernels::emulation::Integer<T> atomicMax(T* address, std::type_identity_t<T> value) {
  return sslkernels::emulation::update(address, [=](T now) { return now > value ? now : value; });
}

template <class T>
sslkernels::emulation::Integer<T> atomicCAS(T* address, std::type_identity_t<T> expected,
                                            std::type_identity_t<T> value) {
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }

#undef SSLK_PLACE
