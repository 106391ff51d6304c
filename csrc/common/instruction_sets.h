// Loops written by hand for an instruction set, and which of them this processor runs.
//
// simd.h has plain loops compiled for several sets by the compiler. Where intrinsics are worth it, a function
// `f` has variants, each a function with a name of its own: f_plain, which every machine runs and which says
// what the others must give, f_avx2 and f_avx512. `f` itself calls the one that fits, found at its first
// call: no machine runs an instruction that it lacks, also where a static initialiser calls. As every variant
// can be called by name, csrc/instruction_sets/compare.cpp holds each that the processor has to the plain
// one.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#include <immintrin.h>
#define SSLK_X86
#define SSLK_AVX2 __attribute__((target("avx2")))
#define SSLK_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

namespace sslkernels {

// Also whether the system keeps the registers; __builtin_cpu_init, as a static initialiser may come first.
inline bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") != 0;
}

inline bool has_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0;
}

template <class Function>
Function* fitting(Function* plain, Function* avx2, Function* avx512) {
  return has_avx512() ? avx512 : has_avx2() ? avx2 : plain;
}

}  // namespace sslkernels
#endif
