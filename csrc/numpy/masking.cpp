// The masking room over NumPy arrays; <family>/host.py checks shapes and dtypes before it calls these.
#include "../masking/tokens/core.h"
#include "module.h"

namespace sslkernels {
namespace {

template <class T>
using Optional = std::optional<Array<T>>;

template <class T>
const T* data_of(const Optional<T>& array) {
  return array.has_value() ? array->data() : nullptr;
}

template <class T, class Like>
Array<T> shaped_like(const Array<Like>& like) {
  return new_array<T>({like.shape(), like.shape() + like.ndim()});
}

// `numbers` in the order of host.py.
template <class Id>
py::tuple corrupt_tokens(const Array<Id>& ids, const Optional<int64_t>& ptr,
                         const Optional<int64_t>& sample_ids, const Optional<int64_t>& row_limit,
                         const Optional<int64_t>& row_min_selected, const Optional<bool>& maskable,
                         const Optional<int64_t>& groups, const Optional<int32_t>& cluster_of,
                         const Optional<int32_t>& cluster_tokens, const Optional<int32_t>& cluster_ptr,
                         const Optional<int64_t>& cluster_limits, std::vector<int64_t> special_ids,
                         const std::string& labels, bool exclude_original,
                         const std::array<int64_t, 10>& numbers) {
  const auto [limit, mask_limit, random_limit, mask_id, vocab_size, min_selected, ignore_index, capacity,
              seed, step] = numbers;
  check_stream(seed, step);
  tokens::Request<Id> request;
  request.ids = ids.data();
  request.samples = ptr ? ptr->shape(0) - 1 : ids.shape(0);
  request.columns = ptr && ids.ndim() == 2 ? ids.shape(1) : 1;
  request.length = ptr ? 0 : ids.shape(1);
  request.total = ptr ? ids.shape(0) : ids.size();
  request.ptr = data_of(ptr);
  request.sample_ids = data_of(sample_ids);
  request.limit = limit;
  request.row_limit = data_of(row_limit);
  request.mask_limit = mask_limit;
  request.random_limit = random_limit;
  request.mask_id = mask_id;
  request.vocab_size = vocab_size;
  request.special_ids = std::move(special_ids);
  request.maskable = data_of(maskable);
  request.groups64 = data_of(groups);
  if (cluster_of.has_value()) {
    request.clusters = {data_of(cluster_of),     data_of(cluster_tokens), data_of(cluster_ptr),
                        data_of(cluster_limits), cluster_of->shape(0),    cluster_limits->shape(0)};
  }
  request.labels = tokens::labels_of(labels);
  request.exclude_original = exclude_original;
  request.min_selected = min_selected;
  request.row_min_selected = data_of(row_min_selected);
  request.ignore_index = ignore_index;
  request.capacity = capacity;
  request.key = stream_key(seed, step);

  Array<Id> found = shaped_like<Id>(ids);
  Array<int64_t> scored = shaped_like<int64_t>(ids);
  Array<bool> selected = shaped_like<bool>(ids);
  Optional<int32_t> positions, counts;
  if (capacity >= 0) {
    positions = new_array<int32_t>({request.samples, capacity});
    counts = new_array<int32_t>({request.samples});
  }
  const tokens::Results<Id> results{found.mutable_data(), scored.mutable_data(), selected.mutable_data(),
                                    positions ? positions->mutable_data() : nullptr,
                                    counts ? counts->mutable_data() : nullptr};
  {
    const py::gil_scoped_release released;
    tokens::Corruptor<Id>(request, results).run(SerialLoop{});
  }
  return py::make_tuple(found, scored, selected, positions, counts);
}

}  // namespace

void bind_masking(py::module_& m) {
  m.def("corrupt_tokens", &corrupt_tokens<int32_t>);
  m.def("corrupt_tokens", &corrupt_tokens<int64_t>);
}

}  // namespace sslkernels
