"""The synthetic speaker: speech, motion, rendering and their truth."""

import pickle

import numpy as np
import pytest

from models.demo import head_model, visemes
from models.demo.animation import COEFFICIENTS, animate, still
from models.demo.expression import NAMES, Expression
from models.demo.identity import FEMALE, MALE
from models.demo.mesh import axis, extract, sample
from models.demo.render import Actor
from models.demo.scripts import SCRIPTS
from models.demo.shape import head_distance
from models.demo.speech import VOICES, Phoneme, synthesize
from models.errors import GausstalkError, InputError, UsageError
from models.heads.mediapipe_points import BROW_RINGS, EYE_RINGS, IRISES, LIP_POINTS, OVAL
from models.parsing.labels import BACKGROUND, BROWS, CLOTH, EYES, HAIR, LIPS, MOUTH, NECK, SKIN, TEETH

EYE_RING = sum(EYE_RINGS, ())


@pytest.fixture(scope="module")
def actors():
    return {name: Actor(name, 96) for name in ("male", "female")}


@pytest.fixture(scope="module")
def actor(actors):
    return actors["male"]


@pytest.fixture(scope="module")
def talk():
    speech = synthesize("My big brother saw five maps.", VOICES["en", "male"], 165).padded(0.3, 2.4)
    return speech, animate(speech, 2.4, seed=3)


def test_the_speaker_makes_every_kind_of_mouth_before_the_seconds_it_is_tested_on() -> None:
    script = SCRIPTS["en-male"]
    tested = 0.19 * script.duration_s  # validation and test, the end of the clip
    sounds = visemes.split(script.speak().phonemes)
    learnt = {p.symbol for p in sounds if p.end_s < script.duration_s - tested}
    kinds = ["aɑ", "æ", "ʌɐ", "ɛe", "ɪ", "i", "əɜɚᵻ", "ɔɒ", "o", "ʊ", "u", "w", "θð", "sz", "ɹr", "kɡŋjh", "tdnlɾ"]
    kinds += ["p", "b", "m", "f", "v"]  # closed lips and lips on teeth matter most
    assert not [kind for kind in kinds if not learnt & set(kind)]
    assert {"θ", "ð", "ʃ", "ʒ", "tʃ", "dʒ", "h", "ŋ", "j"} <= learnt


@pytest.mark.parametrize("key", list(SCRIPTS))
def test_voices_give_timed_phonemes_that_fit_the_clip(key):
    script = SCRIPTS[key]
    speech = script.speak()
    assert len(speech.samples) == round(script.duration_s * speech.sample_rate)
    assert np.abs(speech.samples).max() > 1000
    starts = np.array([p.start_s for p in speech.phonemes])
    ends = np.array([p.end_s for p in speech.phonemes])
    assert (ends > starts).all()
    assert (starts[1:] >= ends[:-1] - 1e-9).all()
    assert ends[-1] <= script.duration_s + 1e-9
    assert len({p.symbol for p in speech.phonemes}) > 12
    assert sum(p.stressed for p in speech.phonemes) > 3
    # Sound and phonemes belong together: speech is louder than the silence before it.
    first = round(speech.phonemes[1].start_s * speech.sample_rate)
    assert np.abs(speech.samples[: first - 200]).max(initial=0) < 100


def test_synthesis_can_be_repeated_after_another_voice():
    first = synthesize("Good morning.", VOICES["en", "male"], 165)
    synthesize("你好", VOICES["zh", "female"], 140)
    again = synthesize("Good morning.", VOICES["en", "male"], 165)
    assert [p.symbol for p in first.phonemes] == [p.symbol for p in again.phonemes]
    assert abs(first.duration_s - again.duration_s) < 0.02


def test_bad_requests_are_refused():
    with pytest.raises(UsageError, match="xx-nobody"):
        synthesize("hello", "xx-nobody")
    with pytest.raises(InputError):
        synthesize("", VOICES["en", "male"])
    with pytest.raises(InputError, match="do not fit"):
        synthesize("Good morning.", VOICES["en", "male"]).padded(0.3, 0.4)
    with pytest.raises(GausstalkError, match="nobody"):
        Actor("nobody")
    with pytest.raises(GausstalkError):
        Actor("male", 4)


