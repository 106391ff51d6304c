"""Runs small problem lines once on the GPU, for compute-sanitizer: `python -m benchmarks.small_lines [ROOM]`.

Results are the contract's business; here only what a kernel touches matters, so malformed values come, too.
"""

import sys

import torch

from sslkernels import _op, _problem

MOST_ELEMENTS = 10_000


def main(rooms: list[str]) -> int:
    if not torch.cuda.is_available():
        print("benchmarks.small_lines: no GPU here", file=sys.stderr)
        return 2
    _op.declare_all()
    count = 0
    for op in _op.OPS.values():
        if op.backend_on("CUDA") == "reference" or (rooms and op.package.split(".")[1] not in rooms):
            continue
        problems = _problem.problems_of(op)
        lacking = set(getattr(problems, "LACKING", {}).get("cuda", ()))
        for line in (*problems.LINES, *getattr(problems, "UNCHECKED", ())):
            if line.split()[0] != op.name or lacking & set(line.split()):
                continue
            args = _problem.inputs(f"{line} device=cuda")[1]
            if sum(value.numel() for value in args if isinstance(value, torch.Tensor)) <= MOST_ELEMENTS:
                op(*args)
                torch.cuda.synchronize()
                count += 1
    print(f"{count} lines ran")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
