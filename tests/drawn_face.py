"""A drawn face whose landmarks are known: what tests measure landmarks and renderings on."""

from __future__ import annotations

import cv2
import numpy as np

from models.metrics.lips import LIP_POINTS

SIZE = 96
FRAMES = 130
# Lid, corner and nose points at rest, relative to the point between the eyes, in pixels.
FIXED = {
    33: (-20, 0),
    133: (-8, 0),
    362: (8, 0),
    263: (20, 0),
    1: (0, 16),
    2: (0, 20),
    168: (0, -2),
    98: (-6, 18),
    327: (6, 18),
}
EYES = ((-14, 159, 145), (14, 386, 374))
MOUTH = (0, 32)


def motion(count: int = FRAMES, seed: int = 0) -> dict[str, np.ndarray]:
    """Return smooth head places `[n, 2]`, tilts, mouth openings and lid openings."""
    random = np.random.default_rng(seed)
    t = np.arange(count)

    def wave(periods: tuple[float, ...]) -> np.ndarray:
        return sum(np.sin(2 * np.pi * (t / p + random.uniform())) for p in periods) / len(periods)

    mouth = np.clip(3.5 + 5.5 * wave((9.3, 17.1, 6.1)), 0, None)
    lids = np.where((t % 31) < 3, 0.4, 4.5 + 0.5 * wave((23.0,)))
    place = np.stack([48 + 3 * wave((40.0, 27.0)), 38 + 2 * wave((51.0, 33.0))], 1)
    return {"place": place, "tilt": 0.06 * wave((60.0, 37.0)), "mouth": mouth, "lids": lids}


def draw(place: np.ndarray, tilt: float, mouth: float, lids: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a frame `[96, 96, 3]` uint8 and its points `[478, 2]` (NaN where the drawing has none)."""
    big, scale = SIZE * 4, 4.0
    rotation = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])

    def at(x: float, y: float) -> np.ndarray:
        return rotation @ [x, y] + place

    def oval(picture: np.ndarray, x: float, y: float, rx: float, ry: float, colour: tuple[int, int, int]) -> None:
        cx, cy = at(x, y) * scale
        axes = (max(1, round(rx * scale)), max(1, round(ry * scale)))
        cv2.ellipse(picture, (round(cx), round(cy)), axes, float(np.degrees(tilt)), 0, 360, colour, -1)

    picture = np.zeros((big, big, 3), np.uint8)
    picture[:] = (120, 130, 150)
    picture[: big // 3, : big // 4] = (160, 150, 120)
    oval(picture, 0, 12, 31, 42, (225, 175, 150))
    oval(picture, 0, 17, 5, 5, (200, 140, 120))
    for x, _, _ in EYES:
        oval(picture, x, -9, 8, 1.5, (90, 60, 40))
        oval(picture, x, 0, 6, lids / 2 + 0.3, (245, 245, 245))
        oval(picture, x, 0, 2.2, min(2.2, lids / 2), (60, 80, 120))
    oval(picture, *MOUTH, 12, mouth / 2 + 3, (200, 70, 80))
    oval(picture, *MOUTH, 9, mouth / 2, (60, 20, 25))
    points = np.full((478, 2), np.nan, np.float32)
    for number, (x, y) in FIXED.items():
        points[number] = at(x, y)
    for x, upper, lower in EYES:
        points[upper], points[lower] = at(x, -lids / 2), at(x, lids / 2)
    for half, (first, count, inner) in enumerate(((0, 20, False), (20, 20, True))):
        del half
        for k in range(count):
            angle = np.pi + 2 * np.pi * k / count
            rx, ry = (9, mouth / 2) if inner else (12, mouth / 2 + 3)
            points[LIP_POINTS[first + k]] = at(MOUTH[0] + rx * np.cos(angle), MOUTH[1] + ry * np.sin(angle))
    points[13], points[14] = at(MOUTH[0], MOUTH[1] - mouth / 2), at(MOUTH[0], MOUTH[1] + mouth / 2)
    frame = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return frame, points


def clip(count: int = FRAMES, seed: int = 0, mouth: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return frames `[n, 96, 96, 3]` and points `[n, 478, 2]`; `mouth` replaces the openings."""
    moves = motion(count, seed)
    openings = moves["mouth"] if mouth is None else mouth
    drawn = [draw(moves["place"][t], moves["tilt"][t], openings[t], moves["lids"][t]) for t in range(count)]
    return np.stack([frame for frame, _ in drawn]), np.stack([points for _, points in drawn])
