// Many Philox calls at once: the same words as philox.h, a vector of counters in step. Host only.
#pragma once

#include <algorithm>
#include <cstdint>

#include "instruction_sets.h"
#include "philox.h"
#include "simd.h"

namespace sslkernels {

constexpr int kLanes = 16;

// A call for each of kLanes counters: lanes[j][i] is word j of the i-th.
using Lanes = uint32_t[4][kLanes];

// Memory that is used soon after a draw, brought into the second-level cache while words are made, which
// waits for nothing: a row of a batch is a page or two, past whose end a processor looks no further by
// itself.
class Ahead {
 public:
  // `bytes` from `begin` on belong beside the first block of words, as many more beside each next one.
  void add(const void* begin, int64_t bytes) {
    range_[count_++] = {reinterpret_cast<uintptr_t>(begin), static_cast<uintptr_t>(bytes)};
  }

  // Where a range has ended, what follows it is asked for: that costs little, and nothing is read.
  SSLK_INLINE void next_block() {
    for (int i = 0; i < count_; ++i) {
      const uintptr_t end = range_[i].at + range_[i].bytes;
      for (uintptr_t at = range_[i].at; at < end; at += 2 * 64)  // most bring a line's neighbour
        __builtin_prefetch(reinterpret_cast<void*>(at), 0, 2);
      range_[i].at = end;
    }
  }

 private:
  struct Range {
    uintptr_t at, bytes;
  };
  Range range_[4];
  int count_ = 0;
};

// The words of draw(key, sample, purpose, positions[i]) for blocks * kLanes positions, kLanes after kLanes.
[[maybe_unused]] static void draw_lanes_plain(Key key, int64_t sample, uint32_t purpose,
                                              const uint32_t* positions, int64_t blocks, Lanes* words,
                                              Ahead* /*ahead*/) {
  for (int64_t i = 0; i < blocks * kLanes; ++i) {
    const Words drawn = draw(key, sample, purpose, positions[i]);
    for (int j = 0; j < 4; ++j) words[i / kLanes][j][i % kLanes] = drawn.word[j];
  }
}

// Written out for AVX2 and AVX-512, because a compiler's widening product puts the lanes back in order every
// round: here the even and the odd positions stay in vectors of their own, each in the low half of 64 bits,
// and what the upper halves hold does not matter to the product. The loop over blocks is in here, so that the
// keys of the rounds are made once; half of the time would go to them and to the call.
#if defined(SSLK_X86)
[[maybe_unused]] SSLK_AVX2 static void draw_lanes_avx2(Key key, int64_t sample, uint32_t purpose,
                                                       const uint32_t* positions, int64_t blocks,
                                                       Lanes* words, Ahead* ahead) {
  const uint64_t id = static_cast<uint64_t>(sample);
  const __m256i multiply0 = _mm256_set1_epi64x(0xD2511F53u), multiply1 = _mm256_set1_epi64x(0xCD9E8D57u);
  const __m256i weyl0 = _mm256_set1_epi32(static_cast<int>(0x9E3779B9u));
  const __m256i weyl1 = _mm256_set1_epi32(static_cast<int>(0xBB67AE85u));
  for (int64_t begin = 0; begin < blocks * kLanes; begin += 8) {
    if (ahead != nullptr && begin % kLanes == 0) ahead->next_block();
    const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(positions + begin));
    __m256i c[2][4];
    for (int odd = 0; odd < 2; ++odd) {
      c[odd][0] = odd ? _mm256_srli_epi64(eight, 32) : eight;
      c[odd][1] = _mm256_set1_epi64x(purpose);
      c[odd][2] = _mm256_set1_epi64x(static_cast<uint32_t>(id));
      c[odd][3] = _mm256_set1_epi64x(static_cast<int64_t>(id >> 32));
    }
    __m256i key0 = _mm256_set1_epi32(static_cast<int>(key.low));
    __m256i key1 = _mm256_set1_epi32(static_cast<int>(key.high));
    for (int round = 0; round < 10; ++round) {
      for (auto& words64 : c) {
        const __m256i product0 = _mm256_mul_epu32(words64[0], multiply0);
        const __m256i product1 = _mm256_mul_epu32(words64[2], multiply1);
        words64[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), key0), words64[1]);
        words64[1] = product1;
        words64[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), key1), words64[3]);
        words64[3] = product0;
      }
      key0 = _mm256_add_epi32(key0, weyl0);
      key1 = _mm256_add_epi32(key1, weyl1);
    }
    for (int j = 0; j < 4; ++j) {
      const __m256i both = _mm256_blend_epi32(c[0][j], _mm256_slli_epi64(c[1][j], 32), 0xAA);
      uint32_t* const to = words[begin / kLanes][j] + begin % kLanes;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), both);
    }
  }
}

