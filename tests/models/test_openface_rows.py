"""Tables of OpenFace as its builds write them."""

import numpy as np
import pytest

from models.action_units import UNIT_NAMES
from models.errors import InputError
from models.methods.talking_gaussian_config import ACTION_UNITS
from models.openface import at, gaze_of, of_face, read_rows
from tasks.action_units import NEEDED

RATE = 30.0


def table(rows=90, spaced=False, faces=1, centres=((100, 100), (400, 120)), drop=(), points=True, **columns):
    """A CSV of OpenFace: AU12 grows by 0.01 a picture (of face 0) or stands at 4 (of others)."""
    heads = ["frame", "face_id", "timestamp", "confidence", "success", "gaze_angle_x", "gaze_angle_y"]
    heads += [f"{axis}_{k}" for axis in "xy" for k in range(68)] if points else []
    heads += [f"{unit}_r" for unit in UNIT_NAMES] + ["AU28_c"]
    kept = [head for head in heads if head not in drop]
    lines = [(", " if spaced else ",").join(kept)]
    for k in range(rows):
        for face in range(faces):
            values = {"frame": k + 1, "face_id": face, "timestamp": f"{k / RATE:.3f}", "confidence": 0.98, "success": 1}
            values |= {f"x_{p}": centres[face][0] + p % 3 - 1 for p in range(68)}
            values |= {f"y_{p}": centres[face][1] + p % 3 - 1 for p in range(68)}
            values |= {f"{unit}_r": 0.1 for unit in UNIT_NAMES} | {"AU12_r": 0.01 * k if face == 0 else 4.0}
            values |= {name: column(k, face) for name, column in columns.items()}
            lines.append((", " if spaced else ",").join(str(values.get(head, 0)) for head in kept))
    return "\n".join(lines) + "\n"


def test_the_method_finds_every_unit_that_it_is_conditioned_on():
    assert set(ACTION_UNITS) | {"AU25"} == set(NEEDED)


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("drop", [(), ("face_id",), ("timestamp",), ("confidence", "success"), ("AU28_c", "AU15_r")])
def test_builds_that_write_other_headers_give_the_same(spaced, drop):
    rows = read_rows(table(spaced=spaced, drop=drop), "a.csv", RATE, NEEDED)
    instants = np.arange(74) / 25
    units, gaze, measured = at(of_face(rows, np.empty(0), np.empty((0, 2)), np.empty(0)), instants)
    assert measured.all()
    assert units["AU12"] == pytest.approx(0.01 * 30 * instants, abs=2e-4)
    assert gaze == pytest.approx(np.zeros((74, 2)))
    assert ("AU15" in units) == ("AU15_r" not in drop)


def test_a_quote_that_is_never_closed_spoils_one_row():
    lines = table().splitlines()
    lines[40] = lines[40].replace(",0.1,", ',"0.1,', 1)
    rows = read_rows("\n".join(lines), "a.csv", RATE, NEEDED)
    assert len(rows) == 90
    assert rows.good.sum() >= 89
    quoted = "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in table().splitlines())
    np.testing.assert_array_equal(read_rows(quoted, "a.csv", RATE, NEEDED).units["AU12"], rows.units["AU12"])


def test_rows_that_failed_are_not_measured_and_do_not_colour_their_neighbours():
    text = table(
        success=lambda k, _: int(not 30 <= k < 60),
        confidence=lambda k, _: 0.2 if 70 <= k < 80 else 0.9,
        AU12_r=lambda k, _: 5.0 if 30 <= k < 60 or 70 <= k < 80 else 1.0,
        AU01_r=lambda k, _: "-nan(ind)" if k == 10 else 0.5,
    )
    rows = read_rows(text, "a.csv", RATE, NEEDED)
    assert (~rows.good).sum() == 30 + 10 + 1
    instants = np.arange(75) / 25
    units, _, measured = at(rows, instants)
    assert not measured[(instants > 1.11) & (instants < 1.89)].any()
    # Beside the one row that is no number two frames are lost.
    assert np.flatnonzero(~measured[:24]).tolist() == [8, 9]
    assert measured[(instants > 2.02) & (instants < 2.2)].all()
    assert np.nanmax(units["AU12"]) == pytest.approx(1.0)
    assert np.array_equal(np.isfinite(units["AU01"]), measured)


