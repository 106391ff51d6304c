#include "../../common/tensor.h"
#include "core.h"

namespace sslkernels {
namespace {

// The columns of (rows, columns) or (rows,).
int64_t columns_of(const Tensor& x) { return x.dim() == 1 ? 1 : x.size(1); }

Tensor segment_softmax_cpu(const Tensor& x_any, const Tensor& ptr_any) {
  const Tensor x = in_order(x_any), ptr = in_order(ptr_any);
  const int64_t segments = ptr.size(0) - 1;
  return dispatch_integer(ptr.scalar_type(), "ptr", [&](auto id) {
    using Id = decltype(id);
    check_ptr(ptr.const_data_ptr<Id>(), segments, x.size(0));
    return dispatch_float(x.scalar_type(), "x", [&](auto zero) {
      using T = decltype(zero);
      Tensor out = new_tensor(x);
      segment_softmax(TorchLoop{}, x.const_data_ptr<T>(), ptr.const_data_ptr<Id>(), segments, columns_of(x),
                      out.mutable_data_ptr<T>());
      return out;
    });
  });
}

Tensor segment_softmax_backward_cpu(const Tensor& grad_any, const Tensor& out_any, const Tensor& ptr_any) {
  const Tensor grad_out = in_order(grad_any), out = in_order(out_any);
  const Tensor ptr = in_order(ptr_any);
  const int64_t segments = ptr.size(0) - 1;
  return dispatch_integer(ptr.scalar_type(), "ptr", [&](auto id) {
    using Id = decltype(id);
    check_ptr(ptr.const_data_ptr<Id>(), segments, out.size(0));
    return dispatch_float(out.scalar_type(), "out", [&](auto zero) {
      using T = decltype(zero);
      Tensor grad_x = new_tensor(out);
      segment_softmax_backward(TorchLoop{}, grad_out.const_data_ptr<T>(), out.const_data_ptr<T>(),
                               ptr.const_data_ptr<Id>(), segments, columns_of(out),
                               grad_x.mutable_data_ptr<T>());
      return grad_x;
    });
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("segment_softmax", TORCH_BOX(&segment_softmax_cpu));
  m.impl("segment_softmax_backward", TORCH_BOX(&segment_softmax_backward_cpu));
}

}  // namespace sslkernels
