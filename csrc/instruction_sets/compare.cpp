// Does every variant of a loop that this processor has give the bits of the plain one, inside its buffers?
//
// A program for python_tests/test_instruction_sets.py: a line a variant; exit status 1 where one differs.
// Each buffer ends where memory does: a variant that reads or writes behind what was promised ends the
// program.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "common/instruction_sets.h"
#include "common/philox_lanes.h"
#include "masking/patches/layout.h"
#include "masking/tokens/core.h"

namespace sslkernels {
namespace {

// `n` numbers whose end is the end of a page, and behind it a page that cannot be touched; before them, what
// must stay as it is.
template <class T>
class Fenced {
 public:
  explicit Fenced(int64_t n) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), bytes = static_cast<size_t>(n) * sizeof(T);
    usable_ = (bytes / page + 1) * page;
    bytes_ = usable_ + page;
    void* const memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<uint8_t*>(memory);
    mprotect(begin_ + usable_, page, PROT_NONE);
    std::fill_n(begin_, usable_, kUntouched);
    data_ = reinterpret_cast<T*>(begin_ + usable_ - bytes);
  }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  ~Fenced() { munmap(begin_, bytes_); }

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

  // Whether nothing was written before number i.
  bool untouched_before(int64_t i) const {
    const uint8_t* const end = reinterpret_cast<const uint8_t*>(data_ + i);
    return std::all_of(static_cast<const uint8_t*>(begin_), end, [](uint8_t b) { return b == kUntouched; });
  }

 private:
  static constexpr uint8_t kUntouched = 0xA5;
  uint8_t* begin_;
  T* data_;
  size_t usable_, bytes_;
};

using Draw = decltype(draw_lanes_plain);
using ListSet = decltype(tokens::list_set_plain);
using LayOut = decltype(patches::lay_out_plain);

bool same_draws(Draw* variant, Key key, int64_t sample, uint32_t purpose, int64_t blocks, std::mt19937& any) {
  const int64_t n = blocks * kLanes;
  const Fenced<uint32_t> positions(n), expected(4 * n), found(4 * n);
  for (int64_t i = 0; i < n; ++i) positions[i] = any();
  if (n > 0) positions[0] = 0, positions[n - 1] = std::numeric_limits<uint32_t>::max();
  Ahead ahead;
  ahead.add(positions.data(), 64);
  const auto words = [](const Fenced<uint32_t>& buffer) { return reinterpret_cast<Lanes*>(buffer.data()); };
  draw_lanes_plain(key, sample, purpose, positions.data(), blocks, words(expected), nullptr);
  variant(key, sample, purpose, positions.data(), blocks, words(found), blocks % 2 == 0 ? &ahead : nullptr);
  return std::equal(found.data(), found.data() + 4 * n, expected.data()) && found.untouched_before(0);
}

bool draws_agree(Draw* variant) {
  constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();
  std::mt19937 any(1);
  bool same = true;
  for (const Key key :
       {Key{0, 0}, Key{kMost, kMost}, Key{0x9E3779B9u, 0xBB67AE85u}, Key{0x243F6A88u, 0x85A308D3u}}) {
    for (const int64_t sample : {int64_t{0}, int64_t{-1}, int64_t{1} << 40, INT64_MIN, INT64_MAX}) {
      for (const uint32_t purpose : {0u, 7u, kMost}) {
        for (int64_t blocks = 0; blocks <= 2 * kBlocks + 1; ++blocks) {
          same &= same_draws(variant, key, sample, purpose, blocks, any);
        }
      }
    }
  }
  return same;
}

bool same_list(ListSet* variant, const Fenced<uint8_t>& flags, int64_t n) {
  const int64_t room = padded(n, kLanes);
  const Fenced<uint32_t> expected(room), found(room);
  const int64_t count = tokens::list_set_plain(flags.data(), n, expected.data());
  return variant(flags.data(), n, found.data()) == count && found.untouched_before(0) &&
         std::equal(found.data(), found.data() + count, expected.data());
}

