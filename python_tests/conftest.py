"""Set before anything imports triton: its kernels run under the interpreter where there is no GPU."""

import importlib.util
import os

import torch
import triton_interpreter

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if importlib.util.find_spec("triton") is not None:
        triton_interpreter.patch()
torch.set_num_threads(int(os.environ.get("SSLKERNELS_TEST_THREADS", "2")))
