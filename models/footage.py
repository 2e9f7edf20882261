"""What landmarks and sound of a recording tell before anything is trained: head turn, mouth, blinks, and their lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.audio.logmel import log_mel
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, LIP_PAIRS

Array = np.ndarray

NOSE_TIP = 4
NOSE_DEPTH = 0.52  # of the eye distance: how far the tip of a nose lies before the line of the outer eye corners
MOST_LAG = 15  # frames
BANDS = 10  # of the sound, each the mean of 8 mel bands
SLOW_FRAMES = 12.0  # sigma; slower changes of mouth and loudness are no speech
PARTS = 4  # of the recording: each is foretold from the others
STRENGTH = 0.1  # of the ridge, per frame
BLOCK = 25  # frames drawn together
DRAWS = 200
LEAST_FRAMES = 150  # a shorter recording fits to many lags
LEAST_R = 0.2
SURE_WITHIN = 2  # frames
LEAST_BLINK = 0.3


def eye_distance(points: Array) -> Array:
    """Return the distance `[T]` of the outer eye corners of landmarks `[T, 478, 2]`."""
    return np.linalg.norm(points[:, EYE_OUTER_LEFT] - points[:, EYE_OUTER_RIGHT], axis=1)


def mouth_opening(points: Array) -> Array:
    """Return the gap between the lips `[T]` over the median eye distance of landmarks `[T, 478, 2]`; NaN stays NaN."""
    gaps = [np.linalg.norm(points[:, upper] - points[:, lower], axis=1) for upper, lower in LIP_PAIRS]
    gaps = [gap for gap in gaps if np.isfinite(gap).any()]
    distance = eye_distance(points)
    known = distance[np.isfinite(distance)]
    if not gaps or not len(known):
        return np.full(len(points), np.nan)
    return np.mean(gaps, axis=0) / max(float(np.median(known)), 1e-6)


def head_yaw(points: Array) -> Array:
    """Return how far the head is turned `[T]` in degrees, to the subject's left positive.

    The nose tip moves between the eyes by the tangent of the turn times its depth; good to a few degrees.
    """
    right, left = points[:, EYE_OUTER_RIGHT], points[:, EYE_OUTER_LEFT]
    across = left - right
    shift = np.einsum("tc,tc->t", points[:, NOSE_TIP] - (left + right) / 2, across) / (across**2).sum(axis=1)
    return np.degrees(np.arctan(shift / NOSE_DEPTH))


@dataclass(frozen=True)
class Lag:
    """By how many frames the sound comes after the picture.

    Attributes:
        frames: the best guess; negative when the sound is early.
        low: of the interval that holds 95 % of the guesses on redrawn stretches of the recording.
        high: of it.
        r: correlation of the mouth's opening with what the sound foretells of it, at that lag.
        sure: whether the interval is narrow and the correlation high enough to act on.
        why: it is not sure.
    """

    frames: int
    low: float
    high: float
    r: float
    sure: bool
    why: str = ""


def sound_lag(opening: Array, sound: Array) -> Lag:
    """Estimate the lag of the sound: at which shift does it foretell best how far the mouth is open?

    For every shift a ridge regression from the levels of ten bands of that one instant is learnt on three quarters of
    the frames and foretells the fourth, all four in turn. Lips open up to 0.1 s before their sound, so a lag of one
    or two frames is none.

    Args:
        opening: `[T]` at 25 frames a second, NaN where no face was seen or looked for.
        sound: int16 `[S]` at 16 kHz.
    """
    count = len(opening)
    seen = np.isfinite(opening)
    seen[: min(MOST_LAG, count)] = seen[max(0, count - MOST_LAG) :] = False
    frames = np.flatnonzero(seen)
    if len(frames) < LEAST_FRAMES:
        return Lag(0, -MOST_LAG, MOST_LAG, 0.0, False, f"only {len(frames) / 25:.1f} s of a face can be compared")
    target = _quick(np.nan_to_num(opening)[:, None], np.isfinite(opening))[:, 0]
    bands = _bands(sound, count)
    if target[frames].std() < 1e-6 or bands.std() < 1e-3:
        return Lag(0, -MOST_LAG, MOST_LAG, 0.0, False, "the mouth or the sound does not change")
    known = target[frames] / target[frames].std()
    shifts = np.arange(-MOST_LAG, MOST_LAG + 1)
    foretold = np.stack([_foretold(bands[frames + shift], known) for shift in shifts])
    r = _correlations(foretold, known)
    blocks = np.array_split(np.arange(len(frames)), max(3, len(frames) // BLOCK))
    random = np.random.default_rng(0)
    drawn: list[int] = []
    for _ in range(DRAWS):
        chosen = np.concatenate([blocks[k] for k in random.integers(0, len(blocks), len(blocks))])
        drawn.append(int(shifts[np.argmax(_correlations(foretold[:, chosen], known[chosen]))]))
    low, high = (float(value) for value in np.percentile(drawn, [2.5, 97.5]))
    best, strength = int(shifts[np.argmax(r)]), float(r.max())
    narrow = best - low <= SURE_WITHIN and high - best <= SURE_WITHIN
    why = "" if narrow else f"anything from {low:.0f} to {high:.0f} frames fits"
    if strength < LEAST_R:
        why = "the mouth hardly follows the sound at any shift"
    elif abs(best) == MOST_LAG:
        why = f"it may be more than {MOST_LAG} frames"
    return Lag(best, low, high, strength, not why, why)


def _bands(sound: Array, count: int) -> Array:
    """Return the changes of the sound's bands `[count, 10]` at the instants of frames, each of variance 1."""
    entries = log_mel(sound, -1, 2 * count + 1)
    levels = (entries[:-1:2] + entries[1::2])[:count] / 2  # the two entries around each frame
    levels = levels.reshape(count, BANDS, -1).mean(axis=2)
    levels = np.maximum(levels, np.percentile(levels, 95) - 40)
    quick = _quick(levels, np.ones(count, bool))
    return quick / (quick.std(axis=0) + 1e-6)


