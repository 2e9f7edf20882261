import importlib
import re
from pathlib import Path

import pytest
import yaml

from models.errors import UsageError
from tasks import dag
from tasks.closure import imported_modules
from tasks.places import Places

ROOT = Path(__file__).resolve().parents[2]
TEXT = """# by hand
stages:
  # the first
  one:
    cmd: python -m tasks.one
    deps: []
    outs: [a]

  two:
    foreach: ${speakers}
    do:
      cmd: python -m tasks.two
      deps: [
        "data/${item}",   # kept
        # kept, too
        # code
        models/gone.py,
      ]
      outs:
      - b
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    files = {
        "tasks/one.py": "import models.x\n",
        "tasks/two.py": "def run():\n    from models import y\n    from models.most import a, b\n",
        "models/x.py": "import numpy\n",
        "models/y.py": "from models.x import z\nimport models.few.a\n",
        "models/__init__.py": '"""Nothing."""\n',
        **{f"models/{folder}/{name}.py": "" for folder in ("few", "most") for name in ("__init__", "a", "b", "c")},
        "models/few/inner/__init__.py": "import models.few.inner\n",
        "dvc.yaml": TEXT,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Places(tmp_path)


def test_the_code_of_every_stage_is_written_and_the_rest_stays(places: Places) -> None:
    assert dag.check(places) == ["one", "two"]
    assert dag.write(places) == ["one", "two"]
    assert (places.root / "dvc.yaml").read_text() == TEXT.replace(
        "    deps: []\n", "    deps: [\n      # code\n      models/x.py, tasks/one.py,\n    ]\n"
    ).replace(
        "        models/gone.py,\n",
        "        models/few/a.py, models/most, models/x.py, models/y.py, tasks/two.py,\n",
    )
    assert dag.check(places) == []
    assert dag.write(places) == []


def test_long_lists_are_broken_into_lines_of_the_same_width(places: Places) -> None:
    names = [f"models/with_a_long_name_{k}.py" for k in range(9)]
    for name in names:
        (places.root / name).write_text("")
    imports = "".join(f"import {name[:-3].replace('/', '.')}\n" for name in names)
    (places.root / "tasks" / "one.py").write_text(imports)
    imported_modules.cache_clear()  # no file changes while a process runs, but here one does
    dag.write(places)
    text = (places.root / "dvc.yaml").read_text()
    assert max(map(len, text.splitlines())) <= 120
    assert yaml.safe_load(text)["stages"]["one"]["deps"] == [*names, "tasks/one.py"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("deps: []", "deps:\n    - a", "no list"),
        ("      ]\n", "", "no list"),
        ('"data/${item}",', '"data/${item}"', "no comma"),
    ],
    ids=["another style", "never ends", "comma forgotten"],
)
def test_a_list_that_cannot_be_edited_is_refused(places: Places, old: str, new: str, message: str) -> None:
    (places.root / "dvc.yaml").write_text(TEXT.replace(old, new))
    with pytest.raises(UsageError, match=message):
        dag.write(places)


def test_a_new_import_is_noticed(places: Places) -> None:
    dag.write(places)
    imported_modules.cache_clear()  # no file changes while a process runs, but here one does
    (places.root / "models" / "new.py").write_text("")
    (places.root / "tasks" / "one.py").write_text("import models.x\nimport models.new\n")
    assert dag.check(places) == ["one"]


def test_a_stage_without_a_module_is_refused(places: Places) -> None:
    (places.root / "tasks" / "one.py").unlink()
    with pytest.raises(UsageError, match="has no tasks/one.py"):
        dag.check(places)


def test_every_stage_of_this_project_depends_on_the_code_that_it_imports() -> None:
    assert dag.check(Places(ROOT)) == [], "run: gausstalk dag --write"


STAGES = {
    name: entry.get("do", entry) for name, entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()
}


@pytest.mark.parametrize("name", STAGES)
def test_dvc_yaml_and_the_stage_say_the_same(name: str) -> None:
    """What a stage reads, is set by and gives; a dependency that is missing in dvc.yaml would be a stale result."""
    body, stage = STAGES[name], importlib.import_module(f"tasks.{name}").STAGE
    assert stage.name == name
    found = (re.match(r"data/work/(?:project|(?:drives/)?\$\{[^}]*\})/([a-z_]+)", path) for path in body["deps"])
    assert {match.group(1) for match in found if match} == set(stage.reads)
    section = [stage.section or name] if stage.params.model_fields else []
    chosen = ["preset", "scale"] if stage.presets else []
    assert body.get("params", []) == [*chosen, *section, *stage.lists]
    assert all(f"--{key} " in body["cmd"] + " " for key in stage.per)
    assert len(re.findall(r"--[a-z]+", body["cmd"])) == len(stage.per)
    kinds = {path.split("/")[1] for path in body["outs"]}
    if stage.folder:
        assert body["outs"] == [stage.folder]
    elif stage.gives or stage.metrics:
        wanted = {"work": bool(stage.gives), "preview": stage.preview, "metrics": stage.metrics}
        assert kinds == {kind for kind, given in wanted.items() if given}
    text = (ROOT / "tasks" / f"{name}.py").read_text()
    assert ("context.speaker()" not in text) or any(path.startswith("data/speakers/") for path in body["deps"])
    assert ("context.drive()" not in text) or any(path.startswith("data/drives/") for path in body["deps"])
