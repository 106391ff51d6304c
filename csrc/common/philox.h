// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and the
// one way every random operator of sslkernels draws from it. The Python twin is sslkernels/_random.py.
//
//   key     = philox4x32(key = seed (lo, hi); counter = (step lo, step hi, 0, 0))[0:2]
//   counter = (position, purpose, sample id lo, sample id hi)
//
// A draw depends on (seed, step, sample id, purpose, position) alone: not on the batch, the device,
// the number of threads, workers or ranks. Decisions compare words with integer thresholds.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#if defined(__CUDACC__)
#define SSLK_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define SSLK_HOST_DEVICE inline
#endif

namespace sslkernels {

// What a draw is for. Numbers are frozen: changing one changes every user's streams.
// In parentheses: what a position is, and which word of the four serves what.
enum Purpose : uint32_t {
  // masking
  kSelect = 1,      // (position / 4) word position % 4: is the unit that starts here selected?
  kAction = 2,      // (position) word 0: mask, random or keep, for the unit that starts here;
                    // (position * columns + column) word 1: random token; word 2: cluster
  kTopUp = 3,       // (position / 4) word position % 4: rank of a unit when a row is topped up
  kRowUniform = 4,  // (0) word 0: the number of a row
  kSpanCount = 5,   // (0) word 0: rounds the number of spans; word 1: which span is the shortened one
  kSpanPlace = 6,  // (i / 4) word i % 4: i-th step of a choice: starts; slots; cuts of what is kept, of noise
  kSpanLength = 7,    // (i / 4) word i % 4: length of the i-th span
  kPatchRank = 9,     // (view * ceil(patches / 4) + patch / 4) word patch % 4: rank of a patch in a view
  kPatchShape = 10,   // (view * patches + rectangle) word 0: area, 1: aspect, 2: its patch, 3: order
  kPatchPlace = 11,   // (view * patches + rectangle) word 0: row of its patch, 1: column
  kSampleToken = 13,  // (0) words 0 and 1, low and high: block of 256 columns; 2 and 3: column in it
  // eulerian
  kWalkEdge = 256,       // (position / 4) word position % 4: place of edge k (2 k, 2 k + 1), arc k (k)
  kWalkStart = 257,      // (component) word 0: start, 1: direction, 2: order; 3 of the first: scan
  kReindex = 258,        // (position / 4) word position % 4: id of the position-th node met
  kReindexOffset = 259,  // (0) word 0: first id of a cyclic renumbering
  // pretrain (drawn in Python only)
  kEpochOrder = 1024,  // (round) words 0 and 1: key of a round, low and high; step: epoch
  kPartSeed = 1025,    // (0) words 0 and 1: torch's seed for a part of a step; sample: the part's number
};

struct Words {
  uint32_t word[4];
};

struct Key {
  uint32_t low, high;
};

SSLK_HOST_DEVICE Words philox4x32(Key key, Words counter) {
  constexpr uint32_t kMultiply0 = 0xD2511F53u, kMultiply1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  uint32_t c0 = counter.word[0], c1 = counter.word[1];
  uint32_t c2 = counter.word[2], c3 = counter.word[3];
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{kMultiply0} * c0;
    const uint64_t product1 = uint64_t{kMultiply1} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key.low;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key.high;
    c3 = static_cast<uint32_t>(product0);
    key.low += kWeyl0;
    key.high += kWeyl1;
  }
  return Words{{c0, c1, c2, c3}};
}

// Host only: a stream needs a seed and a step in [0, 2^63).
inline void check_stream(int64_t seed, int64_t step) {
  if (seed < 0) throw std::invalid_argument("seed must lie in [0, 2^63), got " + std::to_string(seed));
  if (step < 0) throw std::invalid_argument("step must lie in [0, 2^63), got " + std::to_string(step));
}

// The key of a call: seed and step mixed once, so that draws need only one Philox each.
SSLK_HOST_DEVICE Key stream_key(int64_t seed, int64_t step) {
  const uint64_t s = static_cast<uint64_t>(seed), t = static_cast<uint64_t>(step);
  const Words mixed = philox4x32(Key{static_cast<uint32_t>(s), static_cast<uint32_t>(s >> 32)},
                                 Words{{static_cast<uint32_t>(t), static_cast<uint32_t>(t >> 32), 0u, 0u}});
  return Key{mixed.word[0], mixed.word[1]};
}

SSLK_HOST_DEVICE Words draw(Key key, int64_t sample, uint32_t purpose, uint32_t position) {
  const uint64_t id = static_cast<uint64_t>(sample);
  return philox4x32(key,
                    Words{{position, purpose, static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32)}});
}

// An integer in [0, n): (word * n) >> 32.
SSLK_HOST_DEVICE uint32_t bounded(uint32_t word, uint32_t n) {
  return static_cast<uint32_t>((uint64_t{word} * n) >> 32);
}

}  // namespace sslkernels
