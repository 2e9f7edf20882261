from pathlib import Path

import pytest

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
      deps:
      - data/${item}   # kept
      # code
      - models/gone.py
      outs:
      - b
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    files = {
        "tasks/one.py": "import models.x\n",
        "tasks/two.py": "def run():\n    from models import y\n",
        "models/x.py": "import numpy\n",
        "models/y.py": "from models.x import z\n",
        "models/__init__.py": '"""Nothing."""\n',
        "dvc.yaml": TEXT,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return Places(tmp_path)


def test_the_code_of_every_stage_is_written_and_the_rest_stays(places: Places) -> None:
    assert dag.check(places) == ["one", "two"]
    assert dag.write(places) == ["one", "two"]
    assert (places.root / "dvc.yaml").read_text() == TEXT.replace(
        "    deps: []\n", "    deps:\n    # code\n    - models/x.py\n    - tasks/one.py\n"
    ).replace("      - models/gone.py\n", "      - models/x.py\n      - models/y.py\n      - tasks/two.py\n")
    assert dag.check(places) == []
    assert dag.write(places) == []


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
