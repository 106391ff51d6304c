"""The rows and curves of a run, kept a device in results/<device>.json, and the table of ratios."""

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
_rows: list[dict[str, Any]] = []
_curves: list[dict[str, Any]] = []


def add_row(**row: Any) -> None:
    _rows.append(row)


def add_curve(**curve: Any) -> None:
    _curves.append(curve)


def device_name() -> str:
    """The GPU's name, or else the processor's with its number of cores."""
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        name = f"{model.group(1) if model else platform.processor()} {os.cpu_count()} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def path() -> Path:
    return FOLDER / f"{device_name()}.json"


def _commit() -> str:
    root = Path(__file__).parent.parent
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True).stdout.strip()


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row.get("problem", row.get("name", "")), row.get("peer", "")


def _merged(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was measured now replaces what was measured before under the same name."""
    return sorted(
        {**{_key(row): row for row in before}, **{_key(row): row for row in now}}.values(), key=_key
    )


def write() -> None:
    """Merge this run's rows and curves into the device's file and draw its curves."""
    if not _rows and not _curves:
        return
    import torch

    stamp = {"date": datetime.date.today().isoformat(), "commit": _commit(), "torch": torch.__version__}
    before = json.loads(path().read_text()) if path().exists() else {}
    document = {
        "device": device_name(),
        "rows": _merged(before.get("rows", []), [{**row, **stamp} for row in _rows]),
        "curves": _merged(before.get("curves", []), [{**curve, **stamp} for curve in _curves]),
    }
    FOLDER.mkdir(exist_ok=True)
    path().write_text(json.dumps(document, indent=1) + "\n")
    for curve in _curves:
        _draw(curve, device_name())


def _draw(curve: dict[str, Any], device: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), constrained_layout=True)
    for name, points in curve["lines"].items():
        x, y = zip(*points, strict=True)
        axes.plot(x, y, marker="o", label=name)
    axes.set(
        xscale="log", yscale="log", xlabel=curve["x_label"], ylabel=curve["y_label"], title=curve["name"]
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    file = re.sub(r"[^a-z0-9]+", "-", curve["name"].lower()).strip("-")
    figure.savefig(FOLDER / f"{device}-{file}.png", dpi=110)
    plt.close(figure)


def _seconds(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def table() -> str:
    """This run's rows: problem, peer, both times, the ratio, that of first calls, and the promised one."""
    width = max((len(row["problem"]) for row in _rows), default=7)
    header = f"\n{'problem':{width}}  {'peer':28}{'ours':>10}{'peer':>10}{'ratio':>9}{'first':>9}{'floor':>8}"
    lines = [header, "-" * len(header)]
    for row in sorted(_rows, key=_key):
        floor = "" if row["floor"] is None else f"{row['floor']:.3g}"
        first = f"{row['first_ratio']:.3g}x" if "first_ratio" in row else ""
        below = "  below its floor" if row["floor"] is not None and row["ratio"] < row["floor"] else ""
        lines.append(
            f"{row['problem']:{width}}  {row['peer']:28}{_seconds(row['ours_seconds']):>10}"
            f"{_seconds(row['peer_seconds']):>10}{row['ratio']:>8.3g}x{first:>9}{floor:>8}{below}"
        )
    return "\n".join(lines)
