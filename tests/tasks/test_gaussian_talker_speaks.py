"""A GaussianTalker head says drives and recordings by the same commands as the first method, or tells why it cannot."""

import dataclasses
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from bound_egg import SPEAKER, make_bound_egg, run, save
from tiny_speaker import FRAMES, KEYS, SIZE

from models.audio import logmel
from models.audio.align import scale_of
from models.errors import InputError, MissingAssetError, UsageError
from models.methods.gaussian_talker_config import DRAWN
from models.methods.gaussian_talker_inpainting import Painter
from models.parsing.labels import HAIR, select
from models.records import AudioFeatures, Clip, HeadTrack, Masks, Rendering, Weights
from tasks import live, say
from tasks.acting import Acting
from tasks.gt_talker import GaussianTalker
from tasks.gt_talking_head import Shot
from tasks.media import FrameReader, probe, write_wav
from tasks.methods import GAUSSIAN_TALKER
from tasks.places import Keys
from tasks.speech_features import Hearing
from tasks.talker import Talker

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000
pytestmark = pytest.mark.usefixtures("quiet_training")


@pytest.fixture(scope="module")
def egg(tmp_path_factory):
    """The egg with a trained head, and what it is told to say: a recording of 60 frames."""
    places = make_bound_egg(tmp_path_factory.mktemp("egg"))
    for stage in ("gt_motion", "gt_renderer", "gt_inpaint"):
        run(stage, places)
    write_wav(places.raw_drive("beep") / "speech.wav", noise(2.4))
    record = places.drive_record("beep")
    record.parent.mkdir(parents=True)
    record.write_text("name: beep\nbasis: research\nlanguage: de\nsource: speech.wav\n")
    values = logmel.extract(noise(2.4), 60, 16)
    features = AudioFeatures("logmel", "1", 25.0, values, *scale_of(values), 2.4)
    save(features, places.record("audio_drive", Keys(extractor="logmel", drive="beep")))
    return places


@pytest.fixture
def talker(egg):
    return say.talker_of(egg, "egg", "logmel", GAUSSIAN_TALKER)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    return (random.normal(0, 3000, count) * (np.sin(np.arange(count) / 1500) > 0)).astype(np.int16)


def pictures_of(path) -> np.ndarray:
    return np.stack(list(FrameReader(path))).astype(int)


def test_a_drive_is_said_in_frames_that_run_back_and_forth(egg):
    rendering = Rendering.load(run("gt_render_drive", egg, drive="beep"))
    assert rendering.method == "gaussian_talker"
    assert len(rendering.full) == 60
    assert rendering.frame_index.tolist() == [
        *range(20, 44),
        *range(42, 19, -1),
        *range(21, 34),
    ]  # the shot after the cut
    clip = Clip.load(egg.record("ingest", SPEAKER))
    labels = Masks.load(egg.record("parse", SPEAKER)).labels
    for k in (0, 30, 59):
        frame = int(rendering.frame_index[k])
        face = select(labels[frame], DRAWN)
        grown = np.zeros_like(face)
        rows, columns = np.nonzero(face)
        grown[max(0, rows.min() - 8) : rows.max() + 9, max(0, columns.min() - 8) : columns.max() + 9] = True
        assert np.array_equal(rendering.full[k][~grown], clip.frames[frame][~grown])  # the frame's own
        assert np.abs(rendering.full[k][face].astype(int) - clip.frames[frame][face]).max() > 5
    video = egg.preview("gt_render_drive", dataclasses.replace(KEYS, drive="beep")) / "result.mp4"
    with av.open(str(video)) as container:
        assert "private evaluation only" in container.metadata["comment"]  # of the voice


def test_a_recording_of_any_length_is_said(talker, tmp_path):
    write_wav(tmp_path / "long.wav", np.concatenate([noise(2.0), np.zeros(32000, np.int16), noise(0.6)]))
    write_wav(tmp_path / "short.wav", noise(0.2))
    long, short = say.say(talker, [tmp_path / "long.wav", tmp_path / "short.wav"], tmp_path / "out", lossless=True)
    assert (long.pictures, long.error) == (115, None)
    assert (short.pictures, short.error) == (5, None)
    info = probe(tmp_path / "out" / "long.mkv")
    assert info.has_sound
    assert info.seconds == pytest.approx(4.6, abs=0.05)
    pictures = pictures_of(tmp_path / "out" / "long.mkv")
    assert pictures.shape == (115, SIZE, SIZE, 3)
    # The loop is 46 frames long: pictures so far apart differ by what is spoken, and by nothing else.
    assert np.abs(pictures[15] - pictures[61]).max() > 3
    assert np.array_equal(pictures[15, :, :2], pictures[61, :, :2])


