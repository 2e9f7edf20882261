"""What a person should know about footage before a head is trained on it: figures, findings, and a verdict.

Stages and `gausstalk check` add the figures that they know; whatever is there is judged by one set of limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from tasks.words import counted

GOOD_SECONDS = 45.0
DARK, BRIGHT = 0.18, 0.8
BLURRED = 12.0  # variance of the Laplacian of grey levels at the clip's size; sharp talking heads have 50 to 1000
SILENT_DBFS, QUIET_DBFS, CLIPPED_SHARE = -70.0, -36.0, 1e-3
SILENT_SHARE = 0.6
LEAST_SECONDS = 2.0
FOUND, SECOND_FACE = 0.8, 0.1  # shares of the pictures, as the stage landmarks demands them by default
LONG_GAP_S = 1.0
SMALL_FACE_PX, TINY_FACE_PX = 60.0, 25.0  # between the outer eye corners
MOST_YAW = 35.0  # degrees; beyond it landmarks of the far cheek are guessed
LEAST_OPENING = 0.03  # of the eye distance, from nearly closed to nearly widest
FEW_BLINKS = 3.0  # a minute
LATE_FRAMES = 3  # lips open a frame or two before their sound in any recording
UNEVEN = 0.02  # share of pictures that come early or late
REPEATED = 0.1
CUTS_PER_MINUTE = 6.0
BLOCK_S = 0.02
SILENCE_BELOW_SPEECH_DB = 30.0


@dataclass
class PictureStatistics:
    """Brightness and sharpness, gathered frame by frame."""

    brightness: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)

    def add(self, image: np.ndarray) -> None:
        """Take in a frame `[H, W, 3]` uint8 RGB."""
        import cv2

        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        self.brightness.append(float(grey.mean()) / 255)
        self.sharpness.append(float(cv2.Laplacian(grey, cv2.CV_32F).var()))


def sound_statistics(sound: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Return loudness of the speech (dBFS), shares of silence and of clipped samples, digital silence at both ends.

    Silence is what lies 30 dB below the loud parts, so that a noisy room counts as silent between words.
    """
    block = int(BLOCK_S * sample_rate)
    usable = sound[: len(sound) // block * block].astype(np.float64).reshape(-1, block) / 32768
    level = 10 * np.log10((usable**2).mean(1) + 1e-12) if len(usable) else np.full(1, -120.0)
    loud = float(np.percentile(level, 95))
    nonzero = np.flatnonzero(sound)
    silent_start, silent_end = (int(nonzero[0]), len(sound) - int(nonzero[-1]) - 1) if len(nonzero) else (0, len(sound))
    return {
        "loudness_dbfs": round(loud, 1),
        "silence_share": round(float((level < max(loud - SILENCE_BELOW_SPEECH_DB, -90)).mean()), 3),
        "clipped_share": round(float((np.abs(sound.astype(np.int32)) >= 32767).mean()) if len(sound) else 0.0, 5),
        "silent_start_s": round(silent_start / sample_rate, 2),
        "silent_end_s": round(silent_end / sample_rate, 2),
    }


Level = Literal["unfit", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what to do about it."""

    level: Level
    what: str
    fix: str = ""


def picture_figures(pictures: PictureStatistics, cuts: Sequence[int] | np.ndarray, fps: float) -> dict[str, Any]:
    """Return what is known of pictures that were looked at one by one."""
    return {
        "brightness": round(float(np.mean(pictures.brightness)), 3),
        "sharpness": round(float(np.median(pictures.sharpness)), 1),
        "cuts": len(cuts),
        "cuts_s": [round(int(cut) / fps, 2) for cut in cuts],
    }


def face_figures(
    points: np.ndarray,
    looked: np.ndarray,
    closed: np.ndarray,
    sound: np.ndarray,
    cuts: Sequence[int] | np.ndarray,
    fps: float,
    enlarged: float = 1.0,
) -> dict[str, Any]:
    """Return what landmarks tell of a recording.

    Args:
        points: `[T, 478, 2]` px, NaN where there is no face or nobody looked.
        looked: `[T]` frames in which a face was looked for.
        closed: `[T]` how far the eyes are closed, 0..1, NaN where unknown.
        sound: int16 `[S]` at 16 kHz, empty when there is none.
        cuts: first frames of new shots.
        fps: of the frames.
        enlarged: pixels of `points` over pixels of the recording.
    """
    from models.footage import blinks, eye_distance, head_yaw, mouth_opening, sound_lag, spread
    from models.heads.flow import find_judder
    from tasks.timeline import runs_of

    found = looked & np.isfinite(points).any((1, 2))
    figures: dict[str, Any] = {"face_share": round(float(found.sum()) / max(1, int(looked.sum())), 4)}
    gaps = runs_of(looked & ~found)
    figures["gaps_s"] = [[round(first / fps, 2), round(end / fps, 2)] for first, end in gaps]
    figures["longest_gap_s"] = round(max((end - first for first, end in gaps), default=0) / fps, 2)
    if not found.any():
        return figures
    yaw, opening = spread(head_yaw(points), (1, 99)), spread(mouth_opening(points), (5, 95))
    judder = find_judder(points, found, np.array(cuts, int))
    figures |= {
        "eye_distance_px": round(spread(eye_distance(points), (50,))[0] / enlarged, 1),
        "yaw_degrees": [round(value, 1) for value in yaw],
        "mouth_opening": [round(value, 4) for value in opening],
        "judder_period": judder.period if judder else 0,
    }
    if np.isfinite(closed).any():
        figures["blinks_per_minute"] = round(blinks(closed) / max(found.sum() / fps / 60, 1e-6), 1)
    if len(sound):
        lag = sound_lag(mouth_opening(points), sound)
        figures["sound_lag"] = {**asdict(lag), "r": round(lag.r, 3), "milliseconds": round(lag.frames / fps * 1000)}
    return figures


def fitness(
    pictures: PictureStatistics,
    sound: np.ndarray,
    sample_rate: int,
    fps: float,
    cuts: np.ndarray,
    sources: list[dict[str, Any]],
    size: int,
) -> dict[str, Any]:
    """Return figures and, under `verdicts`, sentences about whatever is not as it should be (empty: all is well)."""
    result: dict[str, Any] = {
        "seconds": round(len(pictures.brightness) / fps, 2),
        "frames": len(pictures.brightness),
        **picture_figures(pictures, cuts, fps),
        "frame_rates": [source["frame_rate"] for source in sources],
        **sound_statistics(sound, sample_rate),
    }
    result["verdicts"] = [finding.what for finding in findings_of(result, sources, fps, size)]
    return result


def verdict_of(findings: Sequence[Finding]) -> str:
    """Return fit, fit with warnings or unfit."""
    if any(finding.level == "unfit" for finding in findings):
        return "unfit"
    return "fit with warnings" if findings else "fit"


def findings_of(
    figures: dict[str, Any], sources: list[dict[str, Any]], fps: float = 25.0, size: int = 256
) -> list[Finding]:
    """Judge the figures that are there; what makes footage unfit comes first."""
    found = [
        *_of_sources(figures, sources, fps, size),
        *_of_pictures(figures, joins=max(0, len(sources) - 1)),
        *_of_face(figures),
        *_of_sound(figures),
    ]
    return sorted(found, key=lambda finding: finding.level != "unfit")


def _of_sources(figures: dict[str, Any], sources: list[dict[str, Any]], fps: float, size: int) -> Iterator[Finding]:
    for source in sources:
        name = source["file"]
        for note in source.get("notes", []):
            yield Finding("warning", f"{name}: {note}", "use another recording, or cut that part out")
        if abs(source["frame_rate"] - fps) > 0.01 * fps:
            text = f"{name}: {source['frame_rate']:g} pictures a second were resampled to {fps:g}"
            yield Finding("warning", text, f"record at {fps:g} pictures a second, or at 50")
        if source["crop"][2] < 0.75 * size:
            text = f"{name}: the face is small, {source['crop'][2]} px were enlarged to {size}"
            yield Finding("warning", text, "film from nearer, or set a smaller ingest.size")
    if figures["seconds"] < LEAST_SECONDS:
        yield Finding(
            "unfit", f"only {figures['seconds']:g} s", f"{GOOD_SECONDS:g} s or more are needed for a good head"
        )
    elif figures["seconds"] < GOOD_SECONDS:
        text = f"only {figures['seconds']:g} s: {GOOD_SECONDS:g} s or more give a far better head"
        yield Finding("warning", text, "use a longer recording, or several")
    if figures.get("uneven_share", 0) > UNEVEN:
        text = f"the frame rate varies: {100 * figures['uneven_share']:.0f} % of the pictures come early or late"
        yield Finding("warning", text, "record with a constant frame rate; phones offer it in their settings")
    if figures.get("repeated_share", 0) > REPEATED:
        text = f"{100 * figures['repeated_share']:.0f} % of the pictures repeat the one before"
        yield Finding("warning", text, "use the original recording instead of one that was converted to more pictures")


def _of_pictures(figures: dict[str, Any], joins: int) -> Iterator[Finding]:
    if figures.get("brightness", 0.5) < DARK:
        yield Finding("warning", f"dark: mean brightness {figures['brightness']:.2f} of 1", "use more light")
    if figures.get("brightness", 0.5) > BRIGHT:
        text = f"overexposed: mean brightness {figures['brightness']:.2f} of 1"
        yield Finding("warning", text, "use less light or a shorter exposure")
    if figures.get("sharpness", BLURRED) < BLURRED:
        text = f"blurred: sharpness {figures['sharpness']:.0f}, good footage has 50 or more"
        yield Finding("warning", text, "focus on the eyes, clean the lens, compress less")
    minutes = figures["seconds"] / 60
    cuts = figures.get("cuts", 0) - joins  # where one recording follows another is no cut within one
    if cuts > 2 and cuts > CUTS_PER_MINUTE * minutes:
        text = f"{cuts} cuts: every shot is tracked on its own"
        yield Finding("warning", text, "use one long shot, or the longest ones as sources of their own")


def _of_face(figures: dict[str, Any]) -> Iterator[Finding]:
    share = figures.get("face_share")
    if share is None:
        return
    if figures.get("second_face_share", 0) > SECOND_FACE:
        text = f"two faces in {100 * figures['second_face_share']:.0f} % of the pictures"
        yield Finding("unfit", text, "use a recording of one person, or cut the picture so that only one is seen")
    if share == 0:
        yield Finding("unfit", "no face is found", "use a recording of one face that looks roughly to the camera")
        return
    if share < FOUND:
        text = f"a face in only {100 * share:.0f} % of the pictures, the longest gap {figures['longest_gap_s']:g} s"
        yield Finding("unfit", text, "cut those parts out, or lower landmarks.min_found")
    elif figures["longest_gap_s"] > LONG_GAP_S:
        text = f"no face for {figures['longest_gap_s']:g} s at a stretch, in {100 * (1 - share):.0f} % of the pictures"
        yield Finding("warning", text, "cut those parts out")
    if figures["eye_distance_px"] < TINY_FACE_PX:
        text = f"the face is tiny: {figures['eye_distance_px']:g} px between the eyes"
        yield Finding("unfit", text, "film from nearer")
    elif figures["eye_distance_px"] < SMALL_FACE_PX:
        text = f"the face is small: {figures['eye_distance_px']:g} px between the eyes, 100 or more are good"
        yield Finding("warning", text, "film from nearer")
    low, high = figures["yaw_degrees"]
    if max(-low, high) > MOST_YAW:
        text = f"the head turns up to {max(-low, high):.0f} degrees to the side"
        yield Finding("warning", text, "use footage that looks to the camera; far sides come out blurred")
    low, high = figures["mouth_opening"]
    if high - low < LEAST_OPENING:
        text = f"the mouth hardly opens: by {100 * (high - low):.1f} % of the eye distance"
        yield Finding("warning", text, "use footage of somebody who speaks clearly")
    if figures.get("blinks_per_minute", FEW_BLINKS) < FEW_BLINKS and figures["seconds"] > 20:
        text = f"{figures['blinks_per_minute']:g} blinks a minute: the head will hardly learn to blink"
        yield Finding("warning", text, "use a longer recording")
    if figures["judder_period"]:
        text = (
            f"motion stutters every {figures['judder_period']} frames, as after a conversion of the frame rate; lips "
            "and sound cannot agree better than that"
        )
        yield Finding("warning", text, "use the original recording")
    lag = figures.get("sound_lag")
    if lag and lag["sure"] and abs(lag["frames"]) >= LATE_FRAMES:
        side = "after" if lag["frames"] > 0 else "before"
        late = counted(abs(lag["frames"]), "frame")
        text = f"the sound comes {late} ({abs(lag['milliseconds'])} ms) {side} the picture"
        shift = -lag["milliseconds"] / 1000
        fix = f"shift it: ffmpeg -i IN -itsoffset {shift:g} -i IN -map 0:v -map 1:a -c copy OUT"
        yield Finding("warning", text, fix)


def _of_sound(figures: dict[str, Any]) -> Iterator[Finding]:
    if "loudness_dbfs" not in figures:
        if figures.get("sound"):
            return  # there is some, and whoever could not read it has said why
        yield Finding("unfit", "there is no sound in it", "use a recording with sound: lips are learnt from it")
        return
    if figures["loudness_dbfs"] < SILENT_DBFS:
        yield Finding("unfit", "the sound is silent", "use a recording in which the voice is heard")
        return
    if figures["loudness_dbfs"] < QUIET_DBFS:
        text = f"very quiet: the speech has {figures['loudness_dbfs']:.0f} dBFS"
        yield Finding("warning", text, "raise the level of the microphone; -20 dBFS is good")
    if figures["clipped_share"] > CLIPPED_SHARE:
        text = f"the sound is overdriven: {100 * figures['clipped_share']:.1f} % of its samples are clipped"
        yield Finding("warning", text, "lower the level of the microphone")
    if figures["silence_share"] > SILENT_SHARE:
        text = f"{100 * figures['silence_share']:.0f} % of the sound is silence"
        yield Finding("warning", text, "cut long pauses out")
    if figures["silent_start_s"] > 0.5:
        text = f"the first {figures['silent_start_s']:g} s have no sound, or a wholly silent one"
        yield Finding("warning", text, "cut the beginning off")
    if figures["silent_end_s"] > 0.5:
        text = f"the last {figures['silent_end_s']:g} s have no sound, or a wholly silent one"
        yield Finding("warning", text, "cut the end off")


def told(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures in words, for a table."""
    rows: list[tuple[str, str]] = []

    def add(name: str, key: str, write: Callable[[Any], str]) -> None:
        if figures.get(key) not in (None, ""):
            rows.append((name, write(figures[key])))

    def share(value: float) -> str:
        return f"{100 * value:.1f} %"

    add("length", "seconds", lambda v: f"{v:g} s")
    add("picture", "size", lambda v: f"{v[0]} x {v[1]}, {figures.get('codec', '')}")
    uneven = figures.get("uneven_share")
    varies = f", varying in {share(uneven)} of the pictures" if uneven is not None and uneven > UNEVEN else ", constant"
    add("pictures a second", "frame_rate", lambda v: f"{v:g}{'' if uneven is None else varies}")
    add("repeated pictures", "repeated_share", share)
    add("damaged pictures", "damaged_pictures", str)
    add("square that is used", "crop", lambda v: f"{v[2]} px, from {v[0]}, {v[1]}")
    add("face found in", "face_share", lambda v: f"{share(v)} of the pictures")
    add("searched for a face", "watched_s", lambda v: f"{v:g} s")
    add(
        "gaps",
        "gaps_s",
        lambda v: ", ".join(f"{a:g}-{b:g} s" for a, b in v[:8]) + (" ..." if len(v) > 8 else "") or "none",
    )
    add("second face in", "second_face_share", lambda v: f"{share(v)} of the pictures")
    add("between the eyes", "eye_distance_px", lambda v: f"{v:g} px")
    add("head turn", "yaw_degrees", lambda v: f"{v[0]:g} to {v[1]:g} degrees, to its left positive")
    add("mouth opening", "mouth_opening", lambda v: f"{100 * v[0]:.1f} to {100 * v[1]:.1f} % of the eye distance")
    add("blinks", "blinks_per_minute", lambda v: f"{v:g} a minute")
    add("stutter", "judder_period", lambda v: f"every {v} frames" if v else "none")
    add("sound after picture", "sound_lag", _lag_in_words)
    add("brightness", "brightness", lambda v: f"{v:.2f} of 1")
    add("sharpness", "sharpness", lambda v: f"{v:g}, good footage has 50 or more")
    add("cuts", "cuts_s", lambda v: ", ".join(f"{s:g} s" for s in v[:12]) + (" ..." if len(v) > 12 else "") or "none")
    add("sound", "sound", str)
    add("loudness", "loudness_dbfs", lambda v: f"{v:g} dBFS")
    add("silence", "silence_share", share)
    add("clipped", "clipped_share", share)
    return rows


def _lag_in_words(lag: dict[str, Any]) -> str:
    if not lag["sure"]:
        return f"unsure: {lag['why']}"
    low, high = (f"{lag[end]:.0f}" for end in ("low", "high"))
    span = "" if low == high else f", between {low} and {high}"
    return f"{counted(lag['frames'], 'frame')} ({lag['milliseconds']} ms){span}"
