"""GaussianTalker against what is known: the demo's head, whose motion was computed.

`python -m tests.tasks.speaking_truth` teaches the motion translator by 20 seconds and by the minute of the demo's text
with its true motion, and prints how far its lips are from the true ones in sentences it has never heard, beside a still
mouth's. `python -m tests.tasks.speaking_truth PROJECT` holds the demo speaker trained in that folder against the truth
on its test frames: how far lips and jaw are from the true ones as spoken, as tracked and with a still mouth, and the
PSNR of face, mouth and eyes with the true motion in place of the tracked one. With `demo: {seconds: 60}` no sentence
comes twice.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from scipy.signal import resample_poly

from models.demo.animation import animate
from models.demo.head_model import build
from models.demo.scripts import SCRIPTS
from models.demo.speech import VOICES, Speech, synthesize
from models.heads.mediapipe_points import EYE_RINGS, JAW, LIP_POINTS
from models.methods.gaussian_talker import compose
from models.methods.gaussian_talker_config import DRAWN
from models.records import TEST, TRAIN, AudioFeatures, Clip, DemoTruth, HeadTrack, Weights
from tasks import gt_motion, gt_renderer
from tasks.demo import TEXT
from tasks.gt_head import SpeakersFace, load_renderer, load_translator
from tasks.material import Footage
from tasks.people import load_speaker
from tasks.places import Keys, Places
from tasks.speech_features import AudioParams, extract
from tasks.stage import execute
from tests.saved_clip import save_clip

KEYS = Keys(speaker="robin", extractor="logmel")
DEMO, HEARD = Keys(speaker="demo"), Keys(speaker="demo", extractor="logmel")
RATE, FPS, SIZE = 16_000, 25, 32
UNHEARD = (
    "The quick brown fox jumps over the lazy dog while seven wizards juggle blue vases. Who will pay for the broken "
    "window? She sells sea shells by the shore, and the wheat fields look golden in July. My father often measures the "
    "fever with an old thermometer. Please give me a cheap ticket to the museum, we both love pictures of horses and "
    "ships."
)


def spoken(places: Places, scripts: tuple[str, ...]) -> None:
    """Write a speaker who says some scripts to learn from, then what is to be tested on."""
    unheard = synthesize(UNHEARD, VOICES["en", "male"], SCRIPTS["en-male"].rate)
    texts = [*(SCRIPTS[script].speak() for script in scripts), unheard]
    model, parts = build(), [_part(speech, 50 + number) for number, speech in enumerate(texts)]
    sound, expression = (np.concatenate(part) for part in zip(*parts, strict=True))
    count, heard = len(expression), sum(len(part[1]) for part in parts[:-1])
    split = np.where(np.arange(count) < heard, TRAIN, TEST).astype(np.int8)
    cuts = np.cumsum([len(part[1]) for part in parts[:-1]]).astype(np.int32)
    folder = places.record("ingest", Keys(speaker=KEYS.speaker))
    pictures = [np.zeros((SIZE, SIZE, 3), np.uint8)] * count
    save_clip(folder, pictures, speaker=str(KEYS.speaker), sound=sound, split=split, cuts=cuts)
    identity, pose = np.zeros(len(model.identity), np.float32), np.eye(4, dtype=np.float32)
    HeadTrack(
        model=model.name,
        width=SIZE,
        height=SIZE,
        intrinsics=np.eye(3, dtype=np.float32),
        world_to_camera=np.tile(pose, (count, 1, 1)),
        valid=np.ones(count, bool),
        identity=identity,
        expression=expression,
        turns=np.zeros((count, 0, 3), np.float32),
        landmark_index=model.landmark_index,
        rest_landmarks=model.landmarks(identity).astype(np.float32),
        residual_px=np.zeros(count, np.float32),
        expression_names=list(model.expression_names),
        cuts=cuts.tolist(),
    ).save(places.record("track", Keys(speaker=KEYS.speaker)))
    extract(sound, RATE, count, "logmel", AudioParams(), places).save(places.record("audio", KEYS))
    record = places.speaker_record(str(KEYS.speaker))
    record.parent.mkdir(parents=True)
    record.write_text("name: robin\nbasis: synthetic\nsources: [video.mp4]\nhead_model: synthetic\n")
    places.params.write_text("audio: {}\ngt_motion: {}\n")


def _part(speech: Speech, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sound at 16 kHz of whole frames, and the expression of each."""
    count = round(len(speech.samples) / speech.sample_rate * FPS)
    moved, samples = animate(speech, count / FPS, FPS, seed), np.zeros(count * RATE // FPS)
    sound = resample_poly(speech.samples.astype(float), RATE, speech.sample_rate)[: len(samples)]
    samples[: len(sound)] = sound
    expression = np.stack([moved.coefficient(name) for name in build().expression_names], 1)
    return samples.clip(-32768, 32767).astype(np.int16), expression.astype(np.float32)


def translated(scripts: tuple[str, ...], root: Path, **phase: Any) -> dict[str, Any]:
    """Return the quality of a translator that was taught by some scripts."""
    places = Places(root)
    spoken(places, scripts)
    params = gt_motion.TranslatorParams(phase=gt_motion.TranslatorPhase(**phase))
    return Weights.load(execute(gt_motion.STAGE, gt_motion.run, KEYS, places, params)).quality


def true_motion(places: Places, track: HeadTrack, train: np.ndarray) -> np.ndarray:
    """Return the true coefficients `[T, E]` of the demo speaker's clip.

    A coefficient's zero is a matter of the tracker's: what it adds to all frames alike is left in.
    """
    truth = DemoTruth.load(places.raw_speaker("demo") / "truth")
    true = truth.expression[: len(track.valid), [truth.expression_names.index(name) for name in track.expression_names]]
    return true + (track.expression - true)[train].mean(0)


def said(root: Path) -> dict[str, dict[str, float]]:
    """Return how far lips and jaw are from the true ones on test frames, millimetres."""
    places = Places(root)
    clip, track = Clip.load(places.record("ingest", DEMO)), HeadTrack.load(places.record("track", DEMO))
    face = SpeakersFace.of(places, load_speaker(places, "demo"), track)
    sound = AudioFeatures.load(places.record("audio", HEARD)).values
    translator = load_translator(Weights.load(places.record("gt_motion", HEARD)), face)
    train, frames = (np.flatnonzero((clip.split == part) & track.valid) for part in (TRAIN, TEST))
    first, end = int(frames[0]), int(frames[-1]) + 1
    mouthing, place = face.mouthing(), torch.from_numpy(frames)
    spoken = translator.speak(torch.from_numpy(sound[first:end]), 0)[place - first]
    still = mouthing.truth[train].mean(0).expand_as(spoken)
    motions = {"spoken": spoken, "tracked": mouthing.truth[frames], "still": still}
    expression = {name: mouthing.coefficients(numbers, place)[0].numpy() for name, numbers in motions.items()}
    landmarks = {name: face.model.landmarks(track.identity, moved) for name, moved in expression.items()}
    true = face.model.landmarks(track.identity, true_motion(places, track, train)[frames])
    regions = {"lips": face.model.rows_of(LIP_POINTS), "jaw": face.model.rows_of(JAW)}
    return {
        name: {
            region: 1000 * float(np.linalg.norm((points - true)[:, rows], axis=-1).mean())
            for region, rows in regions.items()
        }
        for name, points in landmarks.items()
    }


def drawn(root: Path) -> dict[str, dict[str, float]]:
    """Return the PSNR of face, mouth and eyes, of a demo speaker drawn with tracked and with true motion."""
    places = Places(root)
    context = SimpleNamespace(
        stage=gt_renderer.STAGE, read=lambda record, stage: record.load(places.record(stage, DEMO)), scratch=root
    )
    footage = Footage.of(cast(Any, context))
    face = SpeakersFace.of(places, load_speaker(places, "demo"), footage.track)
    renderer, table = load_renderer(Weights.load(places.record("gt_renderer", DEMO)), face)
    true = torch.from_numpy(true_motion(places, footage.track, footage.train_frames))
    regions = {"mouth": LIP_POINTS, "eyes": (*EYE_RINGS[0], *EYE_RINGS[1])}
    found: dict[str, dict[str, list[float]]] = {}
    for frame in np.flatnonzero((footage.clip.split == TEST) & footage.valid)[::3].tolist():
        wanted, whole = footage.clip.frames[frame], footage.whole
        own = footage.mask(frame, whole, DRAWN) & face.covers(frame, footage.camera(frame, whole))
        places_of = {"face": own.cpu().numpy(), **{name: _box(footage, frame, at) for name, at in regions.items()}}
        told = table.at(frame)
        for motion, head in (("tracked", told), ("true", told._replace(expression=true[frame]))):
            with torch.no_grad():
                raster = renderer.draw(footage.camera(frame, whole), head)
                image = compose(raster, footage.frame(frame, whole), footage.torso(frame, whole), own)
            error = (255 * image.clamp(0, 1).cpu().numpy() - wanted) ** 2
            for name, at in places_of.items():
                psnr = 10 * np.log10(255**2 / max(float(error[at].mean()), 1e-9))
                found.setdefault(motion, {}).setdefault(name, []).append(psnr)
    return {motion: {name: float(np.mean(v)) for name, v in by.items()} for motion, by in found.items()}


def _box(footage: Footage, frame: int, numbers: tuple[int, ...]) -> np.ndarray:
    """Return the box around some landmarks, two pixels wider, `[H, W]` bool."""
    points = footage.points[frame][list(numbers)]
    points = points[np.isfinite(points).all(1)]
    (left, top), (right, bottom) = np.floor(points.min(0)).astype(int) - 2, np.ceil(points.max(0)).astype(int) + 3
    found = np.zeros(footage.clip.frames[frame].shape[:2], bool)
    found[top:bottom, left:right] = True
    return found


def main() -> None:
    """Print what is asked for."""
    if len(sys.argv) > 1:
        root = Path(sys.argv[1])
        for found, unit in ((said(root), "mm"), (drawn(root), "dB")):
            for motion, figures in found.items():
                told = "".join(f"  {name} {value:.2f} {unit}" for name, value in figures.items())
                sys.stdout.write(f"{motion:8}{told}\n")
        return
    phase = gt_motion.STAGE.presets["demo"]["phase"]
    for scripts in (TEXT[:1], TEXT):
        with tempfile.TemporaryDirectory() as folder:
            quality = translated(scripts, Path(folder), **phase)
        lips, still = quality["test_lips_mm"], quality["test_still_lips_mm"]
        told = f"lips {lips:.2f} mm, still {still:.2f}: {lips / still:.2f}; r {quality['test_opening_r']:.2f}"
        sys.stdout.write(f"{' '.join(scripts)}: {told}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