def test_of_a_frame_that_is_held_its_own_face_is_taken_away_whatever_the_drawn_one_does(talker, monkeypatch):
    head, taken = talker.head(), []
    monkeypatch.setattr(Painter, "paint", lambda _, raster, camera, frame, own: taken.append(own) or frame)
    for acting in (10, 25, 40):
        head.picture(Shot(25, acting), head.still)
    assert (taken[0] > 0.5).any()
    assert all(torch.equal(own, taken[1]) for own in taken)


def test_hair_over_the_forehead_stays_the_frames_and_beside_the_jaw_it_does_not(talker):
    """The face is drawn over all of the head; whatever is called hair above its eyes is put back."""
    head = talker.head()
    bald, frame = head.picture(Shot(25, 25), head.still).astype(int), head.filmed.frames[25].astype(int)
    labels = np.full((SIZE, SIZE), HAIR, np.uint8)
    hairy = dataclasses.replace(head, filmed=dataclasses.replace(head.filmed, labels={25: labels}))
    found = hairy.picture(Shot(25, 25), head.still).astype(int)
    drawn = np.abs(bald - frame).max(2) > 4
    back = drawn & (np.abs(found - frame).max(2) <= 1)
    kept = drawn & (np.abs(found - bald).max(2) <= 1)
    assert min(back.sum(), kept.sum()) > 20
    rows = np.arange(SIZE)[:, None] + np.zeros(SIZE)
    assert rows[back].max() <= rows[kept].min() + 2  # the head is upright in that frame
    assert (back | kept)[drawn].mean() > 0.8


def test_a_recording_of_no_length_is_refused_and_another_said(talker, tmp_path):
    for name, seconds in (("short", 0.1), ("good", 0.4)):
        write_wav(tmp_path / f"{name}.wav", noise(seconds))
    bad, good = say.say(talker, [tmp_path / "short.wav", tmp_path / "good.wav"], tmp_path / "out")
    assert "nothing can be said in that time" in str(bad.error)
    assert (good.pictures, good.error) == (10, None)


def test_blocks_of_a_long_recording_are_spoken_as_if_it_were_one(talker, monkeypatch):
    head, sound = talker.head(), noise(6.0)
    span, hearing = head.translator.config.span, Hearing.open("logmel", talker.audio)
    whole = head.hear(hearing.windows(sound, 150, logmel.measure(sound)))
    monkeypatch.setattr(say, "BLOCK_S", 2 * span / 25)
    monkeypatch.setattr(say, "MARGIN_S", span / 25)
    monkeypatch.setattr(say, "_scale", lambda *_: logmel.measure(sound))
    heard = [numbers for block in say._heard(sound, 150, talker, head, hearing) for numbers in block]
    assert len(heard) == 150
    np.testing.assert_allclose(np.stack([numbers.numpy() for numbers in heard]), whole.numpy(), atol=1e-3)


def test_a_head_that_is_held_still_keeps_its_frame_and_moves_its_face(talker, tmp_path):
    write_wav(tmp_path / "a.wav", noise(1.2))
    say.say(talker.still(25), [tmp_path / "a.wav"], tmp_path / "out.mkv", lossless=True)
    pictures = pictures_of(tmp_path / "out.mkv")
    frame = Clip.load(talker.places.record("ingest", SPEAKER)).frames[25]
    assert np.array_equal(pictures[:, :, :2], np.broadcast_to(frame[:, :2], (len(pictures), *frame[:, :2].shape)))
    assert np.abs(np.diff(pictures, axis=0)).max() > 5
    assert 20 <= talker.still().held < 44
    with pytest.raises(UsageError, match="frame 99 cannot be held"):
        talker.still(99)


def test_sound_moves_the_face_as_far_as_is_asked_for(talker):
    values = np.random.default_rng(0).normal(size=(30, 80, 16)).astype(np.float32)
    heads = {by: talker.articulating(by).head() for by in (0.0, 1.0, 1.5)}
    still, spoken = heads[1.0].still, heads[1.0].hear(values)
    assert torch.equal(spoken, talker.head().hear(values))
    assert torch.equal(heads[0.0].hear(values), still.expand_as(spoken))
    torch.testing.assert_close(heads[1.5].hear(values) - still, 1.5 * (spoken - still))
    assert (spoken - still).abs().max() > 0


