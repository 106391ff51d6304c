"""The recipe that the README shows runs as it stands."""

import re

from .runs import ROOT, losses


def test_the_recipe_of_the_readme(train, tmp_path):
    text = (ROOT / "sslkernels" / "pretrain" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    result = train("steps=60", "lr=0.05", "warmup=5", "--out", "run", recipe="mine.py")
    assert (result.status, result.err) == (0, "")
    values = list(losses(tmp_path / "run").values())
    assert values[-1] < 0.3 * values[0]
