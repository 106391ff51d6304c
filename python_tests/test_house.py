"""The structure holds: who may import whom, what stays free of torch, and how large a file may grow."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sslkernels"
ROOMS = ("masking", "graph", "contrastive", "eulerian")

# A module imports only from lower floors, or from its own room.
FLOORS = {
    **dict.fromkeys(("_exports", "_native", "_scalars", "_shapes", "_ragged"), 0),
    **dict.fromkeys(("_random",), 1),
    **dict.fromkeys(("_op", "molecules"), 2),
    **dict.fromkeys(("_problem", *ROOMS), 3),
    **dict.fromkeys(("__init__", "__main__", "host", "integrations", "pretrain"), 4),
}
LONGEST_FILE, LONGEST_FUNCTION = 600, 100
SUFFIXES = (".py", ".h", ".cpp", ".cu", ".cuh", ".sh")
OPTIONAL = {"triton", "rdkit", "numpy", "omegaconf", "matplotlib", "transformers", "torch_geometric"}


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = [ROOT / line for line in listed.splitlines()]
    return [path for path in paths if path.suffix in suffixes and path.exists()]


def python_modules() -> list[Path]:
    return [path for path in tracked(".py") if path.is_relative_to(PACKAGE)]


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Dotted names a file imports, those of type checking alone left out."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def place(path: Path) -> str:
    """The room or module of the package that a file belongs to: masking, _op, ..."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def own_imports(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("sslkernels.")}


@pytest.mark.parametrize("path", python_modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_floors(path: Path) -> None:
    here = place(path)
    assert here in FLOORS, f"{here} has no floor: say in FLOORS where it stands"
    for name in own_imports(path) & FLOORS.keys():
        assert name == here or FLOORS[name] < FLOORS[here], f"{here} imports {name}, which is no lower floor"


@pytest.mark.parametrize(
    "path",
    [path for path in python_modules() if place(path) in ROOMS],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_implementations_stay_apart(path: Path) -> None:
    """reference, native and Triton implementations never import one another; op.py no optional backend."""
    names = imports(path)
    family = path.parent.name
    if path.name == "reference.py":
        assert not {name for name in names if re.search(r"triton|\.op\b|\._op\b|_native", name)}
    if path.name == "triton_kernels.py":
        assert not {name for name in names if re.search(rf"{family}\.(reference|op)\b|\._op\b|_native", name)}
    if path.name == "op.py":
        assert not {name.split(".")[0] for name in names} & OPTIONAL
        assert not {name for name in names if "triton_kernels" in name or ".problems" in name}
    if path.name == "results.py":
        assert "torch" not in {name.split(".")[0] for name in imports(path, top_level=True)}


@pytest.mark.parametrize(
    "path", tracked(".h", ".cpp", ".cu", ".cuh"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_native_floors(path: Path) -> None:
    """A core includes no torch header but torch/headeronly, and no room includes another."""
    inside = path.relative_to(ROOT / "csrc").parts
    included = re.findall(r'#include [<"]([^>"]+)', path.read_text())
    others = [room for room in ROOMS if room not in inside]
    if inside[0] in ROOMS:
        assert not [name for name in included if name.split("/")[0] in others]
        if path.suffix == ".h":
            torch = [name for name in included if name.startswith(("torch/", "ATen/", "c10/"))]
            assert all(name.startswith("torch/headeronly/") for name in torch)
    if inside[0] == "numpy":
        assert not [name for name in included if name.startswith(("torch/csrc", "ATen/"))]


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in tracked(*SUFFIXES)}
    assert not {str(path): length for path, length in lengths.items() if length > LONGEST_FILE}


def python_functions(path: Path) -> list[tuple[str, int, str]]:
    """(name, lines without the docstring, first comment or docstring line) of each function."""
    source = path.read_text()
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - len(text.splitlines())
            found.append((node.name, lines, text))
    return found


NOT_A_FUNCTION = r"namespace|extern|struct|class|enum|union"


def native_functions(path: Path) -> list[tuple[str, int, str]]:
    """The same for C++ as clang-format lays it out: from an unindented line to the next unindented brace."""
    found, start = [], None
    lines = path.read_text().splitlines()
    for at, line in enumerate(lines):
        if re.match(NOT_A_FUNCTION, line):
            start = None  # also after a line `template <...>`
        elif start is None and line[:1] not in ("", " ", "}", "#", "/"):
            start = at
        elif start is not None and line.startswith("}"):
            found.append((lines[start], at - start + 1, "\n".join(lines[start:at])))
            start = None
        elif start is not None and line.endswith(";") and line[:1] not in ("", " "):
            start = None
    return found


def test_no_function_is_too_long() -> None:
    """One that needs more says so: "long because ..." in its docstring or a comment inside."""
    too_long = []
    for path in tracked(*SUFFIXES):
        functions = python_functions if path.suffix == ".py" else native_functions
        for name, lines, text in functions(path):
            if lines > LONGEST_FUNCTION and "long because" not in text.lower():
                too_long.append(f"{path.relative_to(ROOT)}: {name}: {lines} lines")
    assert not too_long


def test_no_junk_drawers() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py", "utils.h", "helpers.h"}
    assert not [path for path in tracked(*SUFFIXES) if path.name in drawers]


def test_every_room_explains_itself() -> None:
    present = [room for room in ROOMS if (PACKAGE / room / "__init__.py").exists()]
    assert present
    assert not [room for room in present if not (PACKAGE / room / "README.md").exists()]


def test_native_families_have_their_python_side() -> None:
    native = {path.parent.relative_to(ROOT / "csrc") for path in (ROOT / "csrc").glob("*/*/cpu.cpp")}
    assert native
    for family in native:
        for name in ("op.py", "reference.py", "problems.py"):
            assert (PACKAGE / family / name).exists(), f"{family} has no {name}"
