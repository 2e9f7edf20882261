"""Speech features of a speaker's own sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.records import TRAIN, AudioFeatures, Clip
from tasks.people import mark_of
from tasks.speech_features import AudioParams, extract
from tasks.stage import Context, Stage, main

WIDTH = 1760  # pixels of the preview
EXCERPT_S = 4.0

STAGE = Stage(
    name="audio",
    per=("speaker", "extractor"),
    params=AudioParams,
    reads=("ingest",),
    gives=AudioFeatures,
    preview=True,
)


def run(context: Context[AudioParams]) -> AudioFeatures:
    """Compute the features; see `tasks.speech_features.extract` for errors."""
    clip = context.read(Clip, "ingest")
    # Lips are learnt from these frames, so what other frames sound like must not scale what they hear.
    learnt_from = clip.indices(TRAIN)
    name = str(context.keys.extractor)
    features = extract(
        clip.sound, clip.sample_rate, len(clip), name, context.params, context.places, learnt_from=learnt_from
    )
    _preview(clip, features, context.preview, mark_of(context.speaker().basis))
    return features


def _preview(clip: Clip, features: AudioFeatures, folder: Path, mark: str) -> None:
    """Show sound above features: the whole clip, then a few seconds of its middle."""
    from tasks.pictures import save_strip
    from tasks.waveform import waveform

    count = min(len(clip), round(EXCERPT_S * clip.fps))
    start = (len(clip) - count) // 2
    tiles, captions = [], []
    for first, last in ((0, len(clip)), (start, start + count)):
        begin, end = (round(t / clip.fps * clip.sample_rate) for t in (first, last))
        tiles += [waveform(clip.sound[begin:end], WIDTH, 120), feature_picture(features.values[first:last], WIDTH)]
        captions += [f"sound, {first / clip.fps:.1f} to {last / clip.fps:.1f} s", f"{features.extractor}, middle entry"]
    save_strip(folder / "strip.jpg", tiles, mark, captions, columns=1)


def feature_picture(values: np.ndarray, width: int, height: int = 240) -> np.ndarray:
    """Return the middle entries of windows `[T, D, W]` as a picture `[height, width, 3]` uint8, time to the right."""
    import cv2

    middle = values[:, :, values.shape[2] // 2].T[::-1]  # [D, T], low bands at the bottom
    low, high = np.percentile(middle, [1, 99])
    grey = np.clip((middle - low) / max(float(high - low), 1e-6) * 255, 0, 255).astype(np.uint8)
    shrinks = grey.shape[1] > width
    resized = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    return cv2.applyColorMap(resized, cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()


if __name__ == "__main__":
    main(STAGE, run)
