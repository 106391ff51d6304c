#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/tensor.h"
#include "core.h"

namespace sslkernels::tokens {
namespace {

void require_samples(const char* name, const std::optional<Tensor>& tensor, int64_t samples) {
  if (tensor.has_value() && tensor->size(0) != samples) {
    throw std::invalid_argument(std::string(name) + " must have one entry a sample (B=" +
                                std::to_string(samples) + "), got " + std::to_string(tensor->size(0)));
  }
}

// The tensors of a call, held while raw pointers to them are in use.
struct Held {
  Tensor ids;
  std::optional<Tensor> ptr, sample_ids, row_limit, maskable, groups, cluster_of, cluster_tokens, cluster_ptr,
      cluster_limits, row_min_selected;
};

template <class Id>
void point_to(const Held& held, Request<Id>& request) {
  request.ids = held.ids.const_data_ptr<Id>();
  request.ptr = data_or_null<int64_t>(held.ptr);
  request.sample_ids = data_or_null<int64_t>(held.sample_ids);
  request.row_limit = data_or_null<int64_t>(held.row_limit);
  request.maskable = data_or_null<bool>(held.maskable);
  request.row_min_selected = data_or_null<int64_t>(held.row_min_selected);
  if (held.groups.has_value()) {
    dispatch_integer(held.groups->scalar_type(), "groups", [&](auto zero) {
      if constexpr (sizeof(zero) == 4) {
        request.groups32 = held.groups->template const_data_ptr<int32_t>();
      } else {
        request.groups64 = held.groups->template const_data_ptr<int64_t>();
      }
    });
  }
  request.total = request.ptr == nullptr ? held.ids.size(0) * held.ids.size(1) : held.ids.size(0);
  if (held.cluster_of.has_value()) {
    request.clusters = {data_or_null<int32_t>(held.cluster_of),
                        data_or_null<int32_t>(held.cluster_tokens),
                        data_or_null<int32_t>(held.cluster_ptr),
                        data_or_null<int64_t>(held.cluster_limits),
                        held.cluster_of->size(0),
                        held.cluster_limits->size(0)};
  }
}

using Corrupted = std::tuple<Tensor, Tensor, Tensor, std::optional<Tensor>, std::optional<Tensor>>;

Corrupted corrupt_tokens_cpu(
    const Tensor& ids, const std::optional<Tensor>& ptr, const std::optional<Tensor>& sample_ids,
    int64_t limit, const std::optional<Tensor>& row_limit, int64_t mask_limit, int64_t random_limit,
    int64_t mask_id, int64_t vocab_size, std::vector<int64_t> special_ids,
    const std::optional<Tensor>& maskable, const std::optional<Tensor>& groups,
    const std::optional<Tensor>& cluster_of, const std::optional<Tensor>& cluster_tokens,
    const std::optional<Tensor>& cluster_ptr, const std::optional<Tensor>& cluster_limits, std::string labels,
    bool exclude_original, int64_t min_selected, const std::optional<Tensor>& row_min_selected,
    int64_t ignore_index, int64_t capacity, int64_t seed, int64_t step) {
  const Held held{in_order(ids),
                  in_order(ptr),
                  in_order(sample_ids),
                  in_order(row_limit),
                  in_order(maskable),
                  in_order(groups),
                  in_order(cluster_of),
                  in_order(cluster_tokens),
                  in_order(cluster_ptr),
                  in_order(cluster_limits),
                  in_order(row_min_selected)};
  check_stream(seed, step);
  const bool packed = ptr.has_value();
  const int64_t samples = packed ? ptr->size(0) - 1 : ids.size(0), width = packed ? 1 : ids.size(1);
  require_samples("sample_ids", sample_ids, samples);
  require_samples("rate", row_limit, samples);
  require_samples("min_selected", row_min_selected, samples);
  if (groups.has_value() && groups->size(1) != width) {
    throw std::invalid_argument("groups must have " + std::to_string(width) + " columns, got " +
                                std::to_string(groups->size(1)));
  }
  Tensor found = new_tensor(held.ids, {ids.size(0), ids.size(1)});
  Tensor scored = new_tensor(held.ids, {ids.size(0), ids.size(1)}, ScalarType::Long);
  Tensor selected = new_tensor(held.ids, {ids.size(0), ids.size(1)}, ScalarType::Bool);
  std::optional<Tensor> positions, counts;
  if (capacity >= 0) {
    positions = new_tensor(held.ids, {samples, capacity}, ScalarType::Int);
    counts = new_tensor(held.ids, {samples}, ScalarType::Int);
  }
  dispatch_integer(ids.scalar_type(), "ids", [&](auto zero) {
    using Id = decltype(zero);
    Request<Id> request;
    request.samples = samples;
    request.columns = packed ? ids.size(1) : 1;
    request.length = packed ? 0 : ids.size(1);
    request.limit = limit;
    request.mask_limit = mask_limit;
    request.random_limit = random_limit;
    request.mask_id = mask_id;
    request.vocab_size = vocab_size;
    request.special_ids = std::move(special_ids);
    request.labels = labels_of(labels);
    request.exclude_original = exclude_original;
    request.min_selected = min_selected;
    request.ignore_index = ignore_index;
    request.capacity = capacity;
    request.key = stream_key(seed, step);
    point_to(held, request);
    Corruptor<Id>(request, {found.mutable_data_ptr<Id>(), scored.mutable_data_ptr<int64_t>(),
                            selected.mutable_data_ptr<bool>(),
                            positions ? positions->mutable_data_ptr<int32_t>() : nullptr,
                            counts ? counts->mutable_data_ptr<int32_t>() : nullptr})
        .run(TorchLoop{});
  });
  return {found, scored, selected, positions, counts};
}

Tensor row_uniform_cpu(const Tensor& sample_ids, int64_t seed, int64_t step) {
  check_stream(seed, step);
  const Tensor held = in_order(sample_ids);
  Tensor result = new_tensor(held, {held.size(0)}, ScalarType::Float);
  const Key key = stream_key(seed, step);
  const int64_t* const ids = held.const_data_ptr<int64_t>();
  float* const out = result.mutable_data_ptr<float>();
  for (int64_t i = 0; i < held.size(0); ++i) {
    // The upper 24 bits, which float holds exactly.
    out[i] = static_cast<float>(draw(key, ids[i], kRowUniform, 0).word[0] >> 8) * 0x1p-24f;
  }
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("corrupt_tokens", TORCH_BOX(&corrupt_tokens_cpu));
  m.impl("row_uniform", TORCH_BOX(&row_uniform_cpu));
}

}  // namespace sslkernels::tokens
