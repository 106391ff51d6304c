// Tiles of (rows, classes) logits, from the library's matrix product into a buffer that is used again: the
// log-sum-exp, or softmax and the gradients' products, run over them there.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "common/accumulate.h"
#include "common/tensor.h"
#include "core.h"

namespace sslkernels::linear_cross_entropy {
namespace {

constexpr int64_t kTileClasses = 512;  // a tile has these, a multiple, or fewer where the head is very wide
constexpr int64_t kTileRows = 1024;
constexpr int64_t kGatheredNumbers = int64_t{1} << 20;  // of a chunk of hidden rows: bounds a very wide head
constexpr int64_t kGrainNumbers = int64_t{1} << 14;     // least work worth a thread
constexpr int64_t kHeldBytes = int64_t{24} << 20;  // logits held by the pass with gradients, or a wide tile
constexpr int64_t kSpareBytes = int64_t{8} << 20;  // for all else, the library's own buffers included

ScalarType accumulator_type(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

int64_t grain(int64_t numbers_per_item) {
  return std::max<int64_t>(1, kGrainNumbers / (numbers_per_item + 1));
}

// Products take most of the time here, fresh memory little. Not new_tensor: a virtual machine's host may take
// huge pages away that lie idle for seconds, and gives them back slowly.
Tensor plain_tensor(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}

Tensor part(const Tensor& tensor, int64_t dim, int64_t begin, int64_t end) {
  Tensor whole = tensor;
  return torch::stable::narrow(whole, dim, begin, end - begin);
}

// out = a b, or out += a b.
void multiply(Tensor out, const Tensor& a, const Tensor& b, bool add = false) {
  if (add) {
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_addmm_out(out.get(), out.get(), a.get(), b.get(), 1.0, 1.0));
  } else {
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(out.get(), a.get(), b.get()));
  }
}

template <class From, class To>
void convert(const From* from, To* to, int64_t n) {
  TorchLoop{}(n, kGrainNumbers, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = static_cast<To>(from[i]);
  });
}

// A vector of any floating dtype as A.
template <class A>
std::vector<A> widened(const Tensor& tensor, const char* name) {
  const Tensor given = torch::stable::contiguous(tensor);
  std::vector<A> values(given.size(0));
  dispatch_float(given.scalar_type(), name, [&](auto zero) {
    convert(given.const_data_ptr<decltype(zero)>(), values.data(), given.size(0));
  });
  return values;
}

// The operands of a call: rows are gathered, and 16-bit classes widened, a tile at a time.
template <class T>
class Operands {
 public:
  using A = Accumulate<T>;

  // holds_rows: the caller keeps the logits of a chunk's rows for all classes, not of a tile alone.
  Operands(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
           const std::optional<Tensor>& bias, int64_t ignore_index, bool holds_rows)
      : hidden_(torch::stable::contiguous(hidden)), weight_(torch::stable::contiguous(weight)) {
    const Tensor ids = torch::stable::contiguous(labels);
    dispatch_integer(ids.scalar_type(), "labels", [&](auto zero) {
      using Id = decltype(zero);
      scored = scored_rows(ids.const_data_ptr<Id>(), ids.size(0), classes(), ignore_index);
    });
    chunk_rows = rows_at_once(holds_rows);
    gathered_ = empty(chunk_rows, width());
    tile_classes = classes_at_once(holds_rows);
    if constexpr (!std::is_same_v<T, A>) block_ = empty(tile_classes, width());
    if (bias.has_value()) bias_ = widened<A>(*bias, "bias");
  }

  int64_t classes() const { return weight_.size(0); }
  int64_t width() const { return weight_.size(1); }
  bool has_bias() const { return !bias_.empty(); }
  const A* bias() const { return bias_.data(); }

  Tensor empty(int64_t rows, int64_t columns) const {
    return plain_tensor(hidden_, {rows, columns}, accumulator_type(hidden_));
  }

  Tensor tile_buffer() const { return empty(chunk_rows, tile_classes); }

