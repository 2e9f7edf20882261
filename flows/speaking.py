"""Commands that use a trained head: let it say something, take it elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.project import Json, nearest_project, project
from models.errors import UsageError


class Device(StrEnum):
    """What computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


DeviceOption = Annotated[
    Device | None, typer.Option(help="What computes; as $GAUSSTALK_DEVICE says, else auto: CUDA if it can.")
]
Extractor = Annotated[
    str | None, typer.Option(help="Which of the speaker's heads.", show_default="the first extractor of params.yaml")
]
MethodOption = Annotated[str, typer.Option(help="By whom the head was made: talkinggaussian or gaussiantalker.")]
HEAD_FILE = ".safetensors"


def say(
    speaker: Annotated[str, typer.Argument(help="Whose head, or a file that export has written (.safetensors).")],
    audio: Annotated[list[Path], typer.Argument(help="What it says: sound or video files of any length.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The video (.mp4; lossless .mkv), or the folder for several.")
    ],
    extractor: Extractor = None,
    method: MethodOption = "talkinggaussian",
    articulation: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3,
            help="How far sound moves the face: 1 as far as learnt, 1.3 wider, 0 not at all.",
            show_default="the head's own",
        ),
    ] = None,
    still: Annotated[bool, typer.Option("--still", help="Hold the head still, as in a quiet frame.")] = False,
    frame: Annotated[int | None, typer.Option(help="Hold the head still as in this frame of the clip.")] = None,
    pose_from: Annotated[
        str, typer.Option(help="Move the head as in the clip of this speaker; none: as in its own.")
    ] = "",
    expression_from: Annotated[
        str, typer.Option(help="Take brows, lids and gaze from the clip of this speaker; none: from its own.")
    ] = "",
    neutral: Annotated[bool, typer.Option("--neutral", help="Keep brows, lids and gaze at rest.")] = False,
    blinks: Annotated[
        str, typer.Option(help="own: as in the clip; none; or how many a minute, at random times.")
    ] = "own",
    seed: Annotated[int, typer.Option(min=0, help="Of the times of blinks.")] = 0,
    lossless: Annotated[bool, typer.Option("--lossless", help="Write FFV1 in .mkv: every pixel survives.")] = False,
    device: DeviceOption = None,
    json: Json = False,
) -> None:
    """Make a trained head say something, in any language: one recording or many.

    Where the recording is longer than the clip, the clip's motion runs back and forth. A recording that cannot be used
    does not stop the others; the exit code is then that of the first error.
    """
    from tasks.stage import limit_threads

    _check_options(still, frame, pose_from, expression_from, neutral)
    rate = _blink_rate(blinks)
    limit_threads()
    from flows.processes import interrupt_on_signals
    from models.methods.talking_gaussian_config import Config
    from tasks.acting import Acting
    from tasks.device import asked_device
    from tasks.gt_talker import cannot_act
    from tasks.methods import GAUSSIAN_TALKER, TALKING_GAUSSIAN, find_method
    from tasks.people import load_speaker
    from tasks.say import check_there, talker_of
    from tasks.say import say as speak
    from tasks.scene import expressions_of, poses_of
    from tasks.talker import Talker, face_config
    from tasks.trained import usual_extractor

    chosen, from_file = find_method(method), speaker.endswith(HEAD_FILE)
    if from_file and chosen is not TALKING_GAUSSIAN:
        raise UsageError(f"{speaker}: exported heads are TalkingGaussian's", "", "name a speaker of the project")
    if from_file and extractor:
        raise UsageError(f"{speaker}: the file names the extractor by which this head hears", "", "leave it out")
    if from_file and frame is not None:
        why = "the poses of the clip stay in the project"
        raise UsageError(
            f"{speaker}: an exported head has one pose", why, f"gausstalk export SPEAKER --still {frame} -o FOLDER"
        )
    others = list(dict.fromkeys(filter(None, (pose_from, expression_from))))
    if chosen is GAUSSIAN_TALKER and (others or neutral or rate != "own"):
        raise cannot_act(speaker)  # before it is asked for the clips of others
    places = project() if others or not from_file else nearest_project()
    check_there(audio)
    talker = (
        Talker.load(Path(speaker))
        if from_file
        else talker_of(places, speaker, extractor or usual_extractor(places), chosen)
    )
    if still or frame is not None:
        talker = talker.still(frame)
    if articulation is not None:
        talker = talker.articulating(articulation)
    followed = [load_speaker(places, name) for name in others]
    config = face_config(talker.weights) if isinstance(talker, Talker) else Config()
    acting = Acting(
        poses=poses_of(places, pose_from) if pose_from else None,
        expression=expressions_of(places, expression_from, config) if expression_from else None,
        neutral=neutral,
        blinks=rate,
        seed=seed,
    )
    interrupt_on_signals()
    outcomes = speak(talker, audio, out, acting, followed, lossless, asked_device(device and device.value), places)
    _tell(outcomes, json)