// kTogether blocks: the products of one wait for each other, those of two fill the time.
template <int kTogether>
SSLK_AVX512 SSLK_INLINE void draw_together(Key key, uint64_t id, uint32_t purpose, const uint32_t* positions,
                                           Lanes* words) {
  constexpr int kXor = 0x96;       // of three operands
  constexpr __mmask8 kAll = 0xFF;  // masked forms, as g++ 12 warns of what the others leave undefined
  const __m512i multiply0 = _mm512_set1_epi64(0xD2511F53u), multiply1 = _mm512_set1_epi64(0xCD9E8D57u);
  const __m512i weyl0 = _mm512_set1_epi32(static_cast<int>(0x9E3779B9u));
  const __m512i weyl1 = _mm512_set1_epi32(static_cast<int>(0xBB67AE85u));
  __m512i c[2 * kTogether][4];  // even and odd positions in turns
  for (int i = 0; i < 2 * kTogether; ++i) {
    const __m512i all = _mm512_loadu_si512(positions + i / 2 * kLanes);
    c[i][0] = i % 2 == 1 ? _mm512_maskz_srli_epi64(kAll, all, 32) : all;
    c[i][1] = _mm512_set1_epi64(purpose);
    c[i][2] = _mm512_set1_epi64(static_cast<uint32_t>(id));
    c[i][3] = _mm512_set1_epi64(static_cast<int64_t>(id >> 32));
  }
  __m512i key0 = _mm512_set1_epi32(static_cast<int>(key.low));
  __m512i key1 = _mm512_set1_epi32(static_cast<int>(key.high));
  for (int round = 0; round < 10; ++round) {
    for (auto& words64 : c) {
      const __m512i product0 = _mm512_maskz_mul_epu32(kAll, words64[0], multiply0);
      const __m512i product1 = _mm512_maskz_mul_epu32(kAll, words64[2], multiply1);
      words64[0] =
          _mm512_ternarylogic_epi64(_mm512_maskz_srli_epi64(kAll, product1, 32), key0, words64[1], kXor);
      words64[1] = product1;
      words64[2] =
          _mm512_ternarylogic_epi64(_mm512_maskz_srli_epi64(kAll, product0, 32), key1, words64[3], kXor);
      words64[3] = product0;
    }
    key0 = _mm512_add_epi32(key0, weyl0);
    key1 = _mm512_add_epi32(key1, weyl1);
  }
  for (int i = 0; i < kTogether; ++i) {
    for (int j = 0; j < 4; ++j) {
      const __m512i odd = _mm512_maskz_slli_epi64(kAll, c[2 * i + 1][j], 32);
      _mm512_storeu_si512(words[i][j], _mm512_mask_blend_epi32(0xAAAA, c[2 * i][j], odd));
    }
  }
}