def test_of_two_faces_the_tracked_one_is_chosen_whatever_its_number():
    # The face numbers change places half way; the landmarks say who is who.
    def place(k, face):
        return (100, 100) if (face == 0) == (k < 45) else (400, 120)

    def unit(k, face):
        return 1.0 if place(k, face)[0] == 100 else 4.0

    text = table(
        faces=2,
        AU12_r=unit,
        **{f"x_{p}": lambda k, f: place(k, f)[0] for p in range(68)},
        **{f"y_{p}": lambda k, f: place(k, f)[1] for p in range(68)},
    )
    rows = read_rows(text, "a.csv", RATE, NEEDED)
    instants = np.arange(75) / 25
    for centre, level in (((105, 98), 1.0), ((395, 118), 4.0)):
        own = of_face(rows, instants, np.tile(np.array(centre, float), (75, 1)), np.full(75, 80.0))
        assert len(own) == 90
        assert at(own, instants)[0]["AU12"] == pytest.approx(level)
    nobody = of_face(rows, instants, np.full((75, 2), 900.0), np.full(75, 80.0))
    assert not at(nobody, instants)[2].any()


def test_without_landmarks_the_face_that_is_seen_most_often_is_chosen():
    text = table(faces=2, points=False, success=lambda k, face: int(face == 1 or k < 20))
    rows = read_rows(text, "a.csv", RATE, NEEDED)
    own = of_face(rows, np.arange(75) / 25, np.zeros((75, 2)), np.full(75, 80.0))
    assert set(own.face) == {1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table"),
        ("a,b\n1,2\n", "no table"),
        ("frame,AU01_r\n1," + "1" * 140_000, "no table"),
        (table(drop=("AU45_r", "AU07_r")), "AU07, AU45"),
        (table(success=lambda k, _: 0), "saw no face"),
        ("frame,AU01_r\n", "saw no face"),
        (table(drop=[f"{unit}_r" for unit in UNIT_NAMES] + ["AU28_c"]), "no table"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_flags_that_mend_it(text, words):
    needed = () if text.startswith("frame,AU01") else NEEDED
    with pytest.raises(InputError, match=words) as error:
        read_rows(text, "a.csv", RATE, needed)
    assert "a.csv" in error.value.what
    assert "FeatureExtraction" in error.value.fix or "builtin" in error.value.fix


@pytest.mark.parametrize(("angles", "column"), [((0, 0.26), 0), ((0, -0.26), 1), ((-0.26, 0), 2), ((0.26, 0), 3)])
def test_gaze_is_that_of_the_eyes_in_the_head(angles, column):
    looks = np.zeros((50, 2))
    looks[20:25] = angles
    straight = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (50, 1, 1))
    gaze = gaze_of(looks, straight, np.ones(50, bool))
    assert gaze[22, column] == pytest.approx(0.26 / np.radians(30), abs=0.02)
    assert np.delete(gaze[22], column).max() < 0.01
    # A head that turns with the eyes resting in it changes the angles to the camera, but no gaze.
    turned = straight.copy()
    yaw = 0.2
    turned[30:, :3, :3] = straight[0, :3, :3] @ [
        [np.cos(yaw), 0, np.sin(yaw)],
        [0, 1, 0],
        [-np.sin(yaw), 0, np.cos(yaw)],
    ]
    looks = np.zeros((50, 2))
    looks[30:, 0] = yaw
    assert gaze_of(looks, turned, np.ones(50, bool)).max() < 0.01