def test_contact_sounds_reach_contact_however_short():
    sounds = [Phoneme(0.0, 0.4, "a", True)]
    for i, symbol in enumerate("pbmfv"):
        start = 0.4 + 0.25 * i
        sounds += [Phoneme(start, start + 0.03, symbol, False), Phoneme(start + 0.03, start + 0.25, "a", True)]
    times = np.arange(0, 1.7, 0.04)
    track = visemes.mouth_track(sounds, times)
    seal, tuck = track[:, visemes.MOUTH.index("seal")], track[:, visemes.MOUTH.index("tuck")]
    for sound in sounds:
        near = (times > sound.start_s - 0.045) & (times < sound.start_s + 0.06)
        if sound.symbol in "pbm":
            assert seal[near].max() > 0.99
        elif sound.symbol in "fv":
            assert tuck[near].max() > 0.99
    open_vowel = (times > 0.1) & (times < 0.28)
    assert seal[open_vowel].max() < 0.1
    assert track[open_vowel, 0].max() > 0.3


def test_animation_is_deterministic_and_bounded(talk):
    speech, animation = talk
    again = animate(speech, 2.4, seed=3)
    other = animate(speech, 2.4, seed=4)
    assert len(animation) == 60
    assert np.array_equal(animation.coefficients, again.coefficients)
    assert np.array_equal(animation.rotation, again.rotation)
    assert not np.array_equal(animation.rotation, other.rotation)
    # The mouth follows the sound alone; the seed only moves what is free.
    assert np.array_equal(animation.coefficient("jaw"), other.coefficient("jaw"))
    assert 0 <= animation.coefficients.min() <= animation.coefficients.max() <= 1
    units = animation.action_units()
    assert {"AU01", "AU02", "AU04", "AU06", "AU10", "AU12", "AU20", "AU24", "AU25", "AU26", "AU45"} <= set(units)
    assert all(0 <= u.min() <= u.max() <= 5 for u in units.values())
    assert units["AU45"].max() > 4
    gaze = animation.gaze_numbers()
    assert gaze.shape == (60, 4)
    assert (gaze[:, 0] * gaze[:, 1] == 0).all()  # not down and up at once


def test_bilabials_shut_the_mouth_in_the_labels(actors, talk):
    _, animation = talk
    shut = np.nonzero(animation.coefficient("seal") > 0.97)[0]
    wide = np.argsort(animation.coefficient("jaw"))[-3:]
    assert len(shut) >= 4
    for actor in actors.values():
        closed = np.isin(actor.render(animation, shut).labels, [TEETH, MOUTH]).sum(axis=(1, 2))
        opened = np.isin(actor.render(animation, wide).labels, [TEETH, MOUTH]).sum(axis=(1, 2))
        assert closed.max() == 0
        assert opened.min() > 10