bool same_layout(LayOut* variant, const Fenced<uint8_t>& hidden, int64_t n) {
  const int64_t away = std::count(hidden.data(), hidden.data() + n, 1), shown = n - away;
  bool same = true;
  for (const int64_t before : {0, 5}) {  // visible cells of earlier frames
    const Fenced<int64_t> keep0(before + shown), keep1(before + shown), restore0(n), restore1(n);
    const Fenced<int64_t> spare0(n + 1), spare1(n + 1);
    const int64_t first = int64_t{3} << 33, masked = before + shown + 2;
    const int64_t count = patches::lay_out_plain(
        hidden.data(), n, {keep0.data(), restore0.data(), first, before, masked}, spare0.data());
    same &= count == shown;
    same &= variant(hidden.data(), n, {keep1.data(), restore1.data(), first, before, masked},
                    spare1.data()) == shown;
    same &= std::equal(keep1.data() + before, keep1.data() + before + shown, keep0.data() + before);
    same &= std::equal(restore1.data(), restore1.data() + n, restore0.data());
    same &= keep1.untouched_before(before) && restore1.untouched_before(0) && spare1.untouched_before(0);
  }
  return same;
}

// The stages that one pass replaces; -1 where they would have to look at each id.
template <class Id>
int64_t mark_by_stages(const tokens::Cells<Id>& cells, const tokens::FewRanges& few) {
  std::vector<uint8_t> eligible(static_cast<size_t>(cells.n));
  if (!tokens::flag_few(cells.ids, cells.n, few, eligible.data())) return -1;
  tokens::and_flags(cells.words_choose, eligible.data(), cells.n, cells.selected);
  tokens::label_ids<Id>(cells.labels, cells.ids, eligible.data(), cells.selected, cells.n, cells.ignore_index,
                        cells.found, cells.scored);
  return tokens::list_set_plain(cells.selected, cells.n, cells.places);
}

#if defined(SSLK_X86)
template <class Id>
using Mark = int64_t(const tokens::Cells<Id>&, const tokens::FewRanges&);

template <class Id>
bool same_marks(Mark<Id>* variant, const Fenced<Id>& ids, const Fenced<uint8_t>& flags, int64_t n,
                const tokens::FewRanges& few) {
  bool same = true;
  for (const auto labels : {tokens::Labels::kOriginal, tokens::Labels::kSelected, tokens::Labels::kChanged}) {
    const Fenced<Id> found0(n), found1(n);
    const Fenced<int64_t> scored0(n), scored1(n);
    const Fenced<uint8_t> selected0(n), selected1(n);
    const Fenced<uint32_t> places0(padded(n, kLanes)), places1(padded(n, kLanes));
    const int64_t ignored = int64_t{-3} << 40;
    const int64_t count = mark_by_stages<Id>({ids.data(), flags.data(), n, labels, ignored, found0.data(),
                                              scored0.data(), selected0.data(), places0.data()},
                                             few);
    same &= variant({ids.data(), flags.data(), n, labels, ignored, found1.data(), scored1.data(),
                     selected1.data(), places1.data()},
                    few) == count;
    same &= found1.untouched_before(0) && scored1.untouched_before(0) && selected1.untouched_before(0) &&
            places1.untouched_before(0);
    if (count < 0) continue;
    same &= std::equal(found1.data(), found1.data() + n, found0.data()) &&
            std::equal(scored1.data(), scored1.data() + n, scored0.data()) &&
            std::equal(selected1.data(), selected1.data() + n, selected0.data()) &&
            std::equal(places1.data(), places1.data() + count, places0.data());
  }
  return same;
}

// Ids inside the vocabulary, some of them special; then, in `places` places, one that is not.
template <class Id>
bool marks_agree_on(Mark<Id>* variant, int64_t n, int64_t places, const tokens::FewRanges& few,
                    std::mt19937& any) {
  const Fenced<Id> ids(n);
  const Fenced<uint8_t> flags(n);
  for (int64_t i = 0; i < n; ++i) {
    ids[i] = static_cast<Id>(any() % (few.vocabulary == 0 ? 21 : 120));  // of none, special ones alone
    flags[i] = any() % 3 == 0 ? 1 : 0;
  }
  bool same = same_marks(variant, ids, flags, n, few);
  for (int64_t place = 0; place < std::min(places, n); ++place) {
    const int64_t i = place * n / places;
    const Id kept = ids[i];
    for (const int64_t off : {int64_t{120}, int64_t{-1}, int64_t{INT32_MIN}, int64_t{1} << 31,
                              int64_t{5} << 32, INT64_MIN, INT64_MAX}) {
      ids[i] = static_cast<Id>(off);
      same &= same_marks(variant, ids, flags, n, few);
    }
    ids[i] = kept;
  }
  return same;
}