def _quick(curves: Array, known: Array) -> Array:
    """Return curves `[T, k]` without their slow changes; what is unknown does not count."""
    weight = gaussian_filter1d(known.astype(np.float64), SLOW_FRAMES, mode="constant")
    slow = gaussian_filter1d(curves * known[:, None], SLOW_FRAMES, axis=0, mode="constant")
    return np.where(known[:, None], curves - slow / np.maximum(weight, 1e-9)[:, None], 0.0)


def _foretold(bands: Array, known: Array) -> Array:
    """Foretell `known` `[n]` from `bands` `[n, k]`, each part of the frames from the others."""
    result = np.zeros(len(known))
    for part in np.array_split(np.arange(len(known)), PARTS):
        rest = np.ones(len(known), bool)
        rest[part] = False
        own = bands[rest]
        gram = own.T @ own + STRENGTH * len(own) * np.eye(bands.shape[1])
        result[part] = bands[part] @ np.linalg.solve(gram, own.T @ known[rest])
    return result


def _correlations(rows: Array, known: Array) -> Array:
    rows, known = rows - rows.mean(axis=1, keepdims=True), known - known.mean()
    return rows @ known / np.sqrt((rows**2).sum(axis=1) * (known**2).sum() + 1e-12)


def blinks(closed: Array) -> int:
    """Count how often the eyes close in a curve `[T]`, 0..1 but of any strength; looking down is no blink."""
    known = closed[np.isfinite(closed)]
    if not len(known):
        return 0
    rest, full = min(float(np.percentile(known, 30)), 0.4), float(np.percentile(known, 99.5))
    shut = (np.nan_to_num(closed) - rest) / max(full - rest, LEAST_BLINK) > 0.5
    return int(np.count_nonzero(shut[1:] & ~shut[:-1])) + int(shut[:1].any())


def spread(values: Array, percentiles: Sequence[float]) -> list[float]:
    """Return percentiles of the finite values, NaN if there is none."""
    known = values[np.isfinite(values)]
    return [float(v) for v in np.percentile(known, percentiles)] if len(known) else [float("nan")] * len(percentiles)
