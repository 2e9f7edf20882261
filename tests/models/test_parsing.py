"""The parser on a drawn person whose parts are known, and its pieces against plain references."""

import cv2
import numpy as np
import pytest

from models.errors import UsageError
from models.heads.mediapipe_points import BROW_RINGS, EYE_RINGS, LIP_RING_INNER, LIP_RING_OUTER, OVAL
from models.parsing import labels as L
from models.parsing.geometry import FaceFrame, coverage, face_oval, polygon
from models.parsing.mouth import MouthColours, inside_mouth, learn_mouth
from models.parsing.regions import choose_frames, label_frame, learn, without_flicker
from models.parsing.segmentation import ColourSegmenter, HairSegmenter, steady

SIZE = 160
COLOURS = {
    L.BACKGROUND: (120, 150, 170),
    L.SKIN: (225, 170, 140),
    L.HAIR: (70, 45, 30),
    L.NECK: (200, 145, 118),
    L.CLOTH: (40, 70, 140),
    L.LIPS: (190, 80, 80),
    L.TEETH: (235, 230, 220),
    L.MOUTH: (60, 15, 20),
    L.EYES: (90, 90, 100),
    L.BROWS: (80, 50, 35),
}


def ellipse(count, centre, radii, start=-np.pi / 2):
    angle = start + 2 * np.pi * np.arange(count) / count
    return np.array(centre) + np.stack([np.cos(angle), np.sin(angle)], 1) * np.array(radii)


def face_points(x=80.0, y=70.0, opening=5.0):
    """Landmarks of a drawn face around (x, y); the subject's right is on the left of the picture."""
    points = np.full((478, 2), np.nan, np.float32)
    points[list(OVAL)] = ellipse(len(OVAL), (x, y), (28, 36))
    for ring, side in zip(EYE_RINGS, (-1, 1), strict=True):
        points[list(ring)] = ellipse(len(ring), (x + 12 * side, y - 6), (6, 3), start=np.pi if side < 0 else 0)
    for ring, side in zip(BROW_RINGS, (-1, 1), strict=True):
        points[list(ring)] = ellipse(len(ring), (x + 12 * side, y - 15), (8, 2))
    points[list(LIP_RING_OUTER)] = ellipse(len(LIP_RING_OUTER), (x, y + 18), (11, 4 + opening), start=np.pi)
    points[list(LIP_RING_INNER)] = ellipse(len(LIP_RING_INNER), (x, y + 18), (8, opening), start=np.pi)
    return points


def drawing(x=80.0, y=70.0, opening=5.0, seed=0):
    """A frame, its true labels and its landmarks."""
    points = face_points(x, y, opening)
    true = np.zeros((SIZE, SIZE), np.uint8)
    rows = np.arange(SIZE)[:, None] + 0.5
    columns = np.arange(SIZE)[None] + 0.5

    def inside(cx, cy, rx, ry):
        return ((columns - cx) / rx) ** 2 + ((rows - cy) / ry) ** 2 < 1

    true[(rows > 128) & (np.abs(columns - x) < 62)] = L.CLOTH
    true[(rows > 90) & (rows < 136) & (np.abs(columns - x) < 16)] = L.NECK
    true[inside(x, y - 12, 34, 38) & (rows < y + 2)] = L.HAIR
    true[inside(x, y, 28, 36) & (rows > y - 26)] = L.SKIN
    for ring in BROW_RINGS:
        true[polygon(points, ring, SIZE, SIZE)] = L.BROWS
    for ring in EYE_RINGS:
        true[polygon(points, ring, SIZE, SIZE)] = L.EYES
    true[polygon(points, LIP_RING_OUTER, SIZE, SIZE)] = L.LIPS
    hole = polygon(points, LIP_RING_INNER, SIZE, SIZE)
    true[hole] = L.MOUTH
    true[hole & (rows < y + 18 - opening / 3)] = L.TEETH
    frame = np.zeros((SIZE, SIZE, 3), np.float32)
    for label, colour in COLOURS.items():
        frame[true == label] = colour
    frame += np.random.default_rng(seed).normal(0, 4, frame.shape)
    return np.clip(cv2.GaussianBlur(frame, (3, 3), 0.6), 0, 255).astype(np.uint8), true, points