template <class Id>
bool marks_agree(Mark<Id>* variant) {
  std::mt19937 any(4);
  bool same = true;
  for (size_t count = 0; count <= tokens::FewRanges::kMost; ++count) {
    for (const uint32_t vocabulary : {0u, 120u, std::numeric_limits<uint32_t>::max()}) {
      const tokens::FewRanges few{{0, 50, 99, static_cast<uint32_t>(-7)}, {0, 20, 0, 3}, count, vocabulary};
      for (int64_t n = 0; n <= 67; ++n) same &= marks_agree_on<Id>(variant, n, n == 37 ? n : 1, few, any);
      same &= marks_agree_on<Id>(variant, 1003, 10, few, any);
    }
  }
  return same;
}
#endif

// check(flags, n): all patterns of a vector's width, all sizes up to some hundreds, a long one.
template <class Check>
bool over_flags(int width, const Check& check) {
  bool same = true;
  const Fenced<uint8_t> few(width);
  for (int64_t bits = 0; bits < int64_t{1} << width; ++bits) {
    for (int i = 0; i < width; ++i) few[i] = static_cast<uint8_t>(bits >> i & 1);
    same &= check(few, width);
  }
  std::mt19937 any(2);
  std::vector<int64_t> sizes(301);
  for (int64_t i = 0; i < 301; ++i) sizes[static_cast<size_t>(i)] = i;
  sizes.insert(sizes.end(), {4095, 4096, 10007});
  for (const int64_t n : sizes) {
    const Fenced<uint8_t> flags(n);
    for (const uint32_t percent : {0u, 2u, 15u, 50u, 98u, 100u}) {
      for (int64_t i = 0; i < n; ++i) flags[i] = any() % 100 < percent ? 1 : 0;
      same &= check(flags, n);
    }
  }
  return same;
}

bool lists_agree(ListSet* variant) {
  return over_flags(16,
                    [&](const Fenced<uint8_t>& flags, int64_t n) { return same_list(variant, flags, n); });
}

bool layouts_agree(LayOut* variant) {
  return over_flags(
      8, [&](const Fenced<uint8_t>& hidden, int64_t n) { return same_layout(variant, hidden, n); });
}

// The first thing that runs in this program: what is chosen then is right, too.
struct Early {
  Early() {
    std::mt19937 any(3);
    const Fenced<uint8_t> flags(100);
    std::fill_n(flags.data(), 100, uint8_t{1});
    const auto draw = [](auto... arguments) { draw_lanes(arguments...); };
    right = same_draws(draw, {1, 2}, 3, 4, 3, any) && same_list(tokens::list_set, flags, 100) &&
            same_layout(patches::lay_out, flags, 100);
  }
  bool right;
};
__attribute__((init_priority(101))) Early early;

bool tell(const char* name, bool right) {
  std::printf("%s %s\n", name, right ? "same" : "different");
  return right;
}

template <class Agree, class Function>
bool tell(const char* name, bool has, const Agree& agree, Function* variant) {
  if (has) return tell(name, agree(variant));
  std::printf("%s not on this processor\n", name);
  return true;
}

int compare() {
  bool right = tell("at_start", early.right);
  right &= tell("draw_lanes", true, draws_agree, draw_lanes);
  right &= tell("list_set", true, lists_agree, tokens::list_set);
  right &= tell("lay_out", true, layouts_agree, patches::lay_out);
#if defined(SSLK_X86)
  right &= tell("draw_lanes_avx2", has_avx2(), draws_agree, draw_lanes_avx2);
  right &= tell("draw_lanes_avx512", has_avx512(), draws_agree, draw_lanes_avx512);
  right &= tell("list_set_avx512", has_avx512(), lists_agree, tokens::list_set_avx512);
  const auto marks = [](Mark<int64_t>* variant) {
    return marks_agree(variant) && marks_agree<int32_t>(tokens::mark_cells_avx512);
  };
  right &= tell("mark_cells_avx512", has_avx512(), marks, tokens::mark_cells_avx512<int64_t>);
  right &= tell("lay_out_avx512", has_avx512(), layouts_agree, patches::lay_out_avx512);
#endif
  return right ? 0 : 1;
}

}  // namespace
}  // namespace sslkernels

int main() { return sslkernels::compare(); }
