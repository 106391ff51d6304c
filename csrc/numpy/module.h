// Each room adds its functions to the module in a file of its own.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace sslkernels {}  // namespace sslkernels