[[maybe_unused]] SSLK_AVX512 static void draw_lanes_avx512(Key key, int64_t sample, uint32_t purpose,
                                                           const uint32_t* positions, int64_t blocks,
                                                           Lanes* words, Ahead* ahead) {
  const uint64_t id = static_cast<uint64_t>(sample);
  for (int64_t block = 0; block < blocks; block += 2) {
    const uint32_t* const own = positions + block * kLanes;
    if (ahead != nullptr) ahead->next_block();
    if (block + 1 == blocks) {
      draw_together<1>(key, id, purpose, own, words + block);
    } else {
      draw_together<2>(key, id, purpose, own, words + block);
      if (ahead != nullptr) ahead->next_block();
    }
  }
}
#endif

[[maybe_unused]] static void draw_lanes(Key key, int64_t sample, uint32_t purpose, const uint32_t* positions,
                                        int64_t blocks, Lanes* words, Ahead* ahead = nullptr) {
#if defined(SSLK_X86)
  static const auto variant = fitting(draw_lanes_plain, draw_lanes_avx2, draw_lanes_avx512);
#else
  constexpr auto variant = draw_lanes_plain;
#endif
  variant(key, sample, purpose, positions, blocks, words, ahead);
}

constexpr int64_t kBlocks = 8;  // that are drawn together: as many as fit beside their use in the cache

// Blocks that hold `count` counters, kBlocks at most.
constexpr int64_t blocks_of(int64_t count) { return std::min((count + kLanes - 1) / kLanes, kBlocks); }

// The words of the counters first, first + 1, ...; returns how many blocks were drawn.
SSLK_INLINE int64_t draw_run(Key key, int64_t sample, uint32_t purpose, uint32_t first, int64_t count,
                             Lanes (&words)[kBlocks], Ahead* ahead = nullptr) {
  uint32_t positions[kBlocks * kLanes];
  for (int i = 0; i < kBlocks * kLanes; ++i) positions[i] = first + static_cast<uint32_t>(i);
  const int64_t blocks = blocks_of(count);
  draw_lanes(key, sample, purpose, positions, blocks, words, ahead);
  return blocks;
}

// words[4 i + j] = word j of draw(key, sample, purpose, first + i), for i in [0, count): one word a position
// where a call serves four. `words` holds 4 * count entries, rounded up to a multiple of 4 * kLanes.
[[maybe_unused]] SSLK_CLONES static void draw_words(Key key, int64_t sample, uint32_t purpose, uint32_t first,
                                                    int64_t count, uint32_t* __restrict words) {
  for (int64_t begin = 0; begin < count; begin += kBlocks * kLanes) {
    Lanes c[kBlocks];
    const uint32_t counter = first + static_cast<uint32_t>(begin);
    const int64_t blocks = draw_run(key, sample, purpose, counter, count - begin, c);
    for (int64_t i = 0; i < blocks * kLanes; ++i) {
      for (int j = 0; j < 4; ++j) words[4 * (begin + i) + j] = c[i / kLanes][j][i % kLanes];
    }
  }
}

// Word j of draw(key, sample, purpose, positions[i]) to words[j][i], for the first three j (null: not
// wanted). `positions` and `words[j]` hold `count` entries, rounded up to a multiple of kLanes.
[[maybe_unused]] SSLK_CLONES static void draw_at(Key key, int64_t sample, uint32_t purpose,
                                                 const uint32_t* __restrict positions, int64_t count,
                                                 uint32_t* const (&words)[3], Ahead* ahead = nullptr) {
  for (int64_t begin = 0; begin < count; begin += kBlocks * kLanes) {
    Lanes c[kBlocks];
    const int64_t blocks = blocks_of(count - begin);
    draw_lanes(key, sample, purpose, positions + begin, blocks, c, ahead);
    for (int j = 0; j < 3; ++j) {
      for (int64_t i = 0; words[j] != nullptr && i < blocks; ++i) {
        std::copy_n(c[i][j], kLanes, words[j] + begin + i * kLanes);
      }
    }
  }
}

// Entries of a buffer that a vector of counters may be written to.
constexpr int64_t padded(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

}  // namespace sslkernels
