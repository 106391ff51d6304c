// The Eulerian room over NumPy arrays; sslkernels/host.py checks shapes and dtypes before it calls these.
#include "../eulerian/walks/core.h"
#include "../eulerian/walks/deserialize.h"
#include "../eulerian/walks/reindex.h"
#include "module.h"

namespace sslkernels {
namespace {

using Optional = std::optional<Array<int64_t>>;

const int64_t* data_of(const Optional& array) { return array.has_value() ? array->data() : nullptr; }

template <class Id>
py::tuple serialize(const Array<Id>& edge_index, const Array<int64_t>& graph_ptr, const Optional& edge_ptr,
                    bool undirected, bool closed, bool shuffle, const Optional& start, int64_t seed,
                    int64_t step, const Optional& sample_ids) {
  const int64_t graphs = graph_ptr.shape(0) - 1;
  const walks::Batch<Id> batch{edge_index.data(),
                               edge_index.shape(1),
                               graph_ptr.data(),
                               graphs,
                               data_of(edge_ptr),
                               data_of(start),
                               data_of(sample_ids),
                               undirected,
                               closed,
                               shuffle,
                               seed,
                               step};
  auto ptr = new_array<int64_t>({graphs + 1});
  int64_t* offsets = ptr.mutable_data();
  std::vector<walks::Piece> pieces;
  {
    const py::gil_scoped_release released;
    pieces = walks::walk_batch(SerialLoop{}, batch, offsets);
  }
  auto nodes = new_array<int32_t>({offsets[graphs]}), edges = new_array<int32_t>({offsets[graphs]});
  int32_t *node = nodes.mutable_data(), *edge = edges.mutable_data();
  {
    const py::gil_scoped_release released;
    walks::gather(SerialLoop{}, pieces, offsets, node, edge);
  }
  return py::make_tuple(nodes, edges, ptr);
}

py::tuple deserialize(const Array<int32_t>& nodes, const Array<int32_t>& edges, const Array<int64_t>& ptr,
                      const Optional& num_nodes, bool undirected) {
  const int64_t graphs = ptr.shape(0) - 1;
  const walks::Paths paths{nodes.data(), edges.data(),       nodes.shape(0), ptr.data(),
                           graphs,       data_of(num_nodes), undirected};
  auto graph_ptr = new_array<int64_t>({graphs + 1});
  int64_t* offsets = graph_ptr.mutable_data();
  std::vector<walks::ColumnPiece> pieces;
  {
    const py::gil_scoped_release released;
    pieces = walks::restore_columns(SerialLoop{}, paths, offsets);
  }
  const int64_t columns = walks::count_columns(pieces);
  auto edge_index = new_array<int64_t>({2, columns});
  walks::lay_columns(pieces, columns, edge_index.mutable_data());
  return py::make_tuple(edge_index, graph_ptr);
}

template <class Id>
Array<int32_t> reindex(const Array<Id>& nodes, const Array<int64_t>& ptr, int64_t scope,
                       const std::string& mode, int64_t seed, int64_t step, const Optional& sample_ids) {
  const walks::Renumber<Id> work{nodes.data(),        nodes.shape(0), ptr.data(),
                                 ptr.shape(0) - 1,    scope,          walks::renumbering(mode),
                                 data_of(sample_ids), seed,           step};
  auto ids = new_array<int32_t>({nodes.shape(0)});
  int32_t* to = ids.mutable_data();
  {
    const py::gil_scoped_release released;
    walks::renumber(SerialLoop{}, work, to);
  }
  return ids;
}

template <class Id>
void bind_for(py::module_& m) {
  m.def("serialize", &serialize<Id>, py::arg("edge_index").noconvert(), py::arg("graph_ptr"),
        py::arg("edge_ptr"), py::arg("undirected"), py::arg("closed"), py::arg("shuffle"), py::arg("start"),
        py::arg("seed"), py::arg("step"), py::arg("sample_ids"));
  m.def("reindex", &reindex<Id>, py::arg("nodes").noconvert(), py::arg("ptr"), py::arg("scope"),
        py::arg("mode"), py::arg("seed"), py::arg("step"), py::arg("sample_ids"));
}

}  // namespace

void bind_eulerian(py::module_& m) {
  bind_for<int32_t>(m);
  bind_for<int64_t>(m);
  m.def("deserialize", &deserialize);
}

}  // namespace sslkernels