def test_what_this_method_cannot_do_is_said_before_anything_is_computed(talker, tmp_path):
    write_wav(tmp_path / "a.wav", noise(0.4))
    for acting in (Acting(neutral=True), Acting(blinks=15.0), Acting(poses=np.zeros((3, 4, 4)))):
        with pytest.raises(UsageError, match="cannot act otherwise"):
            say.say(talker, [tmp_path / "a.wav"], tmp_path / "out.mp4", acting)
    assert not (tmp_path / "out.mp4").exists()
    with pytest.raises(UsageError, match="cannot follow live sound"):
        live.stream(talker, [noise(0.4)])


def test_heads_that_are_not_trained_are_told_from_those_of_the_other_method(egg):
    with pytest.raises(InputError, match="TalkingGaussian has trained") as error:
        Talker.of(egg, "egg", "logmel")
    assert error.value.why == "trained: logmel with GaussianTalker"
    with pytest.raises(InputError, match="hubert that GaussianTalker has trained") as error:
        GaussianTalker.of(egg, "egg", "hubert")
    listing = "add hubert to extractors in params.yaml, then "
    assert error.value.fix == f"{listing}gausstalk run egg --method gaussiantalker; or --extractor logmel"
    with pytest.raises(UsageError, match="no speaker 'bob'"):
        GaussianTalker.of(egg, "bob", "logmel")


def test_without_the_speakers_embedding_nothing_is_said(egg, talker):
    folder = egg.record("gt_motion", KEYS)
    weights = Weights.load(folder)
    try:
        save(dataclasses.replace(weights, config={**weights.config, "speakers": ["other"]}), folder)
        with pytest.raises(InputError, match="no embedding for 'egg'"):
            talker.head()
        with pytest.raises(InputError, match="no embedding for 'egg'"):
            run("gt_render_drive", egg, drive="beep")
    finally:
        save(weights, folder)


@pytest.mark.parametrize("stage", ["gt_motion", "gt_renderer", "gt_inpaint", "gt_render", "gt_render_drive"])
def test_a_head_model_without_its_asset_is_named(egg, stage, monkeypatch):
    monkeypatch.setenv("GAUSSTALK_ASSETS", "")
    shutil.copy(ROOT / "data/assets.toml", egg.root / "data/assets.toml")
    record = egg.speaker_record("egg")
    text = record.read_text()
    record.write_text(text.replace("head_model: synthetic", "head_model: flame2020"))
    try:
        with pytest.raises(MissingAssetError, match="flame2020"):
            run(stage, egg, **({"drive": "beep"} if stage == "gt_render_drive" else {}))
    finally:
        record.write_text(text)


def test_a_gap_in_the_track_is_drawn_with_the_nearest_face(egg):
    folder = egg.record("track", SPEAKER)
    track = HeadTrack.load(folder)
    valid, expression = track.valid.copy(), track.expression.copy()
    valid[38:41], expression[38:41] = False, 1e3  # nonsense where there was no face
    whole = Rendering.load(run("gt_render", egg))
    own = {name: np.stack(list(getattr(whole, name))) for name in whole.variants}
    try:
        save(dataclasses.replace(track, valid=valid, expression=expression), folder)
        gap = Rendering.load(run("gt_render", egg))
        assert gap.frame_index.tolist() == list(range(34, FRAMES))
        for name in gap.variants:
            found = np.stack(list(getattr(gap, name)))
            assert np.array_equal(found[[*range(4), *range(7, 10)]], own[name][[*range(4), *range(7, 10)]])
            assert np.abs(found[4:7].astype(int) - own[name][4:7]).mean() < 5
        shot = GaussianTalker.of(egg, "egg").scene.longest_shot()
        assert shot == (0, 20)  # the other one is torn apart by the gap
        save(dataclasses.replace(track, valid=np.zeros_like(valid)), folder)
        with pytest.raises(InputError, match="no frame shows a face|no two frames"):
            run("gt_render_drive", egg, drive="beep")
    finally:
        save(track, folder)
    shutil.rmtree(egg.record("gt_render", KEYS))
