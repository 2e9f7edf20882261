"""What a person should know about footage before a head is trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

GOOD_SECONDS = 45.0
DARK, BRIGHT = 0.18, 0.8
BLURRED = 12.0  # variance of the Laplacian of grey levels at the clip's size; sharp talking heads have 50 to 1000
QUIET_DBFS, CLIPPED_SHARE = -36.0, 1e-3
SILENT_SHARE = 0.6
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
        "brightness": round(float(np.mean(pictures.brightness)), 3),
        "sharpness": round(float(np.median(pictures.sharpness)), 1),
        "cuts": len(cuts),
        "frame_rates": [source["frame_rate"] for source in sources],
        **sound_statistics(sound, sample_rate),
    }
    result["verdicts"] = _verdicts(result, sources, fps, size)
    return result


def _verdicts(figures: dict[str, Any], sources: list[dict[str, Any]], fps: float, size: int) -> list[str]:
    found: list[str] = [f"{source['file']}: {note}" for source in sources for note in source["notes"]]
    for source in sources:
        if abs(source["frame_rate"] - fps) > 0.01 * fps:
            found.append(f"{source['file']}: {source['frame_rate']:g} pictures a second were resampled to {fps:g}")
        if source["crop"][2] < 0.75 * size:
            found.append(f"{source['file']}: the face is small, {source['crop'][2]} px were enlarged to {size}")
    if figures["seconds"] < GOOD_SECONDS:
        found.append(f"only {figures['seconds']:g} s: {GOOD_SECONDS:g} s or more give a far better head")
    if figures["brightness"] < DARK:
        found.append(f"dark: mean brightness {figures['brightness']:.2f} of 1")
    if figures["brightness"] > BRIGHT:
        found.append(f"overexposed: mean brightness {figures['brightness']:.2f} of 1")
    if figures["sharpness"] < BLURRED:
        found.append(f"blurred: sharpness {figures['sharpness']:.0f}, good footage has 50 or more")
    if figures["loudness_dbfs"] < QUIET_DBFS:
        found.append(f"very quiet: the speech has {figures['loudness_dbfs']:.0f} dBFS")
    if figures["clipped_share"] > CLIPPED_SHARE:
        found.append(f"the sound is overdriven: {100 * figures['clipped_share']:.1f} % of its samples are clipped")
    if figures["silence_share"] > SILENT_SHARE:
        found.append(f"{100 * figures['silence_share']:.0f} % of the sound is silence")
    if figures["silent_start_s"] > 0.5:
        found.append(f"the sound begins {figures['silent_start_s']:g} s after the picture")
    if figures["silent_end_s"] > 0.5:
        found.append(f"the sound ends {figures['silent_end_s']:g} s before the picture")
    return found