  // body(number of the first row among the scored ones, those rows of hidden)
  template <class Body>
  void each_chunk(Body&& body) {
    for (int64_t row = 0; row < scored.size(); row += chunk_rows) {
      body(row, rows(row, std::min(scored.size(), row + chunk_rows)));
    }
  }

  // body(first class, those rows of the weight)
  template <class Body>
  void each_block(Body&& body) {
    for (int64_t first = 0; first < classes(); first += tile_classes) {
      body(first, block(first, std::min(classes(), first + tile_classes)));
    }
  }

  Scored scored;
  int64_t chunk_rows, tile_classes;

 private:
  // Scored rows [begin, end) of hidden; they hold until the next call.
  Tensor rows(int64_t begin, int64_t end) {
    if (begin == gathered_row_) return part(gathered_, 0, 0, end - begin);
    gathered_row_ = begin;
    const T* from = hidden_.const_data_ptr<T>();
    A* to = gathered_.mutable_data_ptr<A>();
    const int64_t d = width();
    TorchLoop{}(end - begin, grain(d), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const T* row = from + scored.row[begin + i] * d;
        for (int64_t j = 0; j < d; ++j) to[i * d + j] = static_cast<A>(row[j]);
      }
    });
    return part(gathered_, 0, 0, end - begin);
  }

  // Classes [begin, end) of the weight; they hold until the next call.
  Tensor block(int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, A>) {
      return part(weight_, 0, begin, end);
    } else {
      convert(weight_.const_data_ptr<T>() + begin * width(), block_.mutable_data_ptr<A>(),
              (end - begin) * width());
      return part(block_, 0, 0, end - begin);
    }
  }

  // Chunks of equal size. Where rows are held, at most 1/8 of the logits less kSpareBytes, or kHeldBytes.
  int64_t rows_at_once(bool holds_rows) const {
    const int64_t count = std::max<int64_t>(1, scored.size());
    int64_t most = std::clamp(kGatheredNumbers / std::max<int64_t>(1, width()), int64_t{16}, kTileRows);
    if (holds_rows) {
      const int64_t row_bytes = std::max<int64_t>(1, classes()) * static_cast<int64_t>(sizeof(A));
      const int64_t bytes = std::max(count * row_bytes / 8 - kSpareBytes, kHeldBytes);
      most = std::clamp(bytes / row_bytes, int64_t{1}, most);
    }
    const int64_t chunks = (count + most - 1) / most;
    return (count + chunks - 1) / chunks;
  }

  // Classes of a tile. Where the caller holds their logits anyway, as many as the memory beside them has room
  // for the library's packed copies of. Otherwise few on one thread, so that the logits stay in its cache;
  // several threads wait for one another at each tile, and get as many as kHeldBytes allow. Of a head so wide
  // that the classes' copies would take more, few again.
  int64_t classes_at_once(bool holds_rows) const {
    constexpr int64_t kBytes = sizeof(A), kFewest = 16;
    // 16-bit classes are widened and their gradients summed; of doubles the library packs as much.
    const int64_t copied = std::is_same_v<T, float> ? 0 : 2 * width() * kBytes;
    if (kTileClasses * copied > kHeldBytes / 2) {
      return std::clamp<int64_t>(classes(), 1, std::max(kHeldBytes / 2 / copied, kFewest));
    }
    int64_t most = kTileClasses;
    if (holds_rows && std::is_same_v<T, A>) {
      const int64_t room = kHeldBytes + kSpareBytes / 2 - chunk_rows * classes() * kBytes;
      most = room / (2 * chunk_rows * kBytes + copied);
    } else if (torch::stable::get_num_threads() > 1) {
      most = kHeldBytes / ((chunk_rows + 2 * width()) * kBytes);
    }
    most = std::max(most / kTileClasses * kTileClasses, kTileClasses);
    return std::clamp<int64_t>(classes(), 1, most);
  }

  Tensor hidden_, weight_, gathered_, block_;
  std::vector<A> bias_;
  int64_t gathered_row_ = -1;
};