@pytest.fixture(scope="module")
def clip():
    return [drawing(80 + 2 * np.sin(t), 70 + np.cos(t), 2 + 3 * (t % 3), seed=t) for t in range(9)]


@pytest.fixture(scope="module")
def found(clip):
    frames, points = [c[0] for c in clip], [c[2] for c in clip]
    segmenter = ColourSegmenter(frames[:4], points[:4])
    people = [segmenter.probability(f, p) for f, p in zip(frames, points, strict=True)]
    appearance = learn(frames, people, points, learn_mouth(frames, points))
    return [label_frame(f, w, p, appearance) for f, w, p in zip(frames, people, points, strict=True)]


@pytest.mark.parametrize(
    ("group", "least"),
    [
        (tuple(range(1, 12)), 0.97),
        (L.HEAD, 0.94),
        (L.TORSO, 0.93),
        ((L.HAIR,), 0.85),
        ((L.CLOTH,), 0.95),
        ((L.EYES,), 0.95),
        ((L.LIPS,), 0.95),
        (L.INSIDE_MOUTH, 0.95),
        ((L.TEETH,), 0.7),
    ],
)
def test_colour_parser_finds_each_part_of_a_drawn_person(clip, found, group, least):
    true = np.stack([c[1] for c in clip])
    score = L.intersection_over_union(L.select(np.stack(found), group), L.select(true, group))
    assert score > least


def test_no_thin_piece_of_neck_climbs_along_the_face(clip):
    frames, points = [c[0].copy() for c in clip], [c[2] for c in clip]
    for frame, (_, true, p) in zip(frames, clip, strict=True):
        # A shaded rim of three pixels beside the cheek, and a curl under the ear, both in the colour of the neck.
        x, y = p[list(OVAL)].mean(0)
        rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
        rim = ((columns - x) / 31) ** 2 + ((rows - y) / 38) ** 2 < 1
        curl = (np.abs(columns - x + 36) < 4) & (np.abs(rows - y - 12) < 4)
        frame[((rim & (rows > y + 4) & (rows < y + 30)) | curl) & (true == L.BACKGROUND)] = COLOURS[L.NECK]
    segmenter = ColourSegmenter(frames[:4], points[:4])
    people = [segmenter.probability(f, p) for f, p in zip(frames, points, strict=True)]
    appearance = learn(frames, people, points, learn_mouth(frames, points))
    for frame, person, p in zip(frames, people, points, strict=True):
        labels = label_frame(frame, person, p, appearance)
        y = p[list(OVAL)].mean(0)[1]
        assert not (labels == L.NECK)[: int(y + 22)].any()


def test_a_frame_without_a_face_has_a_person_but_no_features(clip):
    frames, points = [c[0] for c in clip], [c[2] for c in clip]
    segmenter = ColourSegmenter(frames[:4], points[:4])
    people = [segmenter.probability(f, p) for f, p in zip(frames, points, strict=True)]
    appearance = learn(frames, people, points, learn_mouth(frames, points))
    labels = label_frame(frames[0], segmenter.probability(frames[0], None), points[1], appearance, face_is_seen=False)
    assert not L.select(labels, (L.EYES, L.LIPS, L.BROWS, L.TEETH, L.MOUTH)).any()
    assert L.intersection_over_union(labels > 0, clip[0][1] > 0) > 0.9


