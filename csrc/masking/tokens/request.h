// What corrupt_tokens is asked for and where its results go: raw pointers, null where not given.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/philox.h"

namespace sslkernels::tokens {

enum class Labels { kOriginal, kSelected, kChanged };

inline Labels labels_of(const std::string& name) {
  if (name == "original") return Labels::kOriginal;
  if (name == "selected") return Labels::kSelected;
  if (name == "changed") return Labels::kChanged;
  throw std::invalid_argument("labels must be original, selected or changed, got '" + name + "'");
}

// The draw of a token out of a cluster: see TokenClusters.tables.
struct Clusters {
  const int32_t* cluster_of = nullptr;  // (V,); null: no clusters
  const int32_t* tokens = nullptr;      // (V,), cluster by cluster, those that are never drawn last
  const int32_t* ptr = nullptr;         // (C+1,)
  const int64_t* limits = nullptr;      // (C, C), cumulative, in units of 2^-32
  int64_t vocabulary = 0, number = 0;
};

template <class Id>
struct Request {
  const Id* ids = nullptr;
  int64_t samples = 0, columns = 1, length = 0, total = 0;  // length of every sample where ptr is null
  const int64_t* ptr = nullptr;                             // (samples + 1,); total: tokens (rows if stacked)
  const int64_t* sample_ids = nullptr;
  int64_t limit = 0;
  const int64_t* row_limit = nullptr;
  int64_t mask_limit = 0, random_limit = 0;
  int64_t mask_id = 0, vocab_size = -1;
  std::vector<int64_t> special_ids;
  const bool* maskable = nullptr;
  const int32_t* groups32 = nullptr;
  const int64_t* groups64 = nullptr;
  Clusters clusters;
  Labels labels = Labels::kOriginal;
  bool exclude_original = false;
  int64_t min_selected = 0;
  const int64_t* row_min_selected = nullptr;
  int64_t ignore_index = 0, capacity = -1;
  Key key{};

  bool grouped() const { return groups32 != nullptr || groups64 != nullptr; }
  bool draws_random() const { return random_limit > mask_limit; }
  int64_t sample_id(int64_t sample) const { return sample_ids == nullptr ? sample : sample_ids[sample]; }
  int64_t begin_of(int64_t sample) const { return ptr == nullptr ? sample * length : ptr[sample]; }
  int64_t length_of(int64_t sample) const { return ptr == nullptr ? length : ptr[sample + 1] - ptr[sample]; }
  int64_t least(int64_t sample) const {
    return row_min_selected == nullptr ? min_selected : row_min_selected[sample];
  }
  uint64_t limit_of(int64_t sample) const {
    return static_cast<uint64_t>(row_limit == nullptr ? limit : row_limit[sample]);
  }
};

template <class Id>
struct Results {
  Id* found;
  int64_t* scored;
  bool* selected;
  int32_t *positions, *counts;  // null: not wanted
};

// What can be told before looking at the tokens; O(samples).
template <class Id>
void check(const Request<Id>& request) {
  constexpr int64_t kCertain = int64_t{1} << 32;
  const auto number = [](int64_t value) { return std::to_string(value); };
  if (request.ptr != nullptr) {
    const int64_t first = request.ptr[0], last = request.ptr[request.samples];
    if (first != 0 || last != request.total) {
      throw std::invalid_argument("ptr must start at 0 and end at " + number(request.total) + ", got " +
                                  number(first) + " and " + number(last));
    }
  }
  for (int64_t i = 0; i < request.samples; ++i) {
    if (request.length_of(i) < 0) {
      throw std::invalid_argument("ptr[" + number(i + 1) + "] is " + number(request.ptr[i + 1]) +
                                  ", below ptr[" + number(i) + "] = " + number(request.ptr[i]));
    }
    if (request.length_of(i) > INT32_MAX) {
      throw std::invalid_argument("ids: sample " + number(i) + " has 2^31 positions or more");
    }
  }
  for (int64_t i = 0; request.row_limit != nullptr && i < request.samples; ++i) {
    if (request.row_limit[i] < 0 || request.row_limit[i] > kCertain) {
      throw std::invalid_argument("rate[" + number(i) + "] is outside [0, 1] or NaN");
    }
  }
  for (int64_t i = 0; request.row_min_selected != nullptr && i < request.samples; ++i) {
    if (request.row_min_selected[i] < 0) {
      throw std::invalid_argument("min_selected[" + number(i) + "] is " +
                                  number(request.row_min_selected[i]) + ", must be at least 0");
    }
  }
  if (request.draws_random() && request.clusters.cluster_of != nullptr &&
      request.clusters.ptr[request.clusters.number] == 0) {
    throw std::invalid_argument("special_ids and clusters.excluded_ids leave no id to draw where mix[1] > 0");
  }
}

}  // namespace sslkernels::tokens
