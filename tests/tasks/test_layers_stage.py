"""Layers of a speaker who was recorded in two rooms."""

from pathlib import Path

import numpy as np
from saved_clip import save_clip

from models.parsing import labels as L
from models.records import Layers, Masks, store_path
from models.storage import FrameStore
from tasks import layers
from tasks.places import Keys, Places
from tasks.stage import execute

SIZE, EACH = 64, 12
KEYS = Keys(speaker="ada")
ROOMS = np.array([(90, 120, 160), (90, 120, 160), (200, 180, 60)], np.uint8)  # of each source


def scene(t: int) -> tuple[np.ndarray, np.ndarray]:
    """A head that sways on shoulders before the wall of its source's room."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    x = 32 + 6 * np.sin(t)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[(rows > 50) & (np.abs(columns - x) < 24)] = L.CLOTH
    labels[(rows > 36) & (rows <= 50) & (np.abs(columns - x) < 7)] = L.NECK
    labels[(rows - 26) ** 2 + (columns - x) ** 2 < 14**2] = L.SKIN
    frame = np.broadcast_to(ROOMS[t // EACH], (SIZE, SIZE, 3)).copy()
    frame[labels == L.CLOTH], frame[labels == L.NECK] = (30, 60, 120), (180, 120, 100)
    frame[labels == L.SKIN] = (210, 160, 130)
    return frame, labels


def test_every_room_has_its_own_plate_and_lost_frames_have_none(tmp_path: Path) -> None:
    places, count = Places(tmp_path), 3 * EACH
    scenes = [scene(t) for t in range(count)]
    scenes[5] = (np.full((SIZE, SIZE, 3), 128, np.uint8), np.zeros((SIZE, SIZE), np.uint8))
    valid = np.arange(count) != 5
    folder = places.record("ingest", KEYS)
    cuts = np.array([EACH, 2 * EACH], np.int32)
    sources = [{"file": f"{k}.mp4", "first_frame": k * EACH} for k in range(3)]
    save_clip(folder, [frame for frame, _ in scenes], cuts=cuts, intact=valid, sources=sources)
    folder = places.record("parse", KEYS)
    store = FrameStore.create(store_path(folder, "labels"), [labels for _, labels in scenes], (SIZE, SIZE))
    Masks("drawn", store, valid).save(folder)

    made = Layers.load(execute(layers.STAGE, layers.run, KEYS, places, layers.LayersParams()))
    assert made.quality["rooms"] == len(made.plates) == 2
    assert made.plate_of.tolist() == [0] * 2 * EACH + [1] * EACH
    for t in (0, EACH + 3, 2 * EACH + 4):
        behind = np.round(made.behind(t) * 255)
        assert np.abs(behind[26, 26:38] - ROOMS[t // EACH]).max() <= 1  # behind the head, where no frame is grey


def test_every_room_is_shown_however_short_its_recording() -> None:
    valid, room_of = np.ones(100, bool), np.zeros(100, int)
    valid[70:], room_of[40:43], valid[40] = False, 1, False
    shown = layers.frames_to_show(valid, room_of).tolist()
    assert 41 in shown
    assert shown[0] == 0
    assert shown[-1] == 69
    assert len(shown) == 8
    assert len(layers.frames_to_show(valid, np.zeros(100, int))) == 7
