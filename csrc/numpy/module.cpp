// sslkernels._numpy: the cores of the rooms over NumPy arrays, without torch. See sslkernels/host.py.
#include "module.h"

PYBIND11_MODULE(_numpy, m) {
  m.doc() = "The native cores of sslkernels over NumPy arrays; use sslkernels.host.";
  sslkernels::bind_eulerian(m);
  sslkernels::bind_masking(m);
}
