"""Turns results/*.json into benchmarks/README.md: `python -m benchmarks.report`.

A table of ratios a device, kernels in a table of their own, and the plots: of each curve that a benchmark
recorded, and of every GPU operator its time and memory beside its peers', with the least time as a line.
"""

import json
import re
import sys
from collections import defaultdict
from typing import Any

from benchmarks.results import FOLDER, _draw, _seconds

TARGET = FOLDER.parent / "README.md"
Document = dict[str, Any]

HEAD = """# Benchmarks

Written by `python -m benchmarks.report` from `results/*.json`. A ratio is the peer's time over ours, both
taken in turns in one process: above 1 we are faster. On a CPU a call is repeated for 20 ms in its turn (a
longer one runs once); "first" is the ratio of the first calls of the turns, which find the caches cold. CPU
rows: `make bench`; GPU rows: `benchmarks/gpu.sh`. What has no file here has not been measured.
"""


def documents() -> list[Document]:
    files = sorted(path for path in FOLDER.glob("*.json") if path.name != "kernels.json")
    return [json.loads(path.read_text()) for path in files]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows in Markdown; the columns of GPUs only where a row has them."""
    gpu = any(row.get("least_seconds") is not None for row in rows)
    columns = ["problem", "peer", "ours", "peer's time", "ratio", "first", "promised"]
    columns += ["least time", "our memory", "peer's memory"] if gpu else []
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        floor = row.get("floor")
        below = " (below)" if floor is not None and row["ratio"] < floor else ""
        cells = [
            f"`{row['problem']}`",
            row["peer"],
            _seconds(row["ours_seconds"]),
            _seconds(row["peer_seconds"]),
        ]
        first = row.get("first_ratio")
        cells += [f"{row['ratio']:.3g}{below}", "" if first is None else f"{first:.3g}"]
        cells += ["" if floor is None else f"{floor:.3g}"]
        if gpu:
            least = row.get("least_seconds")
            cells += ["" if least is None else _seconds(least)]
            cells += [_mebibytes(row.get("peak_bytes")), _mebibytes(row.get("peer_bytes"))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.3g} MiB"


def picture(document: Document, name: str) -> str:
    file = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"results/{document['device']}-{file}.png"


def operator_curves(document: Document) -> list[dict[str, Any]]:
    """Time and memory of each operator that was measured at several sizes, against its least time."""
    found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = defaultdict(
        lambda: {"time (s)": defaultdict(list), "memory (bytes)": defaultdict(list)}
    )
    for row in document["rows"]:
        if row.get("least_seconds") is None:
            continue
        operator = row["problem"].split()[0] + (" backward" if "backward" in row["problem"] else "")
        size, times, memory = row["least_seconds"], *found[operator].values()
        times["ours"].append((size, row["ours_seconds"]))
        times["least"].append((size, size))
        times[row["peer"]].append((size, row["peer_seconds"]))
        for name, used in (("ours", row.get("peak_bytes")), (row["peer"], row.get("peer_bytes"))):
            if used:
                memory[name].append((size, float(used)))
    curves = []
    for operator, measures in found.items():
        for label, lines in measures.items():
            points = {name: sorted(set(values)) for name, values in lines.items()}
            if any(len(values) > 1 for values in points.values()):
                what = {"x_label": "least time (s)", "y_label": label, "lines": points}
                curves.append({"name": f"{operator} {label.split()[0]}", **what})
    return curves


def section(document: Document) -> list[str]:
    lines = [f"\n## {document['device']}\n", *table(document["rows"])]
    stamps = {(row["date"], row["commit"], row["torch"]) for row in document["rows"] if "date" in row}
    if stamps:
        date, commit, torch = max(stamps)
        lines.append(f"\nLast measured {date}, commit {commit}, torch {torch}.")
    drawn = operator_curves(document)
    for curve in drawn:
        _draw(curve, document["device"])
    for curve in [*document.get("curves", []), *drawn]:
        lines.append(f"\n![{curve['name']}]({picture(document, curve['name'])})")
    return lines


def kernels() -> list[str]:
    """GPU kernels, the largest of each architecture's instances a line."""
    path = FOLDER / "kernels.json"
    if not path.exists():
        return []
    lines = [
        "\n## GPU kernels, as compiled\n",
        "By `make kernels`, without a GPU; the largest figures of each.\n",
    ]
    lines += ["| kernel | instances | registers | stack | spilled | shared |", "|" + "---|" * 6]
    for rows in json.loads(path.read_text()).values():
        grouped: dict[str, list[dict[str, int]]] = defaultdict(list)
        for name, row in rows.items():
            family, kernel = name.split()[:2]
            grouped[f"{family} {kernel.split('<')[0]}"].append(row)
        for name, instances in sorted(grouped.items()):
            most = {key: max(row[key] for row in instances) for key in instances[0]}
            spilled = most["spill_stores"] + most["spill_loads"]
            cells = [f"`{name}`", len(instances), most["registers"], most["stack"], spilled, most["shared"]]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main() -> int:
    lines = [HEAD]
    for document in documents():
        lines += section(document)
    lines += kernels()
    TARGET.write_text("\n".join(lines) + "\n")
    print(TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