def labels_with_known_hair(clip, paint):
    """Labels of the first frames when person and hair are known.

    `paint` changes frame, true labels and hair, and returns where the person's network is wrong, if anywhere.
    """
    frames, people, hairs, points = [], [], [], []
    for frame, true, p in clip[:4]:
        frame, true, hair = frame.copy(), true.copy(), (true == L.HAIR).astype(np.float32)
        wrong = paint(frame, true, hair, p[list(OVAL)].mean(0))
        frames.append(frame)
        people.append(np.where(true > 0, 1, 0 if wrong is None else 0.9 * wrong).astype(np.float32))
        hairs.append(hair)
        points.append(p)
    appearance = learn(frames, people, points, learn_mouth(frames, points), hairs)
    given = zip(frames, people, points, hairs, strict=True)
    return np.stack([label_frame(f, person, p, appearance, hair=hair) for f, person, p, hair in given])


def test_long_hair_of_the_colour_of_cloth_is_hair_where_a_network_sees_it(clip):
    truths = []

    def paint(frame, true, hair, middle):
        columns = np.abs(np.arange(SIZE)[None] + 0.5 - middle[0])
        rows = np.arange(SIZE)[:, None] + 0.5
        long = (columns > 29) & (columns < 48) & (rows > middle[1] - 10)
        frame[long], true[long], hair[long] = frame[true == L.CLOTH].mean(0), L.HAIR, 1
        truths.append(true == L.HAIR)

    found = labels_with_known_hair(clip, paint) == L.HAIR
    assert L.intersection_over_union(found, np.stack(truths)) > 0.95


def test_a_neck_in_another_light_is_a_neck(clip):
    truths = []

    def paint(frame, true, hair, middle):
        # Skin's tint in a shadow that lies neither on the face nor right under the chin.
        dark = (true == L.NECK) & (np.arange(SIZE)[:, None] > middle[1] + 46)
        frame[dark] = np.array([96, 62, 46], np.uint8)
        truths.append(true == L.NECK)

    found = labels_with_known_hair(clip, paint) == L.NECK
    assert L.intersection_over_union(found, np.stack(truths)) > 0.85


def test_a_gap_in_the_colour_of_the_room_is_not_the_person(clip):
    gaps = []

    def paint(frame, true, hair, middle):
        columns = np.arange(SIZE)[None] + 0.5 - middle[0]
        rows = np.arange(SIZE)[:, None] + 0.5 - middle[1]
        gaps.append((np.abs(columns - 26) < 8) & (rows > 40) & (true == L.BACKGROUND))
        return gaps[-1]

    found = labels_with_known_hair(clip, paint)[np.stack(gaps)]
    assert (found == L.BACKGROUND).mean() > 0.9


def test_the_shadow_beside_a_collar_is_no_hair(clip):
    shadows = []

    def paint(frame, true, hair, middle):
        columns = np.arange(SIZE)[None] + 0.5 - middle[0]
        rows = np.arange(SIZE)[:, None] + 0.5 - middle[1]
        shadow = (np.abs(columns - 31) < 2) & (rows > -10)  # it hangs together with the hair
        frame[shadow], true[shadow], hair[shadow] = (60, 40, 30), L.CLOTH, 0.9
        shadows.append(shadow & (rows > 40))

    found = labels_with_known_hair(clip, paint)
    assert not (found == L.HAIR)[np.stack(shadows)].any()


def test_the_corner_of_a_collar_beside_the_jaw_is_cloth(clip):
    """As head it would be a dark speck that goes along with the jaw."""
    large = [(*(part.repeat(3, 0).repeat(3, 1) for part in drawn), 3 * points) for *drawn, points in clip]
    corners = []

    def paint(frame, true, hair, middle):
        rows, columns = np.mgrid[: len(true), : len(true)] + 0.5 - middle[::-1, None, None]
        collar = (np.abs(columns) < 70 + 0.4 * (rows - 60)) & (rows > 60) & np.isin(true, (L.BACKGROUND, L.NECK))
        frame[collar], true[collar] = COLOURS[L.CLOTH], L.CLOTH
        corners.append(collar & (rows < 110))

    found = labels_with_known_hair(large, paint)[np.stack(corners)]
    assert L.select(found, L.HEAD).mean() < 0.02


