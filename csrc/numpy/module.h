// Each room adds its functions to the module in a file of its own.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "../common/memory.h"
#include "../common/parallel.h"

namespace sslkernels {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// Memory for a result.
template <class T>
Array<T> new_array(std::vector<py::ssize_t> shape) {
  Array<T> made(std::move(shape));
  keep_freed_memory(made.nbytes());
  return made;
}

void bind_eulerian(py::module_& m);
void bind_masking(py::module_& m);

}  // namespace sslkernels