def _check_options(still: bool, frame: int | None, pose_from: str, expression_from: str, neutral: bool) -> None:
    if pose_from and (still or frame is not None):
        raise UsageError("--pose-from and --still exclude each other", "a head moves or is held", "leave one out")
    if expression_from and neutral:
        raise UsageError("--expression-from and --neutral exclude each other", "brows move or rest", "leave one out")


def _blink_rate(blinks: str) -> Any:
    if blinks in ("own", "none"):
        return blinks
    try:
        rate = float(blinks)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 60:
        raise UsageError(
            f"--blinks {blinks}: neither own, none, nor a number of blinks a minute",
            "people blink 10 to 20 times a minute; 60 is the most",
            "--blinks 15",
        )
    return rate


def _tell(outcomes: list[Any], json: bool) -> None:
    from flows.console import complain, show_json
    from flows.console import say as tell

    failed = [said for said in outcomes if said.error is not None]
    if len(outcomes) == 1 and failed:
        raise failed[0].error
    if json:
        show_json([
            {"sound": str(said.sound), "video": str(said.video), "pictures": said.pictures,
             "error": said.error and str(said.error)} for said in outcomes
        ])  # fmt: skip
    else:
        for said in outcomes:
            if said.error is None:
                tell(str(said.video))
    for said in failed:
        complain(str(said.error))
    if failed:
        complain(f"{len(failed)} of {len(outcomes)} recordings could not be said")
        raise typer.Exit(failed[0].error.exit_code)


def export(
    speaker: Annotated[str, typer.Argument(help="Whose head.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write into.")],
    frames: Annotated[
        str, typer.Option(help="Of the clip, also written as Gaussians: 3,10:20,0:100:25 (first:end:step).")
    ] = "",
    still: Annotated[
        int | None, typer.Option(help="The frame whose pose and torso the .safetensors has; none: a quiet one.")
    ] = None,
    extractor: Extractor = None,
    method: Annotated[str, typer.Option(help="By whom it was made; only TalkingGaussian's can be exported.")] = (
        "talkinggaussian"
    ),
    json: Json = False,
) -> None:
    """Write a head as .ply that splat viewers open, and as one file that `say` takes on another machine."""
    from tasks.methods import TALKING_GAUSSIAN, find_method
    from tasks.stage import limit_threads

    if find_method(method) is not TALKING_GAUSSIAN:
        raise UsageError(
            f"{find_method(method).title} cannot be exported yet",
            "its face is put into frames of the clip, which an exported head does not carry",
            f"gausstalk say {speaker} SOUND --method {method} -o OUT.mp4",
        )
    places = project()
    limit_threads()
    from flows.console import say as tell
    from flows.console import show_json
    from tasks.export import export as write
    from tasks.export import parse_frames
    from tasks.kernels import watch
    from tasks.talker import Talker
    from tasks.trained import usual_extractor

    watch()
    talker = Talker.of(places, speaker, extractor or usual_extractor(places))
    written = [str(path) for path in write(places, talker, out, parse_frames(frames), still)]
    if json:
        show_json({"written": written})
    else:
        tell("\n".join(written))
