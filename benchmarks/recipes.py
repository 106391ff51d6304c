"""The time of a training step of each recipe: `python -m benchmarks.recipes [steps=60]`.

Runs `python -m sslkernels.pretrain RECIPE` with its own defaults for a few steps and takes the median of the
later steps from its metrics.jsonl.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import results


def recipes() -> list[str]:
    """The names that `--list` prints, one a line, each before its description."""
    command = [sys.executable, "-m", "sslkernels.pretrain", "--list"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in text.splitlines() if line and not line.startswith(" ")]


def step_seconds(recipe: str, words: list[str]) -> float:
    """Seconds a step, from the samples a second of the second half of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sslkernels.pretrain", recipe, "log_every=5", *words]
        subprocess.run([*command, "--out", f"{folder}/run"], check=True)
        run = Path(folder) / "run"
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        batch_size = json.loads((run / "config.json").read_text())["batch_size"]
    speeds = [row["samples_per_second"] for row in rows if "samples_per_second" in row]
    return batch_size / statistics.median(speeds[len(speeds) // 2 :])


def main(words: list[str]) -> int:
    for recipe in recipes():
        seconds = step_seconds(recipe, words or ["steps=60"])
        found = {"problem": f"training step {recipe}", "peer": "", "ratio": 1.0, "floor": None}
        results.add_row(**found, ours_seconds=seconds, peer_seconds=seconds)
    print(results.table())
    results.write()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
