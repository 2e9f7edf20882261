"""Strips, overlays and curves: what a person sees is where it should be."""

import cv2
import numpy as np
import pytest

from models.errors import UsageError
from models.heads.mediapipe_points import LID_PAIRS_LEFT, LID_PAIRS_RIGHT
from models.parsing import labels as L
from tasks.pictures import (
    draw_curves,
    draw_labels,
    draw_mesh,
    draw_points,
    enlarged,
    over_checkerboard,
    pair_gap,
    save_strip,
    telling_frames,
    with_caption,
    with_mark,
)

GREY = np.full((60, 80, 3), 128, np.uint8)


def read(path):
    return cv2.imread(str(path))[..., ::-1]


def test_strip_lays_tiles_out_in_rows_and_never_grows_too_wide(tmp_path):
    save_strip(tmp_path / "a" / "strip.jpg", [GREY] * 5, "", columns=4)
    picture = read(tmp_path / "a" / "strip.jpg")
    assert picture.shape == (2 * 60 + 6, 4 * 80 + 3 * 6, 3)
    save_strip(tmp_path / "wide.jpg", [np.zeros((100, 2400, 3), np.uint8)], "")
    assert read(tmp_path / "wide.jpg").shape == (75, 1800, 3)


def test_a_wide_tile_has_a_row_of_its_own(tmp_path):
    curve = np.full((40, 330, 3), 10, np.uint8)
    save_strip(tmp_path / "s.jpg", [GREY, GREY, curve], "", columns=4)
    picture = read(tmp_path / "s.jpg")
    assert picture.shape == (60 + 6 + 40, 330, 3)
    assert picture[-20, 165].max() < 40


def test_the_mark_is_below_the_tiles_and_nothing_is_written_without_one(tmp_path):
    save_strip(tmp_path / "marked.jpg", [GREY] * 2, "research - private")
    save_strip(tmp_path / "plain.jpg", [GREY] * 2, "")
    marked, plain = read(tmp_path / "marked.jpg"), read(tmp_path / "plain.jpg")
    assert np.abs(plain[:, :80].astype(int) - 128).max() < 6
    assert len(marked) > len(plain)
    assert np.abs(marked[:52, :80].astype(int) - 128).max() < 6
    assert marked[len(plain) :].min() < 80  # written, and dark around it
    assert np.array_equal(with_mark(GREY, ""), GREY)
    assert (GREY == 128).all()


@pytest.mark.parametrize("text", ["a", "a caption that is far too long for so small a tile"])
def test_captions_fit_their_tile(text):
    picture = with_caption(GREY, text)
    assert picture.shape == (78, 80, 3)
    assert np.array_equal(picture[18:], GREY)
    assert (picture[:18, -2:] == 255).all()
    assert (picture[:18] < 200).any()


