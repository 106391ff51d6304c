// patch_mask: which patches of a grid are hidden, exactly so many in every view.
//
// A sample's views are drawn one after another by one thread, in tiles (patch_block); the last step lays the
// tiles out as cells, for every frame of a tube. What is drawn, and at which position, is listed in
// common/philox.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "blocks.h"
#include "common/philox_lanes.h"
#include "layout.h"

namespace sslkernels::patches {

struct MaskRequest {
  int64_t batch, frames, rows, columns, tile_rows, tile_columns, views;
  int64_t masked;   // tiles a view
  int64_t covered;  // tiles hidden in some view; -1: views are independent
  bool block;
  int64_t least, low, high;
  const int64_t* sample_ids;
  Key key;

  int64_t tiles() const { return rows * columns; }
  int64_t tile() const { return tile_rows * tile_columns; }
  int64_t cells() const { return frames * tiles() * tile(); }
  int64_t kept() const { return frames * (tiles() - masked) * tile(); }
};

// (batch, views, cells); keep (batch, views, kept)
struct MaskResults {
  bool* mask;
  int64_t* keep;
  int64_t* restore;
};

inline void require(bool holds, const char* rule, int64_t got) {
  if (!holds) throw std::invalid_argument(std::string(rule) + ", got " + std::to_string(got));
}

inline void check(const MaskRequest& r) {
  constexpr int64_t kWord = int64_t{1} << 32, kOctaves = int64_t{14} << 16;
  const struct {
    const char* rule;
    int64_t value;
  } sizes[] = {{"frames must lie in [0, 2^32)", r.frames},
               {"rows must lie in [0, 2^32)", r.rows},
               {"columns must lie in [0, 2^32)", r.columns},
               {"tile_rows must lie in [0, 2^32)", r.tile_rows},
               {"tile_columns must lie in [0, 2^32)", r.tile_columns},
               {"views must lie in [0, 2^32)", r.views}};
  for (const auto& size : sizes) require(size.value >= 0 && size.value < kWord, size.rule, size.value);
  const auto product = static_cast<unsigned __int128>(r.rows) * static_cast<uint64_t>(r.columns);
  const int64_t shown = static_cast<int64_t>(std::min<unsigned __int128>(product, kWord));
  require(product <= (1 << 28) && product * static_cast<uint64_t>(r.views) <= kWord,
          "rows x columns must hold at most 2^28 tiles, with views 2^32", shown);
  auto cells = product * static_cast<uint64_t>(r.frames);  // < 2^60
  cells = cells * static_cast<uint64_t>(r.tile_rows) * static_cast<uint64_t>(r.tile_columns);
  require(cells < (int64_t{1} << 31), "frames x rows x columns must hold fewer than 2^31 cells", shown);
  require(r.masked >= 0 && r.masked <= r.tiles(), "masked must lie in [0, rows x columns]", r.masked);
  require(r.covered >= -1 && r.covered <= r.tiles(), "covered must lie in [-1, rows x columns]", r.covered);
  require(r.least >= 1 && r.least < kWord, "least must lie in [1, 2^32)", r.least);
  require(r.low >= -kOctaves && r.low <= r.high, "low must lie in [-14 * 2^16, high]", r.low);
  require(r.high <= kOctaves, "high must be at most 14 * 2^16", r.high);
}

// hidden[i] = 1 for the `count` members of the pool with the smallest words, of equal words the first.
// Counted by their upper 8 bits first, so that only the members of one bucket are sorted out.
class Smallest {
 public:
  void take(const uint32_t* words, const uint8_t* pool, int64_t tiles, int64_t count, uint8_t* hidden) {
    if (count == 0) return;
    int64_t held[256] = {};
    for (int64_t i = 0; i < tiles; ++i) held[words[i] >> 24] += pool[i];
    uint32_t bucket = 0;
    for (; held[bucket] < count; ++bucket) count -= held[bucket];
    last_.clear();
    for (int64_t i = 0; i < tiles; ++i) {
      const uint32_t own = words[i] >> 24;
      hidden[i] |= pool[i] & (own < bucket);
      if ((pool[i] & (own == bucket)) != 0)
        last_.push_back((uint64_t{words[i]} << 32) | static_cast<uint64_t>(i));
    }
    std::nth_element(last_.begin(), last_.begin() + (count - 1), last_.end());
    for (int64_t i = 0; i < count; ++i) hidden[last_[static_cast<size_t>(i)] & 0xFFFFFFFFu] = 1;
  }