def test_teeth_need_a_light_part_inside_the_mouth(clip):
    dark = []
    for frame, true, points in clip:
        painted = frame.copy()
        painted[true == L.TEETH] = COLOURS[L.MOUTH]
        dark.append((painted, points))
    assert learn_mouth([d[0] for d in dark], [d[1] for d in dark]).light == float("inf")


def test_teeth_are_light_and_less_red_than_lips_and_tongue(clip):
    frames, points = [c[0] for c in clip], [c[2] for c in clip]
    learnt = learn_mouth(frames, points)
    colours = np.array([[240, 235, 225], [150, 130, 120], COLOURS[L.LIPS], [220, 150, 145], [50, 20, 20]], np.uint8)
    assert learnt.are_teeth(colours).tolist() == [True, True, False, False, False]
    assert MouthColours(learnt.lip, float("inf"), 0.0).are_teeth(colours).tolist() == [False] * 5
    assert learnt.are_teeth(np.zeros((0, 3), np.uint8)).shape == (0,)


def test_teeth_behind_pale_lips_are_not_taken_for_lips(clip):
    """Upper teeth touch the lip, whose colour is nearly theirs but for its redness."""
    frames, found, true = [], [], []
    for frame, labels, _ in clip:
        frame = frame.copy()
        frame[labels == L.LIPS], frame[labels == L.TEETH] = (178, 128, 118), (150, 132, 122)
        frames.append(frame)
    learnt = learn_mouth(frames, [c[2] for c in clip])
    for frame, (_, labels, points) in zip(frames, clip, strict=True):
        found.append(inside_mouth(frame, points, learnt)[1])
        true.append(labels == L.TEETH)
    assert L.intersection_over_union(np.stack(found), np.stack(true)) > 0.75


def test_learning_a_colour_parser_needs_frames():
    with pytest.raises(UsageError, match="no frame"):
        ColourSegmenter([], [])


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_coverage_of_a_rectangle_is_its_area_at_sub_pixel_places(shift):
    corners = np.array([[3, 4], [9, 4], [9, 5], [3, 5]], np.float64) + shift
    area = coverage(corners, 20, 20)
    assert area.sum() == pytest.approx(6.0, rel=0.25)
    centre = (area.sum(0) @ (np.arange(20) + 0.5), area.sum(1) @ (np.arange(20) + 0.5)) / area.sum()
    assert centre == pytest.approx([6 + shift, 4.5 + shift], abs=0.13)


def test_a_polygon_outside_the_picture_is_empty():
    assert not coverage(np.array([[-9, -9], [-5, -9], [-5, -5]], np.float64), 20, 20).any()


def test_face_frame_measures_in_eye_distances_and_follows_a_turned_head():
    points = face_points()
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    upright, turned = FaceFrame.of(points), FaceFrame.of(points @ turn.T)
    assert turned.iod == pytest.approx(upright.iod, rel=1e-5)
    assert turned.chin == pytest.approx(upright.chin, rel=1e-4)
    across, down = turned.coordinates(SIZE, SIZE)
    x, y = points[33] @ turn.T
    assert across[int(y), int(x)] == pytest.approx(-0.5, abs=0.03)
    assert down[int(y), int(x)] == pytest.approx(0.0, abs=0.03)


def test_face_frame_needs_the_eye_corners():
    points = face_points()
    points[33] = np.nan
    with pytest.raises(UsageError, match="eye corners"):
        FaceFrame.of(points)


def test_without_an_oval_the_face_is_the_hull_of_what_is_there():
    points = face_points()
    points[list(OVAL)] = np.nan
    hull = face_oval(points, SIZE, SIZE)
    assert hull[int(points[13, 1]), int(points[13, 0])]
    assert hull.sum() < face_oval(face_points(), SIZE, SIZE).sum()


def test_steady_drops_what_lasts_one_frame_and_stops_at_cuts():
    blank, full = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)
    assert [p.max() for p in steady([blank, full, blank, blank], [])] == [0, 0, 0, 0]
    assert [p.max() for p in steady([blank, blank, full, full], [2])] == [0, 0, 1, 1]
    assert [p.max() for p in steady([full], [])] == [1]
    assert len(list(steady([blank] * 7, [3, 4]))) == 7


