// Plain loops compiled for each instruction set; the fitting one is chosen once, when the library is loaded.
#pragma once

#include <cstdint>
#include <cstring>

// A sanitizer's start-up does not stand that choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if __GNUC__ >= 12
#define SSLK_CLONES __attribute__((target_clones("avx512f", "arch=x86-64-v3", "default")))  // v3: AVX2, FMA
// For loops over bytes and wider numbers: with AVX-512F alone they become half as wide.
#define SSLK_BYTE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SSLK_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#define SSLK_BYTE_CLONES SSLK_CLONES
#endif
#else
#define SSLK_CLONES
#define SSLK_BYTE_CLONES
#endif
// For what such a function consists of. It may be a template itself.
#define SSLK_INLINE inline __attribute__((always_inline))

namespace sslkernels {

// Eight flags, a byte of 0 or 1 each, as bits: flag i is bit i.
SSLK_INLINE uint8_t pack_flags(const uint8_t* flags) {
  uint64_t eight;
  std::memcpy(&eight, flags, 8);
  return static_cast<uint8_t>((eight * 0x0102040810204080u) >> 56);
}

// The eight flags again, flag i in byte i.
SSLK_INLINE uint64_t unpack_flags(uint8_t bits) {
  const uint64_t own = (bits * 0x0101010101010101u) & 0x8040201008040201u;  // bit i alone in byte i
  return ((own + 0x7F7F7F7F7F7F7F7Fu) >> 7) & 0x0101010101010101u;
}

}  // namespace sslkernels
