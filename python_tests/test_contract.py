"""Every operator of the package against its contract; operators and problem lines are found by themselves.

A failing test prints its problem line: python -m sslkernels check "LINE" --backend B repeats it.
"""

from typing import Any

import contract
import pytest
import torch

from sslkernels import _op, _problem

_op.declare_all()
OPERATORS = list(_op.OPS.values())
DEVICES = ["cuda"] if torch.cuda.is_available() else ["cpu"]
RUNS = list(contract.pairs(OPERATORS, DEVICES))


def arguments(op: _op.Op, line: str, device: str = DEVICES[0]) -> contract.Args:
    keywords = _problem.parse(line)[1]
    return _problem.inputs_of(op, getattr(_problem.problems_of(op), op.name), {**keywords, "device": device})


def on_every_run(test: Any) -> Any:
    names = [f"{line} [{backend}]" for _, line, _, backend in RUNS]
    return pytest.mark.parametrize(("op", "line", "device", "backend"), RUNS, ids=names)(test)


def on_every_operator(test: Any) -> Any:
    return pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)(test)


@on_every_run
def test_parity(op: _op.Op, line: str, device: str, backend: str) -> None:
    contract.assert_parity(op, arguments(op, line, device), backend)


@on_every_run
def test_bits(op: _op.Op, line: str, device: str, backend: str) -> None:
    contract.assert_bits(op, arguments(op, line, device), backend)


@on_every_run
def test_strides(op: _op.Op, line: str, device: str, backend: str) -> None:
    contract.assert_any_strides(op, arguments(op, line, device), backend)


def _doubles(op: _op.Op) -> list[tuple[str, contract.Args]]:
    lines = [line for line in contract.lines(op) if "dtype=fp64" in line]
    candidates = [(line, arguments(op, line)) for line in lines]
    return [
        (line, args) for line, args in candidates if all(leaf.numel() for leaf in contract._leaves(op, args))
    ]


@pytest.mark.parametrize("op", [op for op in OPERATORS if op.backward is not None], ids=lambda op: op.name)
def test_gradient(op: _op.Op) -> None:
    doubles = _doubles(op)
    assert doubles, f"{op.name} has no problem line in float64"
    for line, args in doubles:
        for backend in ["reference", *contract.backends(op, DEVICES[0])]:
            if not contract.serves(op, backend, line, args):
                continue
            try:
                contract.assert_gradient(op, args, backend)
            except Exception as error:
                raise AssertionError(f"{line} [{backend}]: {error}") from error
    contract.assert_differentiable_once(op, doubles[0][1])


@on_every_operator
def test_torch_machinery(op: _op.Op) -> None:
    """opcheck, torch.compile(fullgraph=True) and export, once a set of optional arguments."""
    candidates = [(line, arguments(op, line)) for line in contract.lines(op)]
    for line, args in contract.optional_sets(op, candidates):
        for check in (contract.assert_opcheck, contract.assert_compiles, contract.assert_exports):
            try:
                check(op, args)
            except Exception as error:
                raise AssertionError(f"{line}: {check.__name__}: {error}") from error


@on_every_operator
def test_wrong_arguments(op: _op.Op) -> None:
    for line in contract.lines(op):
        contract.assert_refuses(op, arguments(op, line))


@on_every_operator
def test_has_problem_lines(op: _op.Op) -> None:
    assert list(contract.lines(op)), f"{op.package}.problems.LINES has no line for {op.name}"
