"""Other speakers teach a GaussianTalker head: shorter ones, other ones, ones whose mark it then bears."""

import dataclasses
import shutil

import av
import numpy as np
import pytest
from bound_egg import PARAMS, SPEAKER, make_bound_egg, run, save
from saved_clip import save_clip
from tiny_speaker import KEYS

from models.errors import InputError, UsageError
from models.records import AudioFeatures, Clip, HeadTrack, Rendering, Weights
from tasks import say, training
from tasks.media import write_wav
from tasks.methods import GAUSSIAN_TALKER
from tasks.places import Keys, Places

SHORT = 30  # frames of the hen's clip, of the egg's 44
HEN, HENS_SOUND = Keys("hen"), Keys("hen", "logmel")
SPEAK = dataclasses.replace(PARAMS["gt_motion"].phase, steps=12, frames=40)
TAUGHT = PARAMS["gt_motion"].model_copy(update={"speakers": ("hen",), "phase": SPEAK})
pytestmark = pytest.mark.usefixtures("quiet_training")


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Places:
    """The egg, and a hen of research that has said the first 30 frames of the same."""
    places = make_bound_egg(tmp_path_factory.mktemp("both"))
    clip, audio = Clip.load(places.record("ingest", SPEAKER)), AudioFeatures.load(places.record("audio", KEYS))
    track = HeadTrack.load(places.record("track", SPEAKER))
    folder = places.record("ingest", HEN)
    folder.mkdir(parents=True)
    sound, cuts = clip.sound[: SHORT * 640], clip.cuts
    save_clip(folder, list(clip.frames)[:SHORT], speaker="hen", basis="research", sound=sound, cuts=cuts)
    save(dataclasses.replace(audio, values=audio.values[:SHORT]), places.record("audio", HENS_SOUND))
    rows = ("world_to_camera", "valid", "expression", "turns", "residual_px")
    save(
        dataclasses.replace(track, **{name: getattr(track, name)[:SHORT] for name in rows}), places.record("track", HEN)
    )
    record = places.speaker_record("egg").read_text().replace("egg", "hen").replace("synthetic\nsour", "research\nsour")
    places.speaker_record("hen").write_text(record + "research: {source: a farm, reason: to compare}\n")
    return places


@pytest.fixture(scope="module")
def taught(both) -> Weights:
    weights = Weights.load(run("gt_motion", both, TAUGHT))
    for stage in ("gt_renderer", "gt_inpaint"):
        params = PARAMS[stage]
        run(stage, both, params.model_copy(update={"phase": dataclasses.replace(params.phase, steps=2)}))
    return weights


def test_a_clip_shorter_than_a_window_teaches_beside_a_longer_one(taught):
    assert taught.config["speakers"] == ["egg", "hen"]
    assert taught.config["span"] == SHORT
    assert np.isfinite(taught.curves["loss"]).all()


def test_who_was_tracked_with_another_head_model_does_not_teach(both):
    track = HeadTrack.load(both.record("track", HEN))
    others = {"model": "flame2020"}, {"expression_names": ["other", *track.expression_names[1:]]}
    try:
        for other in others:
            save(dataclasses.replace(track, **other), both.record("track", HEN))
            with pytest.raises(InputError, match="hen cannot teach egg"):
                run("gt_motion", both, TAUGHT)
    finally:
        save(track, both.record("track", HEN))


def test_training_begins_anew_when_what_another_said_has_changed(both, taught, monkeypatch):
    class Killed(BaseException):
        pass

    class Deadly(training.Progress):
        def update(self, count=1, note=""):
            super().update(count, note)
            if self.done == 6:
                raise Killed

    audio = AudioFeatures.load(both.record("audio", HENS_SOUND))
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)
    try:
        for values, resumed in ((audio.values, 1), (audio.values + 1, 0)):
            with monkeypatch.context() as patch:
                patch.setattr(training, "Progress", Deadly)
                with pytest.raises(Killed):
                    run("gt_motion", both, TAUGHT)
            save(dataclasses.replace(audio, values=values), both.record("audio", HENS_SOUND))
            assert Weights.load(run("gt_motion", both, TAUGHT)).quality["resumed"] == resumed
    finally:
        save(audio, both.record("audio", HENS_SOUND))
        save(taught, both.record("gt_motion", KEYS))


def test_what_a_head_says_bears_the_mark_of_who_taught_it(both, taught, tmp_path):
    rendering = Rendering.load(run("gt_render", both))
    assert rendering.quality["teachers"] == ["research"]
    write_wav(tmp_path / "words.wav", (np.random.default_rng(0).normal(0, 3000, 6400)).astype(np.int16))
    talker = say.talker_of(both, "egg", "logmel", GAUSSIAN_TALKER)
    (said,) = say.say(talker, [tmp_path / "words.wav"], tmp_path / "words.mp4")
    assert said.error is None
    for video in (both.preview("gt_render", KEYS) / "result.mp4", said.video):
        with av.open(str(video)) as container:
            assert "private evaluation only" in container.metadata["comment"]


def test_nothing_is_said_by_a_head_whose_teacher_is_not_known_any_more(both, taught):
    record = both.speaker_record("hen")
    kept = shutil.move(record, record.with_suffix(".kept"))
    try:
        with pytest.raises(UsageError, match="no speaker 'hen'"):
            run("gt_render", both)
    finally:
        shutil.move(kept, record)
