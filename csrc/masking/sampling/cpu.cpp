#include <optional>
#include <vector>

#include "common/tensor.h"
#include "core.h"

namespace sslkernels::sampling {
namespace {

// A tensor whose rows may lie anywhere, but whose columns lie side by side.
Tensor with_rows(const Tensor& tensor) {
  const int64_t last = tensor.dim() - 1;
  return tensor.size(last) <= 1 || tensor.stride(last) == 1 ? tensor : in_order(tensor);
}

std::vector<double> widened(const std::optional<Tensor>& tensor) {
  if (!tensor.has_value()) return {};
  const Tensor held = in_order(*tensor);
  std::vector<double> values(static_cast<size_t>(held.size(0)));
  dispatch_float(held.scalar_type(), "temperature", [&](auto zero) {
    const auto* const from = held.const_data_ptr<decltype(zero)>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(from[i]);
  });
  return values;
}

Tensor sample_tokens_cpu(const Tensor& logits, const std::optional<Tensor>& allowed, double temperature,
                         const std::optional<Tensor>& row_temperature,
                         const std::optional<Tensor>& sample_ids, int64_t seed, int64_t step) {
  check_stream(seed, step);
  const Tensor held = with_rows(logits);
  const std::optional<Tensor> held_allowed =
      allowed.has_value() ? std::optional<Tensor>(with_rows(*allowed)) : std::nullopt;
  const std::optional<Tensor> held_ids = in_order(sample_ids);
  const std::vector<double> temperatures = widened(row_temperature);
  Tensor tokens = new_tensor(held, {held.size(0)}, ScalarType::Long);
  dispatch_float(held.scalar_type(), "logits", [&](auto zero) {
    using T = decltype(zero);
    Request<T> request;
    request.logits = held.const_data_ptr<T>();
    request.rows = held.size(0);
    request.columns = held.size(1);
    request.row_stride = held.stride(0);
    request.allowed = data_or_null<bool>(held_allowed);
    request.allowed_stride =
        held_allowed.has_value() && held_allowed->dim() == 2 ? held_allowed->stride(0) : 0;
    request.temperature = temperature;
    request.row_temperature = row_temperature.has_value() ? temperatures.data() : nullptr;
    request.sample_ids = data_or_null<int64_t>(held_ids);
    request.key = stream_key(seed, step);
    Sampler<T>(request, tokens.mutable_data_ptr<int64_t>()).run(TorchLoop{});
  });
  return tokens;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) { m.impl("sample_tokens", TORCH_BOX(&sample_tokens_cpu)); }

}  // namespace sslkernels::sampling