// The logits of some rows and the classes [first, first + classes): a view of a buffer.
template <class A>
struct Tile {
  Tensor tensor;
  int64_t row, rows, first, classes, stride;  // row: number of its first row among the scored ones

  Tile(const Tensor& buffer, int64_t row, int64_t rows, int64_t first, int64_t classes, int64_t column = 0)
      : tensor(part(part(buffer, 0, 0, rows), 1, column, column + classes)),
        row(row),
        rows(rows),
        first(first),
        classes(classes),
        stride(buffer.size(1)) {}

  // body(row's number among the scored ones, its logits)
  template <class Body>
  void each_row(Body&& body) {
    A* data = tensor.mutable_data_ptr<A>();
    TorchLoop{}(rows, grain(classes), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(row + i, data + i * stride);
    });
  }
};

template <class T>
void fill_logits(Tile<Accumulate<T>>& tile, const Operands<T>& operands, const Tensor& rows,
                 const Tensor& block) {
  multiply(tile.tensor, rows, torch::stable::transpose(block, 0, 1));
  if (operands.has_bias()) {
    tile.each_row([&](int64_t, auto* x) { add(x, operands.bias() + tile.first, tile.classes); });
  }
}

// -- forward --------------------------------------------------------------------------------------------

template <class A>
using States = std::vector<OnlineLse<A>>;

template <class A>
void accumulate_lse(Tile<A>& tile, const Scored& scored, States<A>& states) {
  tile.each_row([&](int64_t i, const A* x) {
    // The same sums whatever the threads.
    for (int64_t first = 0; first < tile.classes; first += kTileClasses) {
      const int64_t n = std::min(kTileClasses, tile.classes - first);
      states[i].add_block(x + first, n, tile.first + first, scored.target[i]);
    }
  });
}

// One number of each scored row at its place among all rows, 0 elsewhere.
template <class A>
Tensor spread(const States<A>& states, const Scored& scored, int64_t rows, const Tensor& like,
              A (OnlineLse<A>::*number)() const) {
  Tensor result = torch::stable::new_zeros(like, {rows}, accumulator_type(like));
  A* data = result.mutable_data_ptr<A>();
  for (int64_t i = 0; i < scored.size(); ++i) data[scored.row[i]] = (states[i].*number)();
  return result;
}

std::tuple<Tensor, Tensor> masked_linear_cross_entropy_cpu(const Tensor& hidden, const Tensor& weight,
                                                           const Tensor& labels,
                                                           const std::optional<Tensor>& bias,
                                                           int64_t ignore_index) {
  return dispatch_float(hidden.scalar_type(), "hidden", [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulate<T>;
    Operands<T> operands(hidden, weight, labels, bias, ignore_index, false);
    const Scored& scored = operands.scored;
    States<A> states(scored.size());
    const Tensor buffer = operands.tile_buffer();
    operands.each_chunk([&](int64_t row, const Tensor& rows) {
      operands.each_block([&](int64_t first, const Tensor& block) {
        Tile<A> tile(buffer, row, rows.size(0), first, block.size(0));
        fill_logits(tile, operands, rows, block);
        accumulate_lse(tile, scored, states);
      });
    });
    return std::make_tuple(spread(states, scored, labels.size(0), hidden, &OnlineLse<A>::loss),
                           spread(states, scored, labels.size(0), hidden, &OnlineLse<A>::lse));
  });
}

// -- gradients ------------------------------------------------------------------------------------------

// The gradients that are asked for, of dtype R: the accumulator's own, or 16 bits. Tiles come in any order
// that meets the classes of a chunk, and the chunks of a block, from the first to the last.
template <class T, class R>
class Gradients {
 public:
  using A = Accumulate<T>;
  static constexpr bool kSums = std::is_same_v<A, R>;  // sums are taken in the results themselves

