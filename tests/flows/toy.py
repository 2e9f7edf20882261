"""The stage of the toy project: joins its inputs into its output, and does what control/<stage>-<speaker> says."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("stage")
parser.add_argument("--speaker", default="")
parser.add_argument("--extractor", default="")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--reads", type=Path, nargs="*", default=[])
arguments = parser.parse_args()

name = "-".join(part for part in (arguments.stage, arguments.speaker, arguments.extractor) if part)
log = Path("log")
log.mkdir(exist_ok=True)
with (log / name).open("a") as file:
    file.write(f"start {time.time()} {os.getpid()}\n")
control = Path("control") / name
words = control.read_text().split() if control.is_file() else []
if words[:1] == ["sleep"]:
    try:
        time.sleep(float(words[1]))
    except KeyboardInterrupt:
        sys.exit(130)
if words[:1] == ["fail"]:
    sys.stderr.write(f"error: {name} cannot\nwhy:   it was told so\nfix:   tell it otherwise\n")
    sys.exit(int(words[1]))
if words[:1] == ["killed-once"]:
    control.unlink()
    os.kill(os.getpid(), signal.SIGKILL)
arguments.out.parent.mkdir(parents=True, exist_ok=True)
texts = [
    path.read_text() for folder in arguments.reads for path in sorted([folder, *folder.rglob("*")]) if path.is_file()
]
arguments.out.write_text(name + "\n" + "".join(texts))
with (log / name).open("a") as file:
    file.write(f"end {time.time()} {os.getpid()}\n")
