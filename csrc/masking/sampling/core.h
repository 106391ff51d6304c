// sample_tokens: an exact categorical draw a row, in one pass over the logits.
//
// A row is cut into blocks of kBlock columns. The pass leaves two numbers a block: its largest logit m_b, and
// s_b, the sum of exp((x - m_b) / T) over it. Then a block is drawn with probability proportional to
// s_b exp((m_b - M) / T), M the row's largest logit, and a column inside it proportional to exp((x - m_b) /
// T): two draws by inversion, so that a column keeps the relative precision of its own weight however little
// of the row it has. What is drawn from is listed in common/philox.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "blocks.h"
#include "common/accumulate.h"
#include "common/philox.h"

namespace sslkernels::sampling {

template <class T>
struct Request {
  const T* logits = nullptr;  // rows `row_stride` apart, columns together
  int64_t rows = 0, columns = 0, row_stride = 0;
  const bool* allowed = nullptr;  // null: all
  int64_t allowed_stride = 0;     // 0: one line for all rows
  double temperature = 1;
  const double* row_temperature = nullptr;
  const int64_t* sample_ids = nullptr;
  Key key{};

  const T* row(int64_t i) const { return logits + i * row_stride; }
  const uint8_t* allowed_row(int64_t i) const {
    return allowed == nullptr ? nullptr : reinterpret_cast<const uint8_t*>(allowed + i * allowed_stride);
  }
  double temperature_of(int64_t i) const {
    return row_temperature == nullptr ? temperature : row_temperature[i];
  }
  int64_t sample_id(int64_t i) const { return sample_ids == nullptr ? i : sample_ids[i]; }
};

inline void check_temperature(const std::string& name, double value) {
  if (value >= 0 && std::isfinite(value)) return;
  char text[32];  // std::to_string writes -1e-9 as -0.000000
  std::snprintf(text, sizeof(text), "%g", value);
  throw std::invalid_argument(name + " must lie in [0, inf), got " + text);
}

// A number in [0, 1) of 53 bits.
inline double unit(uint32_t low, uint32_t high) {
  return static_cast<double>(((uint64_t{high} << 32) | low) >> 11) * 0x1p-53;
}

// The first entry at which the running sum passes u times the total: never one of weight 0, whatever u in
// [0, 1). -1 where the total is 0 or NaN.
template <class A>
int64_t pick(const A* weights, int64_t n, double u) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += static_cast<double>(weights[i]);
  const double target = u * total;  // below the total, rounded as it may be
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += static_cast<double>(weights[i]);
    if (sum > target) return i;
  }
  return -1;
}

template <class T>
class Sampler {
 public:
  using A = Accumulate<T>;

  Sampler(const Request<T>& request, int64_t* tokens)
      : request_(request), blocks_((request.columns + kBlock - 1) / kBlock), tokens_(tokens) {
    if (request_.row_temperature == nullptr) check_temperature("temperature", request_.temperature);
    for (int64_t i = 0; request_.row_temperature != nullptr && i < request_.rows; ++i) {
      check_temperature("temperature[" + std::to_string(i) + "]", request_.row_temperature[i]);
    }
  }

  template <class Loop>
  void run(const Loop& loop) const {
    if (request_.rows >= kManyRows) {
      const int64_t grain = std::max<int64_t>(1, kGrain / (request_.columns + 1));
      loop(request_.rows, grain, [&](int64_t begin, int64_t end) {
        Masses<A> masses(blocks_);
        for (int64_t i = begin; i < end; ++i) {
          weigh(i, 0, blocks_, masses.largest.data(), masses.sum.data());
          tokens_[i] = choose(i, masses.largest.data(), masses.sum.data(), masses.weight);
        }
      });
      return;
    }
    // Few rows: threads share their columns.
    Masses<A> masses(request_.rows * blocks_);
    loop(request_.rows * blocks_, kGrain / kBlock, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t row = begin / blocks_, last = std::min(end, (row + 1) * blocks_);
        weigh(row, begin - row * blocks_, last - row * blocks_, masses.largest.data() + begin,
              masses.sum.data() + begin);
        begin = last;
      }
    });
    for (int64_t i = 0; i < request_.rows; ++i) {
      tokens_[i] =
          choose(i, masses.largest.data() + i * blocks_, masses.sum.data() + i * blocks_, masses.weight);
    }
  }

 private:
  static constexpr int64_t kManyRows = 16;
  static constexpr int64_t kGrain = 16384;  // columns that are worth a thread

  // Blocks [first, last) of a row.
  void weigh(int64_t row, int64_t first, int64_t last, A* largest, A* sum) const {
    alignas(64) A block[kBlock];
    weigh_blocks(request_.row(row), request_.allowed_row(row), request_.columns, first, last,
                 rate_of<A>(request_.temperature_of(row)), largest, sum, block);
  }

  int64_t choose(int64_t row, const A* largest, const A* sum, std::vector<A>& weight) const {
    const double temperature = request_.temperature_of(row);
    const A rate = rate_of<A>(temperature);
    weigh_masses(largest, sum, blocks_, rate, weight.data());
    const Words words = draw(request_.key, request_.sample_id(row), kSampleToken, 0);
    const bool random = temperature > 0;
    const int64_t block = pick(weight.data(), blocks_, random ? unit(words.word[0], words.word[1]) : 0.0);
    if (block < 0) refuse(row);
    alignas(64) A columns[kBlock];
    A one_largest, one_sum;
    weigh_blocks(request_.row(row), request_.allowed_row(row), request_.columns, block, block + 1, rate,
                 &one_largest, &one_sum, columns);
    return block * kBlock + pick(columns, kBlock, random ? unit(words.word[2], words.word[3]) : 0.0);
  }

  [[noreturn]] void refuse(int64_t row) const {
    const T* const x = request_.row(row);
    const uint8_t* const allowed = request_.allowed_row(row);
    for (int64_t j = 0; j < request_.columns; ++j) {
      const A value = static_cast<A>(x[j]);
      if ((allowed != nullptr && allowed[j] == 0) || value < std::numeric_limits<A>::infinity()) continue;
      throw std::invalid_argument("logits[" + std::to_string(row) + ", " + std::to_string(j) + "] is " +
                                  (std::isnan(value) ? "nan" : "inf") +
                                  " where allowed, must be finite or -inf");
    }
    throw std::invalid_argument("logits[" + std::to_string(row) +
                                "] has nothing allowed: every entry is -inf or forbidden by `allowed`");
  }

  Request<T> request_;
  int64_t blocks_;
  int64_t* tokens_;
};

}  // namespace sslkernels::sampling