  Gradients(const Operands<T>& operands, const Tensor& like, int64_t rows, const std::vector<bool>& needs)
      : scored_(operands.scored), width_(operands.width()) {
    const ScalarType dtype = kSums ? accumulator_type(like) : like.scalar_type();
    const int64_t classes = operands.classes(), count = scored_.size();
    if (needs[0]) {
      hidden = plain_tensor(like, {rows, width_}, dtype);
      packed_ = kSums ? *hidden : operands.empty(count, width_);
    }
    if (needs[1]) {
      weight = plain_tensor(like, {classes, width_}, dtype);
      if (count == 0) torch::stable::zero_(*weight);
      weight_sum_ = kSums ? *weight : operands.empty(operands.tile_classes, width_);
    }
    if (needs[2]) {
      bias = plain_tensor(like, {classes}, dtype);
      bias_sum_.resize(classes);
    }
  }

  // The tile's logits become their gradient, and what it contributes is added.
  template <class Lse, class Factor>
  void add_tile(Tile<A>& tile, const Tensor& rows, const Tensor& block, Lse&& lse, Factor&& factor) {
    tile.each_row([&](int64_t i, A* x) {
      logits_to_gradient(x, tile.classes, tile.first, scored_.target[i], lse(i), factor(i));
    });
    if (hidden) {
      multiply(part(packed_, 0, tile.row, tile.row + tile.rows), tile.tensor, block, tile.first > 0);
    }
    if (weight) {
      const int64_t first = kSums ? tile.first : 0;
      multiply(part(weight_sum_, 0, first, first + tile.classes), torch::stable::transpose(tile.tensor, 0, 1),
               rows, tile.row > 0);
    }
    if (bias) add_rows(tile);
  }

  // Every chunk of the classes [first, first + classes) has been added.
  void finish_block(int64_t first, int64_t classes) {
    if constexpr (!kSums) {
      if (!weight || scored_.size() == 0) return;
      convert(weight_sum_.template const_data_ptr<A>(),
              weight->template mutable_data_ptr<R>() + first * width_, classes * width_);
    }
  }

  void finish() {
    if (hidden) unpack();
    if (bias) {
      convert(bias_sum_.data(), bias->template mutable_data_ptr<R>(), static_cast<int64_t>(bias_sum_.size()));
    }
  }

  std::optional<Tensor> hidden, weight, bias;

 private:
  // Groups of rows first, those in double: a sum of a thousand numbers one after the other would lose digits.
  void add_rows(const Tile<A>& tile) {
    constexpr int64_t kGroup = 16;
    const A* data = tile.tensor.template const_data_ptr<A>();
    TorchLoop{}(tile.classes, grain(tile.rows), [&](int64_t begin, int64_t end) {
      std::vector<A> sum(end - begin);
      for (int64_t i = 0; i < tile.rows; ++i) {
        add(sum.data(), data + i * tile.stride + begin, end - begin);
        if ((i + 1) % kGroup != 0 && i + 1 < tile.rows) continue;
        add(bias_sum_.data() + tile.first + begin, sum.data(), end - begin);
        std::fill(sum.begin(), sum.end(), A(0));
      }
    });
  }

  // Row k of the packed sums goes to row scored_.row[k] >= k of the result, the last one first: in place.
  void unpack() {
    R* to = hidden->template mutable_data_ptr<R>();
    const A* from = packed_.template const_data_ptr<A>();
    int64_t k = scored_.size() - 1;
    for (int64_t i = hidden->size(0) - 1; i >= 0; --i) {
      const bool is_scored = k >= 0 && scored_.row[k] == i;
      if (!is_scored) {
        std::fill_n(to + i * width_, width_, R(0));
      } else if (!(kSums && k == i)) {
        std::transform(from + k * width_, from + (k + 1) * width_, to + i * width_,
                       [](A value) { return static_cast<R>(value); });
      }
      k -= is_scored;
    }
  }

  const Scored& scored_;
  int64_t width_;
  Tensor packed_, weight_sum_;
  std::vector<double> bias_sum_;
};

using Found = std::tuple<std::optional<Tensor>, std::optional<Tensor>, std::optional<Tensor>>;

