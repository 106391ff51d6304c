"""What importing costs and needs, each in a fresh process; installing without torch; the command line."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import sslkernels
from sslkernels import _op

ROOT = Path(__file__).parent.parent


def python(
    code: str, *flags: str, check: bool = True, **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True,
        text=True,
        check=check,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def seconds(code: str, repeats: int = 3) -> float:
    """Least CPU seconds that the last statement of `code` takes, each time in a new process."""
    *before, last = code.split("; ")
    timed = "; ".join(
        [*before, "import time", "t = time.process_time()", last, "print(time.process_time() - t)"]
    )
    return min(float(python(timed).stdout) for _ in range(repeats))


def test_import_is_lean() -> None:
    assert seconds("import torch; import sslkernels") < 0.05
    assert seconds("import torch; import sslkernels.masking, sslkernels.eulerian") < 0.05
    assert seconds("import sslkernels.host") < 0.15


def test_host_imports_no_torch() -> None:
    loaded = python(
        "import sys, sslkernels.host; print('torch' in sys.modules, 'numpy' in sys.modules)"
    ).stdout
    assert loaded.split() == ["False", "False"]


@pytest.mark.parametrize(
    "code",
    [
        "import sslkernels.masking",  # pytorch/extension-cpp #6: imported first
        "import sslkernels.host, torch",
        "import sslkernels; sslkernels.use, sslkernels.backends()",
        "from sslkernels.masking import corrupt_tokens, masked_linear_cross_entropy",
        "from sslkernels.eulerian import serialize, deserialize, reindex, GraphTokenizer, GraphBatch, pack",
    ],
)
def test_imports_in_any_order(code: str) -> None:
    assert not python(code, "-W", "error").stderr


def test_every_public_name_resolves() -> None:
    for module in (sslkernels, sslkernels.host, sslkernels.masking, sslkernels.eulerian):
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = module.no_such_name


@pytest.mark.parametrize(("version", "refused"), [("2.9.1+cpu", True), ("2.10.0", False), ("3.0.0a1", False)])
def test_old_torch_is_one_line(version: str, refused: bool) -> None:
    code = f"import torch; torch.__version__ = {version!r}; import sslkernels._native"
    result = python(code, check=False)
    assert (result.returncode != 0) == refused
    if refused:
        assert "needs torch 2.10 or newer, found 2.9.1+cpu" in result.stderr.splitlines()[-1]


def test_build_without_torch_is_one_line(tmp_path: Path) -> None:
    """flash-attention #246, #1421: a page of traceback where torch is missing at build time."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    result = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1].startswith("sslkernels: building needs torch first")
    assert "Traceback" not in result.stderr


# -- choosing a backend --------------------------------------------------------------------------------------


def test_use_refuses_an_unknown_backend() -> None:
    with pytest.raises(ValueError, match="backend must be one of auto, reference"), sslkernels.use("gpu"):
        pass


def test_a_backend_that_is_missing_raises_at_the_call() -> None:
    op = _op.Op(
        "lonely(Tensor x) -> Tensor",
        shapes="x: N any",
        reference=lambda x: x + 1,
        namespace="sslkernels_import_test",
    )
    x = torch.arange(3)
    assert op(x).tolist() == [1, 2, 3]
    with sslkernels.use("cpu"):
        with pytest.raises(RuntimeError, match="lonely has no cpu kernel"):
            op(x)
        with sslkernels.use("reference"):
            assert op(x).tolist() == [1, 2, 3]
        with sslkernels.use("auto"):
            assert op(x).tolist() == [1, 2, 3]
        with pytest.raises(RuntimeError, match="lonely"):
            op(x)
    assert op(x).tolist() == [1, 2, 3]


def test_backends_lists_every_operator() -> None:
    table = sslkernels.backends()
    assert {"serialize", "corrupt_tokens", "masked_linear_cross_entropy"} <= table.keys()
    assert all(row["cpu"] in ("cpu", "reference") for row in table.values())


def test_a_library_older_than_the_code_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dispatcher falls back to the reference where the library lacks a kernel: never silently."""
    op = _op.OPS["row_uniform"]
    monkeypatch.setattr(op, "_warned", False)
    with pytest.warns(UserWarning, match="row_uniform has no kernel in the native CPU library"):
        drawn = op._fallback(torch.arange(3), 1, 0)
    assert torch.equal(drawn, op(torch.arange(3), 1, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        op._fallback(torch.arange(3), 1, 0)


# -- python -m sslkernels ------------------------------------------------------------------------------------


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sslkernels", *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_table() -> None:
    result = command()
    assert result.returncode == 0
    assert "corrupt_tokens" in result.stdout
    assert torch.__version__ in result.stdout


def test_check_and_time() -> None:
    line = "masked_linear_cross_entropy t=9 v=7 d=5 dtype=fp32"
    for arguments in (["check", line], ["check", line, "--backend", "reference"], ["time", line]):
        result = command(*arguments)
        assert result.returncode == 0, result.stderr
        assert result.stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no_such_operator n=3", "no operator 'no_such_operator'"),
        ("serialize stpes=3", "no keyword 'stpes'"),
        ("serialize n", "'n' is not key=value"),
    ],
)
def test_bad_lines(line: str, message: str) -> None:
    result = command("check", line)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert message in result.stderr
