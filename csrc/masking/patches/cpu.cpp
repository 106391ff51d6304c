#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/tensor.h"
#include "core.h"
#include "rows.h"

namespace sslkernels::patches {
namespace {

std::tuple<Tensor, Tensor, Tensor> patch_mask_cpu(const Tensor& sample_ids, int64_t frames, int64_t rows,
                                                  int64_t columns, int64_t tile_rows, int64_t tile_columns,
                                                  int64_t views, int64_t masked, int64_t covered, bool block,
                                                  int64_t least, int64_t low, int64_t high, int64_t seed,
                                                  int64_t step) {
  check_stream(seed, step);
  const Tensor ids = in_order(sample_ids);
  const MaskRequest request{ids.size(0),
                            frames,
                            rows,
                            columns,
                            tile_rows,
                            tile_columns,
                            views,
                            masked,
                            covered,
                            block,
                            least,
                            low,
                            high,
                            ids.const_data_ptr<int64_t>(),
                            stream_key(seed, step)};
  check(request);
  const int64_t batch = request.batch, cells = request.cells();
  Tensor mask = new_tensor(ids, {batch, views, cells}, ScalarType::Bool);
  Tensor keep = new_tensor(ids, {batch, views, request.kept()});
  Tensor restore = new_tensor(ids, {batch, views, cells});
  const MaskResults results{mask.mutable_data_ptr<bool>(), keep.mutable_data_ptr<int64_t>(),
                            restore.mutable_data_ptr<int64_t>()};
  patch_mask(TorchLoop{}, request, results);
  return {mask, keep, restore};
}

std::vector<int64_t> sizes_of(const Tensor& tensor) {
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < tensor.dim(); ++i) sizes.push_back(tensor.size(i));
  return sizes;
}

// Every index lies in [0, limit): name[2, 7] is 9, outside [0, 9).
template <class Id>
void check_indices(const char* name, const Tensor& index, int64_t limit) {
  const Id* const data = index.const_data_ptr<Id>();
  int64_t at = find_outside(data, index.numel(), limit);
  if (at < 0) return;
  const std::string value = std::to_string(data[at]);
  std::string place;
  for (int64_t i = index.dim() - 1; i >= 0; --i) {
    place = std::to_string(at % index.size(i)) + (place.empty() ? "" : ", ") + place;
    at /= index.size(i);
  }
  throw std::invalid_argument(std::string(name) + "[" + place + "] is " + value + ", outside [0, " +
                              std::to_string(limit) + ")");
}

// Entries of each row of an index (rows, ...).
int64_t entries_of(const Tensor& index) {
  int64_t entries = 1;
  for (int64_t i = 1; i < index.dim(); ++i) entries *= index.size(i);
  return entries;
}

const char* bytes_of(const Tensor& tensor) {
  return static_cast<const char*>(static_cast<const void*>(tensor.const_data_ptr()));
}

Tensor gather_visible_cpu(const Tensor& x_any, const Tensor& keep_any, int64_t cells) {
  require(cells == x_any.size(1), "cells must be the patches of x", cells);
  const Tensor x = in_order(x_any), keep = in_order(keep_any);
  std::vector<int64_t> sizes = sizes_of(keep);
  sizes.push_back(x.size(2));
  return dispatch_integer(keep.scalar_type(), "keep", [&](auto id) {
    using Id = decltype(id);
    check_indices<Id>("keep", keep, cells);
    Tensor visible = new_tensor(x, sizes);
    copy_rows(TorchLoop{}, bytes_of(x), keep.const_data_ptr<Id>(), nullptr, keep.size(0), entries_of(keep),
              cells, x.size(2) * static_cast<int64_t>(x.element_size()),
              static_cast<char*>(visible.mutable_data_ptr()));
    return visible;
  });
}

Tensor gather_visible_backward_cpu(const Tensor& grad_any, const Tensor& keep_any, int64_t cells,
                                   std::vector<bool> /*needs*/) {
  require(cells >= 0, "cells must be at least 0", cells);
  const Tensor grad = in_order(grad_any), keep = in_order(keep_any);
  bool fits = grad.dim() == keep.dim() + 1;
  for (int64_t i = 0; fits && i < keep.dim(); ++i) fits = grad.size(i) == keep.size(i);
  if (!fits) throw std::invalid_argument("grad_visible must have the shape of keep and D");
  const int64_t columns = grad.size(grad.dim() - 1);
  return dispatch_integer(keep.scalar_type(), "keep", [&](auto id) {
    using Id = decltype(id);
    check_indices<Id>("keep", keep, cells);
    return dispatch_float(grad.scalar_type(), "grad_visible", [&](auto zero) {
      using T = decltype(zero);
      Tensor grad_x = new_tensor(grad, {keep.size(0), cells, columns});
      sum_by_index(TorchLoop{}, grad.const_data_ptr<T>(), keep.const_data_ptr<Id>(), keep.size(0),
                   entries_of(keep), cells, columns, grad_x.mutable_data_ptr<T>());
      return grad_x;
    });
  });
}

// restore is a permutation of the places of cat(visible, hidden), or at least lies among them.
template <class Id>
void check_restore(const Tensor& restore, int64_t kept) {
  if (kept < 0 || kept > restore.size(1)) {
    throw std::invalid_argument("visible must have at most N=" + std::to_string(restore.size(1)) +
                                " patches, got " + std::to_string(kept));
  }
  check_indices<Id>("restore", restore, restore.size(1));
}

Tensor scatter_visible_cpu(const Tensor& visible_any, const Tensor& restore_any, const Tensor& fill_any,
                           int64_t kept) {
  require(kept == visible_any.size(1), "kept must be the patches of visible", kept);
  const Tensor visible = in_order(visible_any);
  const Tensor restore = in_order(restore_any), fill = in_order(fill_any);
  return dispatch_integer(restore.scalar_type(), "restore", [&](auto id) {
    using Id = decltype(id);
    check_restore<Id>(restore, kept);
    Tensor out = new_tensor(visible, {restore.size(0), restore.size(1), fill.size(0)});
    copy_rows(TorchLoop{}, bytes_of(visible), restore.const_data_ptr<Id>(), bytes_of(fill), restore.size(0),
              restore.size(1), kept, fill.size(0) * static_cast<int64_t>(fill.element_size()),
              static_cast<char*>(out.mutable_data_ptr()));
    return out;
  });
}

std::tuple<std::optional<Tensor>, std::optional<Tensor>> scatter_visible_backward_cpu(
    const Tensor& grad_any, const Tensor& restore_any, int64_t kept, std::vector<bool> needs) {
  const Tensor grad = in_order(grad_any), restore = in_order(restore_any);
  const int64_t rows = restore.size(0), entries = restore.size(1), columns = grad.size(2);
  std::optional<Tensor> grad_visible, grad_fill;
  dispatch_integer(restore.scalar_type(), "restore", [&](auto id) {
    using Id = decltype(id);
    check_restore<Id>(restore, kept);
    const Id* const index = restore.const_data_ptr<Id>();
    dispatch_float(grad.scalar_type(), "grad_out", [&](auto zero) {
      using T = decltype(zero);
      const T* const data = grad.const_data_ptr<T>();
      if (needs[0]) {
        grad_visible = new_tensor(grad, {rows, kept, columns});
        sum_by_index(TorchLoop{}, data, index, rows, entries, kept, columns,
                     grad_visible->mutable_data_ptr<T>());
      }
      if (needs[1]) {
        grad_fill = new_tensor(grad, {columns});
        sum_hidden(TorchLoop{}, data, index, rows, entries, kept, columns, grad_fill->mutable_data_ptr<T>());
      }
    });
  });
  return {grad_visible, grad_fill};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("patch_mask", TORCH_BOX(&patch_mask_cpu));
  m.impl("gather_visible", TORCH_BOX(&gather_visible_cpu));
  m.impl("gather_visible_backward", TORCH_BOX(&gather_visible_backward_cpu));
  m.impl("scatter_visible", TORCH_BOX(&scatter_visible_cpu));
  m.impl("scatter_visible_backward", TORCH_BOX(&scatter_visible_backward_cpu));
}

}  // namespace sslkernels::patches
