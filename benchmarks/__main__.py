"""`python -m benchmarks [ROOM ...]`: the contract of what is timed, then one table of ratios.

Nothing is measured, and no result is written, when the contract fails.
"""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def main(rooms: list[str]) -> int:
    files = sorted(Path(__file__).parent.glob("*.py"))
    known = [path.stem for path in files if path.stem != "conftest" and "\ndef test_" in path.read_text()]
    unknown = [room for room in rooms if room not in known]
    if unknown:
        print(f"benchmarks: no room {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    contract = [str(ROOT / "python_tests" / "test_contract.py"), "-q", "-x", "-n", "auto"]
    if pytest.main(contract) != 0:
        print("benchmarks: the contract fails: nothing was measured", file=sys.stderr)
        return 1
    chosen = [str(ROOT / "benchmarks" / f"{room}.py") for room in rooms or known]
    return int(pytest.main([*chosen, "-q", "--benchmark-enable", "--benchmark-columns=median"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
