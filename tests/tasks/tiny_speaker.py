"""The records of a very small speaker, trained in seconds: a coloured egg whose mouth follows the sound."""

from pathlib import Path

import cv2
import numpy as np
from saved_clip import save_clip

from models.audio.align import scale_of
from models.heads.mediapipe_points import CURVES, OVAL
from models.records import (
    TEST,
    VALIDATION,
    ActionUnits,
    AudioFeatures,
    HeadTrack,
    Landmarks,
    Layers,
    Masks,
    store_path,
)
from models.storage import FrameStore
from tasks.places import Keys, Places

FRAMES, SIZE, FOCAL, DEPTH = 44, 48, 130.0, 0.6
KEYS = Keys(speaker="egg", extractor="logmel")
UNITS = ["AU01", "AU04", "AU05", "AU06", "AU07", "AU45", "AU02"]


def rest_face() -> np.ndarray:
    """478 landmarks on the front of an ellipsoid; lips and oval where they belong."""
    random = np.random.default_rng(0)
    places = random.uniform(-1, 1, (478, 2)) * [0.05, 0.06]
    middle = np.abs(places[:, 0]) < 0.035
    places[middle, 1] = np.abs(places[middle, 1])  # none near the lips but the lips themselves
    angles = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    places[list(OVAL)] = np.stack([0.065 * np.sin(angles), 0.08 * np.cos(angles)], 1)
    for name, curve in CURVES.items():
        along = np.linspace(-1, 1, len(curve))
        if name.startswith("lip"):
            height = (0.012 if "outer" in name else 0.004) * (1 - along**2) * (1 if "upper" in name else -1)
            places[list(curve)] = np.stack([0.03 * along, -0.035 + height], 1)
        else:
            side = -1 if "right" in name else 1
            height = 0.006 * (1 - along**2) * (1 if "upper" in name else -1)
            places[list(curve)] = np.stack([side * (0.03 + 0.012 * along), 0.02 + height], 1)
    inside = np.clip(1 - (places[:, 0] / 0.08) ** 2 - (places[:, 1] / 0.1) ** 2, 0.02, None)
    return np.concatenate([places, 0.07 * np.sqrt(inside)[:, None]], 1).astype(np.float32)


def make_speaker(root: Path) -> Places:
    """Write what the stages up to `audio` would give, and the files that the project has."""
    random = np.random.default_rng(1)
    rest, places = rest_face(), Places(root)
    jaw = np.interp(np.arange(FRAMES), np.arange(0, FRAMES, 4), random.uniform(0, 1, len(range(0, FRAMES, 4))))
    lower = [i for name, curve in CURVES.items() if "lower" in name and name.startswith("lip") for i in curve[1:-1]]
    poses = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (FRAMES, 1, 1)).astype(np.float32)
    poses[:, 0, 3] = 0.01 * np.sin(np.arange(FRAMES) / 6)
    poses[:, 2, 3] = DEPTH
    intrinsics = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]], np.float32)

    frames, maps, points = [], [], np.empty((FRAMES, 478, 2), np.float32)
    for t in range(FRAMES):
        moved = rest.copy()
        moved[lower, 1] -= 0.018 * jaw[t]
        pixels = (moved @ poses[t, :3, :3].T + poses[t, :3, 3]) @ intrinsics.T
        points[t] = pixels[:, :2] / pixels[:, 2:]
        frame, labels = paint(points[t])
        frames.append(frame)
        maps.append(labels)
    split = np.zeros(FRAMES, np.int8)
    split[32:34], split[34:] = VALIDATION, TEST
    valid = np.ones(FRAMES, bool)
    sound = (np.repeat(jaw, 640) * random.normal(0, 4000, FRAMES * 640)).astype(np.int16)
    values = np.tile(jaw[:, None, None], (1, 6, 16)) + random.normal(0, 0.05, (FRAMES, 6, 16))
    torso = np.zeros((SIZE, SIZE, 4), np.uint8)
    torso[40:] = [40, 60, 90, 255]

    def save(stage: str, make) -> None:
        folder = places.record(stage, KEYS if stage == "audio" else Keys(speaker="egg"))
        folder.mkdir(parents=True)
        make(folder).save(folder)

    def store(folder: Path, name: str, images: list, shape: tuple) -> FrameStore:
        return FrameStore.create(store_path(folder, name), images, shape)

    picture = (SIZE, SIZE)
    cuts = np.array([20], np.int32)
    save_clip(places.record("ingest", Keys("egg")), frames, speaker="egg", sound=sound, cuts=cuts, split=split)
    save("landmarks", lambda f: Landmarks("tiny", points, np.ones(478, bool), valid, np.zeros((FRAMES, 0), np.float32)))
    save("parse", lambda f: Masks("tiny", store(f, "labels", maps, picture), valid))
    save("layers", lambda f: Layers(store(f, "torso", [torso] * FRAMES, (*picture, 4)), frames[0][None] * 0 + 200,
                                  np.zeros(FRAMES, np.int32)))  # fmt: skip
    save("track", lambda f: HeadTrack("tiny", SIZE, SIZE, intrinsics, poses, valid, np.zeros(1, np.float32),
                                      np.zeros((FRAMES, 1), np.float32), np.zeros((FRAMES, 0, 3), np.float32),
                                      np.arange(478, dtype=np.int32), rest,
                                      np.zeros(FRAMES, np.float32), cuts=[20]))  # fmt: skip
    intensity = np.concatenate([random.uniform(0, 2, (FRAMES, 6)), random.uniform(0, 2, (FRAMES, 1))], 1)
    intensity = intensity.astype(np.float32)
    save(
        "action_units",
        lambda f: ActionUnits("tiny", intensity, np.zeros((FRAMES, 4), np.float32), np.ones(FRAMES, bool), UNITS),
    )
    save(
        "audio", lambda f: AudioFeatures("logmel", "1", 25.0, values.astype(np.float32), *scale_of(values), FRAMES / 25)
    )
    places.speaker_record("egg").parent.mkdir(parents=True, exist_ok=True)
    places.speaker_record("egg").write_text("name: egg\nbasis: synthetic\nsources: [egg.mp4]\n")
    places.params.write_text("render: {}\naudio: {}\n")
    return places


def paint(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw the egg that has these landmarks, and its labels."""

    def polygon(ring: list[int] | tuple[int, ...]) -> np.ndarray:
        large = cv2.fillPoly(
            np.zeros((SIZE * 4, SIZE * 4), np.uint8), [np.round(points[list(ring)] * 4).astype(int)], 255
        )
        return cv2.resize(large, (SIZE, SIZE), interpolation=cv2.INTER_AREA)[..., None] / 255.0

    inner = [*CURVES["lip_inner_upper"], *CURVES["lip_inner_lower"][::-1]]
    outer = [*CURVES["lip_outer_upper"], *CURVES["lip_outer_lower"][::-1]]
    frame = np.full((SIZE, SIZE, 3), 200.0)
    frame[40:] = [40, 60, 90]
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[40:] = 10
    for ring, color, label in ((OVAL, (210, 160, 130), 1), (outer, (180, 70, 80), 5), (inner, (60, 20, 20), 7)):
        share = polygon(ring)
        frame = frame * (1 - share) + np.array(color) * share
        labels[share[..., 0] > 0.5] = label
    return frame.round().astype(np.uint8), labels