def test_flicker_is_removed_around_the_face_but_a_short_closure_of_the_lips_stays():
    cloth, hair = np.full((2, 2), L.CLOTH, np.uint8), np.full((2, 2), L.HAIR, np.uint8)
    assert [f[0, 0] for f in without_flicker([cloth, hair, cloth], [])] == [L.CLOTH] * 3
    assert [f[0, 0] for f in without_flicker([cloth, hair, cloth], [1])] == [L.CLOTH, L.HAIR, L.CLOTH]
    open_mouth, shut = np.full((2, 2), L.MOUTH, np.uint8), np.full((2, 2), L.LIPS, np.uint8)
    assert [f[0, 0] for f in without_flicker([open_mouth, shut, open_mouth], [])] == [L.MOUTH, L.LIPS, L.MOUTH]


def test_chosen_frames_have_faces_and_the_widest_mouth():
    points = np.stack([face_points(opening=1 + (t == 17) * 8) for t in range(40)])
    valid = np.ones(40, bool)
    valid[:5] = False
    chosen = choose_frames(points, valid, 8)
    assert 17 in chosen
    assert chosen.min() >= 5
    assert len(chosen) <= 8


def test_groups_of_labels_overlap_in_shared_teeth_only_and_leave_only_the_background():
    groups = (*L.HEAD, *L.INSIDE_MOUTH, *L.TORSO)
    assert sorted(groups) == sorted([*range(1, L.COUNT), L.SHARED_TEETH])
    assert len(L.COLOURS) == L.COUNT == len(L.NAMES)


@pytest.mark.assets
def test_the_hair_network_finds_hair_and_does_not_remember_other_frames(assets):
    import av

    with av.open(str(assets / "video" / "anchor_en_m.mp4")) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    network = HairSegmenter(assets / "weights" / "mediapipe_hair_segmentation.tflite")
    hair = network.probability(frame)
    assert hair.shape == frame.shape[:2]
    rows = np.arange(len(hair)) + 0.5
    assert 0.02 < (hair > 0.5).mean() < 0.3
    assert (hair.sum(1) @ rows) / hair.sum() < 0.5 * len(hair)  # above the middle, where a head's hair is
    network.probability(np.zeros_like(frame))
    np.testing.assert_array_equal(network.probability(frame), hair)


@pytest.mark.assets
def test_flicker_on_real_masks_is_removed_without_lag(assets):
    import av

    network = HairSegmenter(assets / "weights" / "mediapipe_hair_segmentation.tflite")
    with av.open(str(assets / "video" / "anchor_en_m.mp4")) as container:
        shown = [
            frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(8), strict=False)
        ]
    masks = [np.where(network.probability(f) > 0.5, L.HAIR, L.BACKGROUND).astype(np.uint8) for f in shown]
    clean = list(without_flicker(masks, []))
    rows, columns = (int(np.median(places)) for places in np.nonzero(masks[4] == L.HAIR))
    patch = slice(rows - 6, rows + 6), slice(columns - 9, columns + 9)
    spoilt = [mask.copy() for mask in masks]
    spoilt[4][patch] = L.CLOTH
    for found, expected in zip(without_flicker(spoilt, []), clean, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (masks[4][patch] == L.HAIR).all()
    assert (clean[4] != masks[4]).mean() < 0.005
    # A head that moves by three pixels a frame is where it was.
    moving = [np.roll(masks[0], 3 * t, axis=1) for t in range(8)]
    for found, true in zip(without_flicker(moving, []), moving, strict=True):
        places, wanted = (np.nonzero(mask == L.HAIR)[1] for mask in (found, true))
        assert places.mean() == pytest.approx(wanted.mean(), abs=0.1)
        assert (found != true).sum() < 0.02 * len(wanted)