// Any upstream gradients: the logits are multiplied once more. Blocks of classes outside, so that 16-bit
// results need sums of one block alone.
Found masked_linear_cross_entropy_backward_cpu(const Tensor& grad_loss, const Tensor& hidden,
                                               const Tensor& weight, const Tensor& labels,
                                               const std::optional<Tensor>& bias, const Tensor& lse,
                                               int64_t ignore_index, std::vector<bool> needs) {
  return dispatch_float(hidden.scalar_type(), "hidden", [&](auto zero) -> Found {
    using T = decltype(zero);
    using A = Accumulate<T>;
    Operands<T> operands(hidden, weight, labels, bias, ignore_index, false);
    const Scored& scored = operands.scored;
    const std::vector<A> upstream = widened<A>(grad_loss, "grad_loss"), lses = widened<A>(lse, "lse");
    Gradients<T, T> gradients(operands, hidden, labels.size(0), needs);
    const Tensor buffer = operands.tile_buffer();
    operands.each_block([&](int64_t first, const Tensor& block) {
      operands.each_chunk([&](int64_t row, const Tensor& rows) {
        Tile<A> tile(buffer, row, rows.size(0), first, block.size(0));
        fill_logits(tile, operands, rows, block);
        gradients.add_tile(
            tile, rows, block, [&](int64_t i) { return lses[scored.row[i]]; },
            [&](int64_t i) { return upstream[scored.row[i]]; });
      });
      gradients.finish_block(first, block.size(0));
    });
    gradients.finish();
    return {gradients.hidden, gradients.weight, gradients.bias};
  });
}

using LossAndFound = std::tuple<Tensor, std::optional<Tensor>, std::optional<Tensor>, std::optional<Tensor>>;

// The losses, and the gradients of their sum or mean while a chunk's logits are at hand: one product fewer.
LossAndFound masked_linear_cross_entropy_with_gradients_cpu(const Tensor& hidden, const Tensor& weight,
                                                            const Tensor& labels,
                                                            const std::optional<Tensor>& bias,
                                                            int64_t ignore_index, bool mean,
                                                            std::vector<bool> needs) {
  return dispatch_float(hidden.scalar_type(), "hidden", [&](auto zero) -> LossAndFound {
    using T = decltype(zero);
    using A = Accumulate<T>;
    Operands<T> operands(hidden, weight, labels, bias, ignore_index, true);
    const Scored& scored = operands.scored;
    const A factor = mean ? A(1) / static_cast<A>(std::max<int64_t>(1, scored.size())) : A(1);
    States<A> states(scored.size());
    Gradients<T, A> gradients(operands, hidden, labels.size(0), needs);
    const Tensor buffer = operands.empty(operands.chunk_rows, operands.classes());
    operands.each_chunk([&](int64_t row, const Tensor& rows) {
      operands.each_block([&](int64_t first, const Tensor& block) {
        Tile<A> tile(buffer, row, rows.size(0), first, block.size(0), first);
        fill_logits(tile, operands, rows, block);
        accumulate_lse(tile, scored, states);
      });
      operands.each_block([&](int64_t first, const Tensor& block) {
        Tile<A> tile(buffer, row, rows.size(0), first, block.size(0), first);
        gradients.add_tile(
            tile, rows, block, [&](int64_t i) { return states[i].lse(); }, [&](int64_t) { return factor; });
      });
    });
    gradients.finish();
    const Tensor loss = spread(states, scored, labels.size(0), hidden, &OnlineLse<A>::loss);
    return {loss, gradients.hidden, gradients.weight, gradients.bias};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("masked_linear_cross_entropy", TORCH_BOX(&masked_linear_cross_entropy_cpu));
  m.impl("masked_linear_cross_entropy_backward", TORCH_BOX(&masked_linear_cross_entropy_backward_cpu));
  m.impl("masked_linear_cross_entropy_with_gradients",
         TORCH_BOX(&masked_linear_cross_entropy_with_gradients_cpu));
}

}  // namespace sslkernels::linear_cross_entropy
