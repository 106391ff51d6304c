#include <tuple>

#include "columns.h"
#include "common/tensor.h"
#include "decode.h"
#include "encode.h"
#include "pack.h"

namespace sslkernels::tokens {
namespace {

Tensor to_tensor(const Tensor& like, const std::vector<int64_t>& values) {
  Tensor result = new_tensor(like, {static_cast<int64_t>(values.size())}, ScalarType::Long);
  std::copy(values.begin(), values.end(), result.mutable_data_ptr<int64_t>());
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> pair_columns_cpu(const Tensor& edge_index, const Tensor& graph_ptr,
                                                            const Tensor& edge_features) {
  const Tensor index = in_order(edge_index), offsets = in_order(graph_ptr);
  const Tensor features = in_order(edge_features);
  const int64_t columns = index.size(1);
  const int64_t* const from = index.const_data_ptr<int64_t>();
  ColumnPairs pairs({from, from + columns, columns, offsets.size(0) - 1, offsets.const_data_ptr<int64_t>(),
                     features.const_data_ptr<int64_t>(), features.size(1)});
  const std::vector<int64_t> ptr = pairs.find(TorchLoop{});
  const int64_t walked = ptr.back();
  Tensor walk_index = new_tensor(index, {2, walked}, ScalarType::Long);
  Tensor column = new_tensor(index, {walked}, ScalarType::Long);
  Tensor kind = new_tensor(index, {walked}, ScalarType::Int);
  int64_t* const out = walk_index.mutable_data_ptr<int64_t>();
  pairs.write(TorchLoop{}, ptr.data(),
              {out, out + walked, column.mutable_data_ptr<int64_t>(), kind.mutable_data_ptr<int32_t>()});
  return {walk_index, to_tensor(index, ptr), column, kind};
}

std::tuple<Tensor, Tensor, Tensor> encode_tokens_cpu(
    const Tensor& ids, const Tensor& nodes, const Tensor& edges, const Tensor& ptr, const Tensor& walk_index,
    const Tensor& walk_ptr, const Tensor& column, const Tensor& kind, const Tensor& graph_ptr,
    const Tensor& node_features, const Tensor& edge_features, std::vector<int64_t> node_sizes,
    std::vector<int64_t> edge_sizes, int64_t scope, bool stacked, bool edge_direction) {
  const Tensor held[] = {in_order(ids),           in_order(nodes),        in_order(edges),
                         in_order(ptr),           in_order(walk_index),   in_order(walk_ptr),
                         in_order(column),        in_order(kind),         in_order(graph_ptr),
                         in_order(node_features), in_order(edge_features)};
  const auto int32 = [&](int i) { return held[i].const_data_ptr<int32_t>(); };
  const auto int64 = [&](int i) { return held[i].const_data_ptr<int64_t>(); };
  const int64_t graphs = ptr.size(0) - 1, walked = walk_index.size(1);
  const Vocabulary vocabulary(scope, stacked, edge_direction, std::move(node_sizes), std::move(edge_sizes));
  Encoder encoder(vocabulary, {int32(0), int32(1), int32(2), int64(3), ids.size(0), graphs},
                  {int64(4), int64(4) + walked, int64(5), int64(6), int32(7), walked}, int64(8),
                  {int64(9), int64(10), node_features.size(0), edge_features.size(0)});
  const std::vector<int64_t> offsets = encoder.plan(TorchLoop{});
  const std::vector<int64_t> shape =
      stacked ? std::vector<int64_t>{offsets.back(), vocabulary.row()} : std::vector<int64_t>{offsets.back()};
  Tensor tokens = new_tensor(ids, shape, ScalarType::Int);
  Tensor groups = new_tensor(ids, {offsets.back()}, ScalarType::Long);
  encoder.write(TorchLoop{}, offsets.data(), tokens.mutable_data_ptr<int32_t>(),
                groups.mutable_data_ptr<int64_t>());
  return {tokens, to_tensor(ids, offsets), groups};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> decode_tokens_cpu(const Tensor& tokens, const Tensor& ptr,
                                                             std::vector<int64_t> node_sizes,
                                                             std::vector<int64_t> edge_sizes, int64_t scope,
                                                             bool stacked, bool edge_direction) {
  const Tensor held = in_order(tokens), offsets = in_order(ptr);
  const int64_t graphs = offsets.size(0) - 1;
  const Vocabulary vocabulary(scope, stacked, edge_direction, std::move(node_sizes), std::move(edge_sizes));
  return dispatch_integer(tokens.scalar_type(), "tokens", [&](auto zero) {
    using Token = decltype(zero);
    const Decoder<Token> decoder(vocabulary, held.const_data_ptr<Token>(), held.size(0),
                                 offsets.const_data_ptr<int64_t>(), graphs);
    const std::vector<Counts> counts = decoder.count(TorchLoop{});
    const int64_t columns = counts.back().columns, count = counts.back().nodes;
    Tensor edge_index = new_tensor(ptr, {2, columns}, ScalarType::Long);
    Tensor graph_ptr = new_tensor(ptr, {graphs + 1}, ScalarType::Long);
    Tensor node_features = new_tensor(ptr, {count, vocabulary.node_columns()}, ScalarType::Long);
    Tensor edge_features = new_tensor(ptr, {columns, vocabulary.edge_columns()}, ScalarType::Long);
    decoder.write(TorchLoop{}, counts,
                  {edge_index.mutable_data_ptr<int64_t>(), columns, node_features.mutable_data_ptr<int64_t>(),
                   edge_features.mutable_data_ptr<int64_t>()});
    int64_t* const starts = graph_ptr.mutable_data_ptr<int64_t>();
    for (int64_t graph = 0; graph <= graphs; ++graph) starts[graph] = counts[graph].nodes;
    return std::make_tuple(edge_index, graph_ptr, node_features, edge_features);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> pack_rows_cpu(const Tensor& ptr, int64_t length,
                                                         int64_t max_tokens) {
  if (max_tokens < 1) fail("max_tokens must be at least 1, got " + number(max_tokens));
  const Tensor offsets = in_order(ptr);
  const std::vector<Segment> segments =
      best_fit(offsets.const_data_ptr<int64_t>(), offsets.size(0) - 1, length, max_tokens);
  const int64_t count = static_cast<int64_t>(segments.size());
  int64_t places = 0;
  for (const Segment& segment : segments) places += segment.length;
  Tensor segment_ptr = new_tensor(ptr, {count + 1}, ScalarType::Long);
  Tensor graph = new_tensor(ptr, {count}, ScalarType::Long);
  Tensor source = new_tensor(ptr, {places / max_tokens, max_tokens}, ScalarType::Long);
  Tensor positions = new_tensor(ptr, {places / max_tokens, max_tokens}, ScalarType::Long);
  int64_t* const starts = segment_ptr.mutable_data_ptr<int64_t>();
  starts[0] = 0;
  for (int64_t i = 0; i < count; ++i) starts[i + 1] = starts[i] + segments[i].length;
  int64_t* const graphs = graph.mutable_data_ptr<int64_t>();
  int64_t* const from = source.mutable_data_ptr<int64_t>();
  int64_t* const at = positions.mutable_data_ptr<int64_t>();
  TorchLoop{}(count, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const Segment& segment = segments[i];
      graphs[i] = segment.graph;
      for (int64_t k = 0; k < segment.length; ++k) {
        from[starts[i] + k] = segment.graph < 0 ? length : segment.begin + k;
        at[starts[i] + k] = k;
      }
    }
  });
  return {segment_ptr, graph, source, positions};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("pair_columns", TORCH_BOX(&pair_columns_cpu));
  m.impl("encode_tokens", TORCH_BOX(&encode_tokens_cpu));
  m.impl("pack_rows", TORCH_BOX(&pack_rows_cpu));
  m.impl("decode_tokens", TORCH_BOX(&decode_tokens_cpu));
}

}  // namespace sslkernels::tokens
