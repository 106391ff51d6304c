// The random words that order a graph's incidence lists.
#pragma once

#include <cstdint>

#include "workspace.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define SSLK_WALK_CLONES __attribute__((target_clones("avx2", "default")))
#elif defined(__CUDACC__)
#define SSLK_WALK_CLONES __host__ __device__
#else
#define SSLK_WALK_CLONES
#endif

namespace sslkernels::walks {

constexpr uint32_t kBlockDraws = 8;

// philox4x32 at the counters (position + i, kWalkEdge, sample) for i in [0, kBlockDraws), one lane each.
[[maybe_unused]] SSLK_WALK_CLONES static void draw_block(Key key, int64_t sample, uint32_t position,
                                                         uint32_t* __restrict words) {
  uint32_t c0[kBlockDraws], c1[kBlockDraws], c2[kBlockDraws], c3[kBlockDraws];
  for (uint32_t i = 0; i < kBlockDraws; ++i) {
    c0[i] = position + i;
    c1[i] = kWalkEdge;
    c2[i] = static_cast<uint32_t>(sample);
    c3[i] = static_cast<uint32_t>(static_cast<uint64_t>(sample) >> 32);
  }
  for (int round = 0; round < 10; ++round) {
    for (uint32_t i = 0; i < kBlockDraws; ++i) {
      const uint64_t product0 = uint64_t{0xD2511F53u} * c0[i], product1 = uint64_t{0xCD9E8D57u} * c2[i];
      c0[i] = static_cast<uint32_t>(product1 >> 32) ^ c1[i] ^ key.low;
      c1[i] = static_cast<uint32_t>(product1);
      c2[i] = static_cast<uint32_t>(product0 >> 32) ^ c3[i] ^ key.high;
      c3[i] = static_cast<uint32_t>(product0);
    }
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  for (uint32_t i = 0; i < kBlockDraws; ++i) {
    words[4 * i] = c0[i];
    words[4 * i + 1] = c1[i];
    words[4 * i + 2] = c2[i];
    words[4 * i + 3] = c3[i];
  }
}

// Words of kWalkEdge at the positions 0, 1, ...
class EdgeWords {
 public:
  SSLK_HOST_DEVICE EdgeWords(Key key, int64_t sample) : key_(key), sample_(sample) {}
  SSLK_HOST_DEVICE uint32_t next() {
    if (place_ == 4 * kBlockDraws) {
      draw_block(key_, sample_, position_, words_);
      position_ += kBlockDraws;
      place_ = 0;
    }
    return words_[place_++];
  }

 private:
  Key key_;
  int64_t sample_;
  uint32_t position_ = 0, place_ = 4 * kBlockDraws;
  uint32_t words_[4 * kBlockDraws];
};

}  // namespace sslkernels::walks
