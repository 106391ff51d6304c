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
  right &= tell("lay_out_avx512", has_avx512(), layouts_agree, patches::lay_out_avx512);
#endif
  return right ? 0 : 1;
}

}  // namespace
}  // namespace sslkernels

int main() { return sslkernels::compare(); }