@pytest.mark.parametrize("tile", [(128, 256), (256, 512), (500, 1000)])
def test_captions_and_mark_can_be_read_where_a_strip_is_shown_570_px_wide(tmp_path, tile):
    """A letter is at least 7 px high there: digits are, and so is the first capital of the mark."""
    grey = np.full((*tile, 3), 128, np.uint8)
    save_strip(tmp_path / "s.jpg", [grey] * 4, "PRIVATE", ["123"] * 4, columns=4)
    picture = read(tmp_path / "s.jpg").astype(int).min(2)
    shown = 570 / picture.shape[1]
    strip = np.flatnonzero((picture[:, : picture.shape[1] // 5] != 128).any(1) & (picture[:, 6] > 250))
    caption = picture[strip[0] : strip[strip < len(picture) // 2][-1] + 1, : picture.shape[1] // 5]
    dark = np.flatnonzero((caption < 110).any(1))
    assert (dark[-1] - dark[0] + 1) * shown >= 7
    below = picture[-40:, : picture.shape[1] // 8]
    bright = np.flatnonzero((below[:, 4:] < 100).any(1))
    assert (bright[-1] - bright[0] + 1) * shown >= 7


@pytest.mark.parametrize(
    ("tiles", "captions"),
    [([], None), ([GREY], ["a", "b"]), ([GREY[..., 0]], None), ([GREY.astype(np.float32)], None)],
)
def test_strip_refuses_what_is_not_a_picture(tmp_path, tiles, captions):
    with pytest.raises(UsageError):
        save_strip(tmp_path / "x.jpg", tiles, "", captions)


def test_points_are_drawn_at_their_pixel_and_absent_ones_left_out():
    points = np.array([[20.5, 30.5], [np.nan, 3.0]])
    drawn = draw_points(GREY, points, (255, 0, 0), 1)
    changed = np.argwhere((drawn != GREY).any(2))
    assert changed.mean(0) == pytest.approx([30, 20], abs=0.5)
    assert len(changed) <= 25


def test_mesh_shows_only_triangles_that_face_the_camera():
    # counter-clockwise seen from outside; in image axes (y down) that turns clockwise
    vertices = np.array([[10, 50], [50, 50], [30, 10]], np.float64)
    towards = draw_mesh(GREY, vertices, np.array([[0, 1, 2]]), (255, 0, 0), 1.0)
    away = draw_mesh(GREY, vertices, np.array([[0, 2, 1]]), (255, 0, 0), 1.0)
    assert (towards != GREY).any()
    assert np.array_equal(away, GREY)


def test_labels_colour_the_person_and_leave_the_room():
    labels = np.zeros((60, 80), np.uint8)
    labels[:, :40] = L.CLOTH
    drawn = draw_labels(GREY, labels, 1.0)
    assert np.array_equal(drawn[:, 40:], GREY[:, 40:])
    assert (drawn[:, :40] == L.COLOURS[L.CLOTH]).all()


def test_checkerboard_shows_through_where_alpha_is_zero():
    layer = np.zeros((32, 32, 4), np.uint8)
    layer[:, :16] = (10, 20, 30, 255)
    picture = over_checkerboard(layer)
    assert (picture[:, :16] == (10, 20, 30)).all()
    assert set(np.unique(picture[:, 16:])) == {150, 200}


def test_curves_rise_to_the_right_and_break_at_nan():
    rising = draw_curves({"a": np.linspace(0, 1, 50)}, 400, 120)
    area = rising[22:110, 50:390].astype(int)
    blue = np.argwhere(area[..., 2] - area[..., 0] > 60)
    left, right = blue[blue[:, 1] < 60], blue[blue[:, 1] > 280]
    assert left[:, 0].mean() > right[:, 0].mean() + 30
    gap = np.linspace(0, 1, 50)
    gap[20:30] = np.nan
    broken = draw_curves({"a": gap}, 400, 120)
    middle = broken[30:110, 46 + 185 : 46 + 188]
    assert (middle == 255).all()
    assert draw_curves({"none": np.full(5, np.nan)}).shape == (160, 1200, 3)


def face_clip(count=60):
    rng = np.random.default_rng(3)
    points = np.tile(rng.uniform(20, 60, (1, 478, 2)), (count, 1, 1)).astype(np.float32)
    points[:, 33], points[:, 263], points[:, 4] = (20, 30), (60, 30), (40, 45)
    for upper, lower in LID_PAIRS_RIGHT + LID_PAIRS_LEFT:
        points[:, upper], points[:, lower] = (30, 28), (30, 33)
    return points


def test_telling_frames_show_the_extremes_and_spread_over_the_clip():
    points = face_clip()
    points[41, 14] = points[41, 13] + (0, 40)
    for upper, lower in LID_PAIRS_RIGHT + LID_PAIRS_LEFT:
        points[7, lower] = points[7, upper]
    points[22, 4, 0] += 15
    shown = dict(telling_frames(points, np.ones(60, bool), 8))
    assert "mouth open" in shown[41]
    assert "eyes closed" in shown[7]
    assert "turned left" in shown[22]
    assert len(shown) == 8
    assert max(shown) > 45


def test_telling_frames_without_any_face_are_spread():
    shown = telling_frames(np.full((30, 478, 2), np.nan, np.float32), np.zeros(30, bool), 4)
    assert [t for t, _ in shown] == [0, 9, 19, 29]


def test_pair_gap_leaves_absent_pairs_out():
    points = np.full((2, 478, 2), np.nan)
    points[:, 13], points[:, 14] = (0, 0), (0, 4)
    assert pair_gap(points, ((13, 14), (82, 87))) == pytest.approx([4, 4])
    assert np.isnan(pair_gap(points, ((82, 87),))).all()


def test_enlarging_keeps_pixels_square():
    assert np.array_equal(enlarged(np.array([[[1, 2, 3]]], np.uint8), 3), np.full((3, 3, 3), (1, 2, 3)))
