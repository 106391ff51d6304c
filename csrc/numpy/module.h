// Each room adds its functions to the module in a file of its own.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../common/parallel.h"

namespace sslkernels {

namespace py = pybind11;

void bind_eulerian(py::module_& m);
void bind_masking(py::module_& m);

}  // namespace sslkernels
