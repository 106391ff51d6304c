"""Set before anything imports triton: its kernels run under the interpreter where there is no GPU."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
torch.set_num_threads(int(os.environ.get("SSLKERNELS_TEST_THREADS", "2")))
