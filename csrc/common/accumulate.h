// The type that sums of T's are taken in: double for double, float for everything else.
#pragma once

#include <type_traits>

namespace sslkernels {

template <class T>
using Accumulate = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace sslkernels