 private:
  std::vector<uint64_t> last_;
};

// Working space of one thread.
class Masker {
 public:
  Masker(const MaskRequest& request, const MaskResults& results)
      : request_(request),
        results_(results),
        shape_{request.rows, request.columns, request.least, request.low, request.high},
        seen_(request.tiles()),
        pool_(request.tiles() + 8),
        hidden_(request.tiles() + 8),
        words_(request.block ? 0 : padded(request.tiles(), 4 * kLanes)),
        free_(shape_),
        cells_(request.tiles() * request.tile()),
        keep_(static_cast<size_t>(request.tiles() * request.tile() + 1)) {}

  void run(int64_t row) {
    const int64_t sample = request_.sample_ids[row];
    const bool disjoint = request_.covered >= 0;
    int64_t before = 0;  // tiles that some view has hidden
    std::fill(seen_.begin(), seen_.end(), uint8_t{0});
    for (int64_t view = 0; view < request_.views; ++view) {
      position_ = static_cast<uint32_t>(view * request_.tiles());
      std::fill(hidden_.begin(), hidden_.end(), uint8_t{0});
      if (!request_.block) draw_ranks(sample, view);
      if (!disjoint || view == 0) {
        hide(sample, 0, request_.masked);
        before = request_.masked;
      } else {
        const int64_t fresh = std::min(request_.masked, std::max<int64_t>(request_.covered - before, 0));
        hide(sample, 0, fresh);
        hide(sample, 1, request_.masked - fresh);
        before += fresh;
      }
      if (disjoint) {
        for (size_t i = 0; i < seen_.size(); ++i) seen_[i] |= hidden_[i];
      }
      lay_out(row * request_.views + view);
    }
  }

 private:
  void draw_ranks(int64_t sample, int64_t view) {
    const int64_t calls = (request_.tiles() + 3) / 4;
    draw_words(request_.key, sample, kPatchRank, static_cast<uint32_t>(view * calls), calls, words_.data());
  }

  // Hides `count` of the tiles whose `seen_` is `seen`.
  void hide(int64_t sample, uint8_t seen, int64_t count) {
    if (count == 0) return;
    const int64_t tiles = request_.tiles();
    for (int64_t i = 0; i < tiles; ++i) pool_[i] = seen_[i] == seen;
    if (!request_.block) return smallest_.take(words_.data(), pool_.data(), tiles, count, hidden_.data());
    const int64_t members = to_free(shape_, pool_.data(), free_);
    take_rectangles(shape_, request_.key, sample, &position_, count, members, free_);
    add_taken(shape_, free_, pool_.data(), hidden_.data());
  }

  // The results of one view.
  void lay_out(int64_t at) {
    const int64_t frame = static_cast<int64_t>(cells_.size()), kept = request_.kept();
    const uint8_t* const hidden = request_.tile() == 1 ? hidden_.data() : to_cells();
    uint8_t* const mask = reinterpret_cast<uint8_t*>(results_.mask + at * request_.cells());
    int64_t* const restore = results_.restore + at * request_.cells();
    Layout layout{results_.keep + at * kept, restore, 0, 0, kept};
    for (int64_t t = 0; t < request_.frames; ++t) {
      std::copy_n(hidden, frame, mask + t * frame);  // unlike memcpy it takes a null pointer of an empty grid
      const int64_t found = sslkernels::patches::lay_out(hidden, frame, layout, keep_.data());
      layout.visible += found;
      layout.masked += frame - found;
      layout.first += frame;
      layout.restore += frame;
    }
  }

  const uint8_t* to_cells() {
    const int64_t width = request_.columns * request_.tile_columns;
    for (int64_t row = 0; row < request_.rows * request_.tile_rows; ++row) {
      const uint8_t* const tiles = hidden_.data() + row / request_.tile_rows * request_.columns;
      for (int64_t i = 0; i < request_.columns; ++i) {
        std::fill_n(cells_.data() + row * width + i * request_.tile_columns, request_.tile_columns, tiles[i]);
      }
    }
    return cells_.data();
  }

  const MaskRequest& request_;
  const MaskResults& results_;
  const Shape shape_;
  std::vector<uint8_t> seen_, pool_, hidden_;
  std::vector<uint32_t> words_;
  FreeTiles free_;
  std::vector<uint8_t> cells_;
  std::vector<int64_t> keep_;
  uint32_t position_ = 0;
  Smallest smallest_;
};

template <class Loop>
void patch_mask(const Loop& loop, const MaskRequest& request, const MaskResults& results) {
  constexpr int64_t kGrain = 8192;  // cells that are worth a thread
  const int64_t cells = std::max<int64_t>(1, request.views * request.cells());
  loop(request.batch, std::max<int64_t>(1, kGrain / cells), [&](int64_t begin, int64_t end) {
    Masker masker(request, results);
    for (int64_t row = begin; row < end; ++row) masker.run(row);
  });
}

}  // namespace sslkernels::patches
