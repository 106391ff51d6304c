import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

import pytest

from sslkernels.pretrain import config as configuration
from sslkernels.pretrain.config import TrainConfig, UserError, describe, key, override, resumed


@dataclass(frozen=True)
class Example(TrainConfig):
    steps: int = 30
    flag: bool = key(True, "a switch")
    objective: Literal["smtp", "ntp"] = key("smtp", "what is predicted")
    limit: int | None = key(None, "samples used")


def test_values_take_the_type_of_their_key():
    # OpenSeq2Seq #130, argschema #64: "False" was true
    changed = override(Example(), ["flag=false", "lr=1e-3", "steps=7", "objective=ntp", "limit=3"])
    assert changed == Example(flag=False, lr=0.001, steps=7, objective="ntp", limit=3)
    assert type(changed.lr) is float
    for word in ("False", "FALSE", "no", "off", "0"):
        assert override(Example(), [f"flag={word}"]).flag is False
    assert override(changed, ["limit=null"]).limit is None
    assert override(Example(), ["lr=1"]).lr == 1.0


@pytest.mark.parametrize(
    "assignment",
    [
        *("steps=ten", "steps=", "steps=1.5", "steps", "steps=1e3", "steps=true", "steps=0", "steps=-1"),
        *("steps=[1]", "steps=null", "steps=${batch_size}", "steps=${"),
        *("lr=", "lr=fast", "lr=nan", "lr=inf", "lr=0", "lr=-1", "min_lr=2", "clip=-1", "workers=-1"),
        *("flag=maybe", "flag=", "flag=2", "objective=mlm", "objective=", "limit=some"),
        *("seed=-1", f"seed={2**63}", "accumulation=0", "log_every=0", "checkpoint_every=-1"),
    ],
)
def test_what_cannot_be_read_names_its_key(assignment):
    # kekzl/imp #1627: an unreadable value kept the default
    with pytest.raises(UserError) as caught:
        override(Example(), [assignment])
    assert assignment.partition("=")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("assignment", ["stpes=10", "=5", "step.s=1", "Steps=1", "recipe=x", "_=1"])
def test_an_unknown_key_is_named(assignment):
    with pytest.raises(UserError, match="unknown key"):
        override(Example(), [assignment])


def test_a_near_miss_is_offered():
    with pytest.raises(UserError, match="did you mean steps"):
        override(Example(), ["stpes=10"])


def test_help_lists_every_key_once_with_its_default():
    lines = describe(Example)
    assert [line.split("=")[0].strip() for line in lines] == [f.name for f in dataclasses.fields(Example)]
    assert lines[0].split()[0] == "steps=30"
    assert "optimizer steps" in lines[0]  # a changed default keeps the text of the base
    text = "\n".join(lines)
    for shown in ("flag=true ", "limit=null ", "objective=smtp ", "smtp|ntp"):
        assert shown in text


def test_a_configuration_survives_its_file(tmp_path):
    before = Example(lr=0.1 + 0.2, flag=False, limit=5)
    configuration.save(tmp_path, "example", before, None, None)
    saved = configuration.load(tmp_path)
    assert resumed(Example, saved, []) == before
    assert json.loads((tmp_path / "config.json").read_text())["lr"] == 0.1 + 0.2


def test_only_what_does_not_change_the_numbers_may_change(tmp_path):
    configuration.save(tmp_path, "example", Example(), None, None)
    saved = configuration.load(tmp_path)
    free = ["workers=3", "log_every=5", "checkpoint_every=7", "parallel=fsdp", "keep=2", "steps=31"]
    assert resumed(Example, saved, free).workers == 3
    assert resumed(Example, saved, ["lr=1e-3", "seed=0"]) == Example()  # equal is no change
    for change in ("lr=2e-3", "seed=1", "batch_size=65", "accumulation=2", "flag=false", "precision=bf16"):
        with pytest.raises(UserError, match=change.partition("=")[0]):
            resumed(Example, saved, [change])
    with pytest.raises(UserError, match="steps is 29, must be at least the saved 30"):
        resumed(Example, saved, ["steps=29"])


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"recipe": "example"}', "\x00\xff"])
def test_a_damaged_file_is_said_in_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="config.json"):
        configuration.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        *({"recipe": 5}, {"data": 5}, {"data_sha256": 5}, {"steps": "ten"}, {"steps": 10.5}, {"steps": True}),
        *({"lr": None}, {"lr": "0.1"}, {"flag": "yes"}, {"flag": 1}, {"objective": "mlm"}, {"limit": "3"}),
        *({"lr": -1.0}, {"lr": float("nan")}, {"steps": [1]}),
    ],
)
def test_a_value_of_the_file_that_no_run_wrote_is_said_in_one_line(tmp_path, change):
    configuration.save(tmp_path, "example", Example(), None, None)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(UserError, match=rf"config\.json|{next(iter(change))}"):
        resumed(Example, configuration.load(tmp_path), [])


def test_a_whole_number_in_the_file_is_a_number(tmp_path):
    configuration.save(tmp_path, "example", Example(lr=1.0), None, None)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace("1.0,", "1,"))
    assert resumed(Example, configuration.load(tmp_path), []).lr == 1.0


def test_keys_of_another_version_are_named(tmp_path):
    configuration.save(tmp_path, "example", Example(), None, None)
    saved = configuration.load(tmp_path)
    with pytest.raises(UserError, match="unknown key 'colour'"):
        resumed(Example, {**saved, "colour": 1}, [])
    del saved["flag"]
    with pytest.raises(UserError, match="no key 'flag'"):
        resumed(Example, saved, [])
