// serialize, deserialize and reindex on CPU tensors.
#include "../../common/tensor.h"
#include "core.h"
#include "deserialize.h"
#include "reindex.h"

namespace sslkernels {
namespace {

std::tuple<Tensor, Tensor, Tensor> serialize_cpu(const Tensor& edge_index, const Tensor& graph_ptr,
                                                 const std::optional<Tensor>& edge_ptr, bool undirected,
                                                 bool closed, bool shuffle,
                                                 const std::optional<Tensor>& start, int64_t seed,
                                                 int64_t step, const std::optional<Tensor>& sample_ids) {
  const Tensor columns = in_order(edge_index), nodes_ptr = in_order(graph_ptr);
  const auto columns_ptr = in_order(edge_ptr), starts = in_order(start);
  const auto samples = in_order(sample_ids);
  const int64_t graphs = graph_ptr.size(0) - 1;
  const Tensor ptr = new_tensor(graph_ptr, {graphs + 1}, ScalarType::Long);
  int64_t* offsets = ptr.mutable_data_ptr<int64_t>();
  return dispatch_integer(edge_index.scalar_type(), "edge_index", [&](auto zero) {
    using Id = decltype(zero);
    const walks::Batch<Id> batch{columns.const_data_ptr<Id>(),
                                 edge_index.size(1),
                                 nodes_ptr.const_data_ptr<int64_t>(),
                                 graphs,
                                 data_or_null<int64_t>(columns_ptr),
                                 data_or_null<int64_t>(starts),
                                 data_or_null<int64_t>(samples),
                                 undirected,
                                 closed,
                                 shuffle,
                                 seed,
                                 step};
    const auto pieces = walks::walk_batch(TorchLoop{}, batch, offsets);
    const Tensor nodes = new_tensor(edge_index, {offsets[graphs]}, ScalarType::Int);
    const Tensor edges = new_tensor(edge_index, {offsets[graphs]}, ScalarType::Int);
    walks::gather(TorchLoop{}, pieces, offsets, nodes.mutable_data_ptr<int32_t>(),
                  edges.mutable_data_ptr<int32_t>());
    return std::make_tuple(nodes, edges, ptr);
  });
}

std::tuple<Tensor, Tensor> deserialize_cpu(const Tensor& nodes, const Tensor& edges, const Tensor& ptr,
                                           const std::optional<Tensor>& num_nodes, bool undirected) {
  const Tensor all_nodes = in_order(nodes), all_edges = in_order(edges), offsets = in_order(ptr);
  const auto counts = in_order(num_nodes);
  const int64_t graphs = ptr.size(0) - 1;
  const Tensor graph_ptr = new_tensor(ptr, {graphs + 1}, ScalarType::Long);
  const walks::Paths paths{all_nodes.const_data_ptr<int32_t>(),
                           all_edges.const_data_ptr<int32_t>(),
                           nodes.size(0),
                           offsets.const_data_ptr<int64_t>(),
                           graphs,
                           data_or_null<int64_t>(counts),
                           undirected};
  const auto pieces = walks::restore_columns(TorchLoop{}, paths, graph_ptr.mutable_data_ptr<int64_t>());
  const int64_t columns = walks::count_columns(pieces);
  const Tensor edge_index = new_tensor(ptr, {2, columns}, ScalarType::Long);
  walks::lay_columns(pieces, columns, edge_index.mutable_data_ptr<int64_t>());
  return {edge_index, graph_ptr};
}

Tensor reindex_cpu(const Tensor& nodes, const Tensor& ptr, int64_t scope, std::string mode, int64_t seed,
                   int64_t step, const std::optional<Tensor>& sample_ids) {
  const Tensor all_nodes = in_order(nodes), offsets = in_order(ptr);
  const auto samples = in_order(sample_ids);
  const Tensor ids = new_tensor(nodes, {nodes.size(0)}, ScalarType::Int);
  dispatch_integer(nodes.scalar_type(), "nodes", [&](auto zero) {
    using Id = decltype(zero);
    const walks::Renumber<Id> work{all_nodes.const_data_ptr<Id>(),
                                   nodes.size(0),
                                   offsets.const_data_ptr<int64_t>(),
                                   ptr.size(0) - 1,
                                   scope,
                                   walks::renumbering(mode),
                                   data_or_null<int64_t>(samples),
                                   seed,
                                   step};
    walks::renumber(TorchLoop{}, work, ids.mutable_data_ptr<int32_t>());
  });
  return ids;
}

}  // namespace
}  // namespace sslkernels

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("serialize", TORCH_BOX(&sslkernels::serialize_cpu));
  m.impl("deserialize", TORCH_BOX(&sslkernels::deserialize_cpu));
  m.impl("reindex", TORCH_BOX(&sslkernels::reindex_cpu));
}
