import pytest
from toy_project import Toy

from flows.graph import read_plan
from flows.processes import Children
from tasks.places import Places

pytestmark = pytest.mark.usefixtures("prefect_server")


def conduct(toy: Toy, *speakers: str, jobs: int = 2):
    from flows.run import Conductor

    children = Children(toy.root / ".work" / "run" / "children.json")
    plan = read_plan(toy.root, speakers)
    return Conductor(Places(toy.root), plan, jobs, 1, children).run()


def test_runs_everything_once_speakers_side_by_side_and_then_finds_it_cached(toy: Toy) -> None:
    toy.control("audio-ann-logmel", "sleep 3")
    toy.control("audio-bob-logmel", "sleep 3")
    outcome = conduct(toy)
    assert outcome.errors == []
    assert set(outcome.states.values()) == {"done"}
    assert toy.starts() == dict.fromkeys(
        ["audio-ann-logmel", "audio-bob-logmel", "demo", "evaluate-ann-logmel", "evaluate-bob-logmel", "ingest-ann"]
        + ["ingest-bob", "tables"],
        1,
    )
    ann, bob = toy.span("audio-ann-logmel"), toy.span("audio-bob-logmel")
    assert max(ann[0], bob[0]) < min(ann[1], bob[1])
    # DVC itself agrees that nothing is left to do.
    assert "up to date" in toy.dvc("status").stdout
    again = conduct(toy)
    assert set(again.states.values()) == {"cached"}
    assert set(toy.starts().values()) == {1}
