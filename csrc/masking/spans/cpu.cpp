#include <optional>
#include <tuple>
#include <vector>

#include "common/tensor.h"
#include "core.h"

namespace sslkernels::spans {
namespace {

// The rows of a call, and the tensors that they point into.
class HeldRows {
 public:
  HeldRows(const Tensor& lengths, const std::optional<Tensor>& sample_ids, int64_t longest, int64_t seed,
           int64_t step)
      : lengths_(in_order(lengths)), sample_ids_(in_order(sample_ids)) {
    check_stream(seed, step);
    rows_.sample_ids = data_or_null<int64_t>(sample_ids_);
    rows_.count = lengths_.size(0);
    rows_.key = stream_key(seed, step);
    dispatch_integer(lengths_.scalar_type(), "lengths", [&](auto zero) {
      if constexpr (sizeof(zero) == 4) {
        rows_.lengths32 = lengths_.template const_data_ptr<int32_t>();
      } else {
        rows_.lengths64 = lengths_.template const_data_ptr<int64_t>();
      }
    });
    require(longest >= 0 && longest <= kLongest, "max_length must lie in [0, 2147483647]");
    rows_.check_lengths(longest);
  }

  const Rows& operator*() const { return rows_; }

 private:
  Tensor lengths_;
  std::optional<Tensor> sample_ids_;
  Rows rows_;
};

Tensor span_mask_cpu(const Tensor& lengths, const std::optional<Tensor>& sample_ids, int64_t max_length,
                     double rate, int64_t span, int64_t min_spans, int64_t seed, int64_t step) {
  const HeldRows rows(lengths, sample_ids, max_length, seed, step);
  require(std::isfinite(rate) && rate >= 0, "rate must be finite and at least 0");
  require(span >= 1, "span must be at least 1");
  Tensor mask = new_tensor(lengths, {lengths.size(0), max_length}, ScalarType::Bool);
  span_mask(TorchLoop{}, *rows, max_length, rate, span, min_spans, mask.mutable_data_ptr<bool>());
  return mask;
}

Tensor geometric_span_groups_cpu(const Tensor& lengths, const std::optional<Tensor>& sample_ids,
                                 int64_t max_length, double budget, std::vector<int64_t> limits, int64_t seed,
                                 int64_t step) {
  const HeldRows rows(lengths, sample_ids, max_length, seed, step);
  require(budget >= 0 && budget <= 1, "budget must lie in [0, 1]");
  require(std::is_sorted(limits.begin(), limits.end()), "limits must ascend");
  Tensor groups = new_tensor(lengths, {lengths.size(0), max_length}, ScalarType::Int);
  geometric_span_groups(TorchLoop{}, *rows, max_length, budget, limits, groups.mutable_data_ptr<int32_t>());
  return groups;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> span_corruption_cpu(const Tensor& ids, const Tensor& lengths,
                                                               const std::optional<Tensor>& sample_ids,
                                                               double noise_density, double mean_span,
                                                               int64_t sentinel_start,
                                                               std::optional<int64_t> eos_id, int64_t pad_id,
                                                               int64_t seed, int64_t step) {
  const HeldRows rows(lengths, sample_ids, ids.size(1), seed, step);
  require(noise_density >= 0 && noise_density <= 1, "noise_density must lie in [0, 1]");
  require(std::isfinite(mean_span) && mean_span > 0, "mean_span must be finite and positive");
  const Tensor held = in_order(ids);
  const int64_t batch = ids.size(0);
  Tensor input_lengths = new_tensor(held, {batch}, ScalarType::Long);
  Tensor target_lengths = new_tensor(held, {batch}, ScalarType::Long);
  Tensor inputs, targets;
  dispatch_integer(ids.scalar_type(), "ids", [&](auto zero) {
    using Id = decltype(zero);
    Text<Id> text;
    text.ids = held.const_data_ptr<Id>();
    text.width = ids.size(1);
    text.noise_density = noise_density;
    text.mean_span = mean_span;
    text.sentinel_start = sentinel_start;
    text.eos_id = eos_id;
    text.pad_id = pad_id;
    text.check();
    const Widths widths = measure(*rows, text, input_lengths.mutable_data_ptr<int64_t>(),
                                  target_lengths.mutable_data_ptr<int64_t>());
    inputs = new_tensor(held, {batch, widths.inputs});
    targets = new_tensor(held, {batch, widths.targets});
    span_corruption(TorchLoop{}, *rows, text, widths, inputs.mutable_data_ptr<Id>(),
                    targets.mutable_data_ptr<Id>());
  });
  return {inputs, input_lengths, targets, target_lengths};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("span_mask", TORCH_BOX(&span_mask_cpu));
  m.impl("geometric_span_groups", TORCH_BOX(&geometric_span_groups_cpu));
  m.impl("span_corruption", TORCH_BOX(&span_corruption_cpu));
}

}  // namespace sslkernels::spans
