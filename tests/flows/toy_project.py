"""A tiny DVC project with the shape of the real one: a shared stage, a chain for each speaker, a closing stage."""

import subprocess
import sys
from pathlib import Path

DVC_YAML = """
stages:
  demo:
    cmd: {python} toy.py demo --out data/demo.txt
    deps: [toy.py]
    outs: [data/demo.txt]
  ingest:
    foreach: ${{speakers}}
    do:
      cmd: >-
        {python} toy.py ingest --speaker ${{item}} --out data/work/${{item}}/ingest.txt
        --reads data/demo.txt raw/${{item}}.txt
      deps: [data/demo.txt, "raw/${{item}}.txt"]
      outs: ["data/work/${{item}}/ingest.txt"]
  audio:
    matrix:
      speaker: ${{speakers}}
      extractor: ${{extractors}}
    cmd: >-
      {python} toy.py audio --speaker ${{item.speaker}} --extractor ${{item.extractor}}
      --out data/work/${{item.speaker}}/audio/${{item.extractor}}.txt --reads data/work/${{item.speaker}}/ingest.txt
    deps: ["data/work/${{item.speaker}}/ingest.txt"]
    outs: ["data/work/${{item.speaker}}/audio/${{item.extractor}}.txt"]
  evaluate:
    matrix:
      speaker: ${{speakers}}
      extractor: ${{extractors}}
    cmd: >-
      {python} toy.py evaluate --speaker ${{item.speaker}} --extractor ${{item.extractor}}
      --out data/metrics/${{item.speaker}}/${{item.extractor}}.txt
      --reads data/work/${{item.speaker}}/audio/${{item.extractor}}.txt
    deps: ["data/work/${{item.speaker}}/audio/${{item.extractor}}.txt"]
    outs: ["data/metrics/${{item.speaker}}/${{item.extractor}}.txt"]
  tables:
    cmd: {python} toy.py tables --out data/tables.txt --reads data/metrics
    deps: [data/metrics]
    outs: [data/tables.txt]
"""


class Toy:
    """The toy project and what its stages have written down about themselves."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def control(self, name: str, words: str) -> None:
        (self.root / "control").mkdir(exist_ok=True)
        (self.root / "control" / name).write_text(words)

    def release(self, name: str) -> None:
        (self.root / "control" / name).unlink()

    def starts(self) -> dict[str, int]:
        """How often each stage has run so far."""
        return {path.name: path.read_text().count("start") for path in sorted((self.root / "log").glob("*"))}

    def span(self, name: str) -> tuple[float, float]:
        """When a stage last began and ended."""
        lines = (self.root / "log" / name).read_text().split("\n")[-3:-1]
        return float(lines[0].split()[1]), float(lines[1].split()[1])

    def pids(self) -> list[int]:
        return [
            int(line.split()[2]) for path in (self.root / "log").glob("*") for line in path.read_text().splitlines()
        ]

    def dvc(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