def test_blink_shuts_the_lids(actors):
    for actor in actors.values():
        seen = (actor.still().labels == EYES).sum()
        shut = (actor.still(blink_left=1, blink_right=1).labels == EYES).sum()
        one = actor.still(blink_left=1).labels[0] == EYES
        assert seen > 25
        assert shut == 0
        assert one[:, : actor.size // 2].any()
        assert not one[:, actor.size // 2 :].any()  # the subject's left eye is on the image's right


def test_labels_cover_the_person(actors):
    for actor in actors.values():
        labels = actor.still(jaw=0.5).labels[0]
        present = set(np.unique(labels))
        assert {BACKGROUND, SKIN, BROWS, EYES, LIPS, TEETH, MOUTH, HAIR, NECK, CLOTH} <= present
        rows = {name: np.nonzero(labels == name)[0].mean() for name in (HAIR, BROWS, EYES, LIPS, NECK, CLOTH)}
        assert rows[HAIR] < rows[BROWS] < rows[EYES] < rows[LIPS] < rows[NECK] < rows[CLOTH]


def _near(mask, points, radius=1.6):
    at = np.argwhere(mask)[:, ::-1] + 0.5
    return np.array([np.min(np.linalg.norm(at - p, axis=1)) <= radius for p in points])


def test_landmarks_lie_on_what_they_name(actors):
    for actor in actors.values():
        frames = actor.still(jaw=0.25)
        labels, points = frames.labels[0], frames.landmarks_2d[0]
        assert _near(labels == LIPS, points[list(LIP_POINTS)]).all()
        assert _near(labels == EYES, points[list(EYE_RING)], 2.2).all()
        assert _near(labels == BROWS, points[list(sum(BROW_RINGS, ()))], 3.0).all()
        assert _near(labels == EYES, points[list(sum(IRISES, ()))]).all()
        ring = points[list(EYE_RING)]
        for side in (ring[:16], ring[16:]):
            inside = np.argwhere(labels == EYES)[:, ::-1] + 0.5
            inside = inside[np.abs(inside[:, 0] - side[:, 0].mean()) < 12]
            assert inside[:, 0].min() > side[:, 0].min() - 1.5
            assert inside[:, 0].max() < side[:, 0].max() + 1.5
        oval = points[list(OVAL)]
        assert _near(labels > 0, oval, 2.0).all()


def test_landmarks_are_symmetric_and_say_which_exist(actor):
    frames = actor.still()
    points = frames.landmarks_3d[0]
    present = actor.rig.present
    assert present.sum() > 250
    assert np.array_equal(present, ~np.isnan(points[:, 0]))
    assert np.array_equal(present, ~np.isnan(frames.landmarks_2d[0, :, 0]))
    for right, left in zip(*EYE_RINGS, strict=True):
        assert points[right] * [-1, 1, 1] == pytest.approx(points[left], abs=2e-4)
    assert points[263, 0] > 0.03  # the subject's left is positive x
    assert points[10, 1] > points[152, 1] + 0.1
    assert points[4, 2] > points[33, 2] + 0.02


def test_truth_pose_projects_3d_landmarks_to_2d(actor, talk):
    _, animation = talk
    points, pixels = actor.landmarks(animation, range(0, 60, 7))
    pose = actor.world_to_camera(animation)[::7]
    assert np.allclose(np.linalg.det(pose[:, :3, :3]), 1.0)
    seen = np.einsum("nij,nlj->nli", pose[:, :3, :3], points) + pose[:, None, :3, 3]
    assert (seen[:, actor.rig.present, 2] > 0.5).all()
    image = seen @ actor.intrinsics.T
    expected = image[..., :2] / image[..., 2:]
    assert np.allclose(expected, pixels, atol=2e-3, equal_nan=True)


def test_pose_truth_agrees_with_the_image(actor):
    # Turn and move the head and look where the pupils are drawn.
    animation = still()
    animation.rotation[0] = (0.15, 0.05, 0.08)
    animation.translation[0] = (12.0, -6.0, 15.0)
    frames = actor.render(animation, [0])
    eyes = np.argwhere(frames.labels[0] == EYES)[:, ::-1] + 0.5
    ring = frames.landmarks_2d[0, list(EYE_RING)]
    for side in (ring[:16], ring[16:]):
        mine = eyes[np.linalg.norm(eyes - side.mean(0), axis=1) < 10]
        assert mine.mean(0) == pytest.approx(side.mean(0), abs=0.8)


def test_landmarks_move_with_the_face(actor):
    rest, jaw = actor.still().landmarks_3d[0], actor.still(jaw=0.4).landmarks_3d[0]
    assert rest[13, 1] - rest[14, 1] < 0.0015  # lips together
    assert jaw[13, 1] - jaw[14, 1] > 0.006
    assert jaw[152, 1] < rest[152, 1] - 0.005
    assert np.abs(jaw[9] - rest[9]).max() < 1e-5
    blink = actor.still(blink_left=1).landmarks_3d[0]
    assert rest[386, 1] - rest[374, 1] > 0.006
    assert np.linalg.norm(blink[386] - blink[374]) < 0.003
    assert np.allclose(blink[159], rest[159], atol=1e-5)


def test_rendering_is_deterministic_also_after_pickling(actor, talk):
    _, animation = talk
    copy = pickle.loads(pickle.dumps(actor))
    a, b = actor.render(animation, [11]), copy.render(animation, [11])
    assert np.array_equal(a.rgb, b.rgb)
    assert np.array_equal(a.labels, b.labels)
    whole = actor.render(animation, [10, 11])
    assert np.array_equal(whole.rgb[1], a.rgb[0])


def test_sizes_show_the_same_scene(actor):
    large = Actor("male", 192).still().rgb[0].astype(float)
    small = actor.still().rgb[0].astype(float)
    halved = large.reshape(96, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 6.0


def test_sparse_sampling_equals_dense_near_the_surface():
    axes = (axis([(0, 40, 2.0)]), axis([(-90, -40, 2.0)]), axis([(60, 120, 2.0)]))
    sparse = sample(lambda p: head_distance(p, MALE), axes)
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    dense = head_distance(nodes, MALE).reshape(sparse.shape)
    assert (np.sign(sparse) == np.sign(dense)).mean() > 0.9999
    near = np.abs(dense) < 2.0
    assert np.abs(sparse - dense)[near].max() < 1e-3


def test_mirrored_mesh_lies_on_the_surface_and_faces_out():
    axes = tuple(axis([(low, high, 5.0)]) for low, high in ((0, 110), (-200, 130), (-110, 125)))
    vertices, triangles = extract(lambda p: head_distance(p, FEMALE), axes, mirrored=True)
    assert np.median(np.abs(head_distance(vertices, FEMALE))) < 0.4
    corners = vertices[triangles].astype(float)
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 2e6 < volume < 7e6  # mm^3, positive: counter-clockwise from outside


def test_sealed_lips_do_not_part_when_the_jaw_drops():
    half = np.array([0.0, 6.0, 12.0, 18.0])
    gap = 2.4 * (1 - (half / MALE.mouth_half_width) ** 2) + 0.2
    upper = np.stack([half, -70 + gap, np.full(4, 99.0)], 1)
    lower = np.stack([half, -70 - gap, np.full(4, 99.0)], 1)
    face = Expression(np.concatenate([upper, lower]), MALE)
    for jaw in (0.0, 0.3, 0.8):
        values = np.zeros(len(NAMES))
        values[:2] = jaw, 1.0
        moved = face.move(values)
        assert (moved[:4, 1] - moved[4:, 1] < 0.0).all()  # they press into each other
        values[1] = 0.0
        apart = face.move(values)
        if jaw:
            assert (apart[:3, 1] - apart[4:7, 1] > 4.0 * jaw).all()


def test_head_model_is_a_usable_linear_face():
    model = head_model.build()
    assert model.identity.shape[0] == len(head_model.IDENTITY_NAMES)
    assert model.expression_names == NAMES
    assert set(NAMES) <= set(COEFFICIENTS)
    assert 1500 < len(model.neutral) < 5000
    assert np.abs(model.neutral).max() < 0.15  # metres
    a, b, c = (model.neutral[model.triangles[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    assert (normals[:, 2] > 0).mean() > 0.9
    marks = model.at_landmarks(model.neutral)
    expected = {int(i): n for n, i in enumerate(model.landmark_index)}
    assert marks[expected[263], 0] == pytest.approx(-marks[expected[33], 0], abs=1e-4)
    # One standard deviation is millimetres, and no direction repeats another.
    sizes = np.linalg.norm(model.identity, axis=2).max(axis=1)
    assert (sizes > 5e-4).all()
    assert (sizes < 1e-2).all()
    flat = model.identity.reshape(len(sizes), -1)
    cosine = np.corrcoef(flat / np.linalg.norm(flat, axis=1, keepdims=True))
    assert np.abs(cosine - np.eye(len(sizes))).max() < 0.95


def test_head_model_explains_the_speakers(actors):
    # Landmarks of both speakers, talking, fitted by least squares with a similarity: little is left over.
    model = head_model.build()
    index = model.landmark_index
    base = model.at_landmarks(model.neutral)
    bases = np.concatenate([model.at_landmarks(model.identity), model.at_landmarks(model.expression)])
    rigid = [np.tile(e, (len(base), 1)) for e in np.eye(3)] + [base] + [np.cross(np.eye(3)[i], base) for i in range(3)]
    design = np.concatenate([bases, np.stack(rigid)]).reshape(-1, base.size).T
    for actor in actors.values():
        target = actor.still(jaw=0.3, round=0.4).landmarks_3d[0, index]
        solution, *_ = np.linalg.lstsq(design, (target - base).ravel(), rcond=1e-6)
        left = (design @ solution - (target - base).ravel()).reshape(-1, 3)
        before = np.sqrt(((target - base) ** 2).sum(1).mean())
        after = np.sqrt((left**2).sum(1).mean())
        assert after < 0.0012
        assert after < 0.4 * before
