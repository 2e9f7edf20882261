"""GaussianTalker: from sound to expression and jaw of a speaker's head model.

All speakers that are named teach the encoder what is said; then it is held, and the speaker's own embedding, decoder
and perceptron go on alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from models.errors import InputError
from models.methods.gaussian_talker_config import TranslatorConfig
from models.methods.gaussian_talker_phases import TranslatorPhase
from models.methods.gaussian_talker_presets import presets_of
from models.records import TEST, TRAIN, AudioFeatures, Clip, HeadTrack, Weights
from models.schedule import frozen_at, weights_at
from models.storage import RECORD_FILE, read_header
from tasks.params import Params, load_params
from tasks.people import load_speaker
from tasks.speech_features import AudioParams, Hearing
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from torch import Tensor

    from models.methods.gaussian_talker import Mouthing
    from models.methods.gaussian_talker_networks import Translator
    from tasks.gt_head import SpeakersFace

LEAST_KNOWN = 0.5  # of a window's frames, for it to be learnt from
SHORTEST = 25  # frames to learn from, at least
MEASURED = 1000  # of the training frames, at most, tell how far lips open
MOST_GAIN = 2.0  # of what is spoken


class TranslatorParams(Params):
    """How the motion translator is built and taught. Sizes of the paper: width 512, inner 1024."""

    seed: int = Field(0, ge=0)
    speakers: tuple[str, ...] = ()  # who else teaches the encoder, tracked with the same head model
    width: int = Field(128, ge=8, le=4096, multiple_of=2)
    inner: int = Field(256, ge=8, le=16384)
    heads: int = Field(4, ge=1, le=64)
    encoder_layers: int = Field(2, ge=1, le=32)  # the paper: 4
    decoder_layers: int = Field(1, ge=1, le=32)
    mlp_layers: int = Field(3, ge=1, le=32)
    dropout: float = Field(0.1, ge=0, lt=1)
    around: int | None = Field(1, ge=0)  # frames to either side that each layer attends to; None: all of a window
    reach: int = Field(1, ge=0)  # frames to either side that a frame of motion attends to in the sound
    causal: bool = False  # True: nothing is heard that is to come, but by what makes the features
    phase: TranslatorPhase = TranslatorPhase()

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> TranslatorParams:
        if self.width % self.heads:
            raise ValueError(f"the width, {self.width}, is shared by the heads: a multiple of {self.heads}")
        return self


STAGE = Stage(
    name="gt_motion",
    per=("speaker", "extractor"),
    params=TranslatorParams,
    presets=presets_of("gt_motion"),
    reads=("ingest", "track", "audio"),
    gives=Weights,
    method="gaussian_talker",
)


@dataclass(frozen=True)
class Speech:
    """What one speaker said, in several voices, and how the face moved."""

    name: str
    face: SpeakersFace
    voices: Tensor  # [1 + n, T, 2 D] features of the sound itself, then of disguised copies
    mouthing: Mouthing
    truth: Tensor  # [T, O]
    true_vertices: Tensor  # [T, V, 3]
    known: Tensor  # [T] 1 where there is something to learn
    follows: Tensor  # [T] bool, the frame before is of the same shot
    starts: np.ndarray  # first frames of the windows that are drawn

    def landmarks(self, numbers: Tensor, frames: Tensor) -> np.ndarray:
        """Return the landmarks `[T, L, 3]` of spoken numbers `[T, O]` in some frames `[T]` of the clip, metres."""
        model = self.face.model
        expression, jaw = (part.cpu().numpy() for part in self.mouthing.coefficients(numbers, frames))
        turns = None if model.skeleton is None else model.skeleton.turns(jaw)
        return model.landmarks(self.mouthing.identity.cpu().numpy(), expression, turns)

    def opening(self, landmarks: np.ndarray) -> np.ndarray:
        """Return how far the lips are open `[T]`, metres, of landmarks `[T, L, 3]`."""
        from models.heads.mediapipe_points import LIP_PAIRS

        pairs = landmarks[:, self.face.model.pair_rows(LIP_PAIRS)]
        return np.linalg.norm(np.diff(pairs, axis=2)[:, :, 0], axis=-1).mean(1)


def run(context: Context[TranslatorParams]) -> Weights:
    """Teach the translator by the training frames."""
    import torch

    from models.methods import gaussian_talker as method
    from models.methods.gaussian_talker_networks import Translator
    from tasks.training import prepare, total_of, train

    device = prepare(context)
    torch.set_num_threads(context.threads)  # nothing else computes here
    params, phase, own = context.params, context.params.phase, str(context.keys.speaker)
    names = [own, *(name for name in params.speakers if name != own)]
    sound = context.read(AudioFeatures, "audio")
    tracks = {name: context.read(HeadTrack, "track", speaker=name) for name in names}
    _check_head_models(tracks)
    length = min(phase.frames, *(len(track.valid) for track in tracks.values()))  # windows of a step are one batch
    talks = [_speech(context, name, track, length, device) for name, track in tracks.items()]
    config = TranslatorConfig(
        audio_size=sound.values.shape[1],
        outputs=talks[0].truth.shape[1],
        speakers=tuple(names),
        span=length,
        **params.model_dump(exclude={"seed", "speakers", "phase"}),
    )
    torch.manual_seed(params.seed)
    translator = Translator(config)
    translator.mean.copy_(torch.from_numpy(np.tile(sound.mean, 2)))
    translator.deviation.copy_(torch.from_numpy(np.tile(sound.deviation, 2)))
    for number, talk in enumerate(talks):
        learnt = talk.truth[talk.known > 0]
        translator.rest[number] = learnt.mean(0).cpu()
        translator.spread[number] = learnt.std(0).clamp(min=1e-3).cpu()
    translator.to(device)
    learner = TranslatorLearner(translator, phase)

    def step(number: int) -> dict[str, float]:
        progress, on = number / phase.steps, weights_at(phase, number)
        frozen = frozen_at(phase.frozen, progress)
        # Everything random is drawn anew from the step's number, so that a resumed run needs no states of generators.
        random = np.random.default_rng((params.seed, number))
        torch.manual_seed(int(random.integers(2**62)))
        chosen = [_draw(talks if on["others"] else talks[:1], random) for _ in range(phase.windows)]
        parts = [_tokens(talk, slice(start, start + length), phase.disguised, random) for talk, start in chosen]
        noise = phase.audio_noise * translator.deviation
        heard, again = (torch.stack([part[which] for part in parts]) for which in (0, 1))
        for shape in (heard[:, :1].shape, heard.shape):  # of a window as a whole, and of every number by itself
            heard = heard + noise * torch.randn(shape).to(noise)
        who = torch.tensor([names.index(talk.name) for talk, _ in chosen], device=device)
        with torch.set_grad_enabled("encoder" not in frozen):
            content = translator.encode(heard)
            other = translator.encode(again) if on["latent"] and "encoder" not in frozen else None
        motion = translator.decode(content, who)
        terms: dict[str, Any] = {}
        for (talk, start), numbers in zip(chosen, motion, strict=True):
            frames = torch.arange(start, start + len(numbers), device=device)
            found = method.motion_losses(
                numbers,
                talk.truth[frames],
                talk.mouthing.vertices(numbers, frames),
                talk.true_vertices[frames],
                talk.known[frames],
                talk.follows[frames],
                torch.where(talk.mouthing.lips, phase.lips, 1.0),
                on,
            )
            terms = {name: terms.get(name, 0) + value / phase.windows for name, value in found.items()}
        if other is not None:
            terms["latent"] = on["latent"] * method.latent_distance(content, other)
        total, values = total_of(terms)
        total.backward()
        learner.step(progress, frozen)
        return values

    outcome = train(context, f"translator{_key_of(context, names[1:])}", phase.steps, step, {"learner": learner})
    translator.eval()
    gain = _open_as_far(translator, talks[0], torch.from_numpy(sound.values), phase.opening)
    tensors = {name: tensor.cpu().numpy().copy() for name, tensor in translator.state_dict().items()}
    quality = {**outcome.quality(gain=round(gain, 4)), **_check(context, translator, talks[0])}
    return Weights("gaussian_talker", "motion", config.as_record(), tensors, outcome.curves, quality)


class TranslatorLearner:
    """Trains the translator with AdamW, the encoder at a rate of its own."""

    def __init__(self, translator: Translator, phase: TranslatorPhase) -> None:
        import torch

        self.translator, self.rates = translator, phase.rates
        groups = [{"params": part, "lr": 0.0} for part in (translator.universal, translator.own)]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=phase.rates.decay, fused=True)

    def step(self, progress: float, frozen: frozenset[str]) -> None:
        """Use up the gradients, at `progress` 0..1; a frozen encoder has none."""
        from models.schedule import factor_at

        factor = factor_at(self.rates.curve, progress)
        for group, rate in zip(self.optimizer.param_groups, (self.rates.encoder, self.rates.own), strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return networks and optimiser."""
        return {"translator": self.translator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.translator.load_state_dict(state["translator"])
        self.optimizer.load_state_dict(state["optimizer"])


def _check_head_models(tracks: Mapping[str, HeadTrack]) -> None:
    """Refuse speakers whose coefficients mean other things than those of the first, who is to speak.

    Raises:
        InputError: one was tracked with another head model.
    """
    own, *others = tracks
    wanted = tracks[own].model, tracks[own].expression_names
    for name in others:
        if (tracks[name].model, tracks[name].expression_names) != wanted:
            raise InputError(
                f"{name} cannot teach {own}: tracked with {tracks[name].model}, not with {wanted[0]}",
                "the coefficients of one head model mean nothing to another",
                f"give both the same head_model in data/speakers, or take {name} out of gt_motion: speakers",
            )


def _key_of(context: Context[TranslatorParams], others: Sequence[str]) -> str:
    """Return what tells checkpoints apart that other people's records have taught; empty where nobody else teaches."""
    paths = [
        context.places.record(stage, context.keys_of(stage, speaker=name)) / RECORD_FILE
        for name in others
        for stage in STAGE.reads
    ]
    digest = hashlib.sha256(json.dumps([read_header(path) for path in paths]).encode())
    return f"-{digest.hexdigest()[:8]}" if paths else ""


def _speech(context: Context[TranslatorParams], name: str, track: HeadTrack, length: int, device: str) -> Speech:
    """Read what a speaker said, to be drawn in windows of `length` frames.

    Raises:
        InputError: there is too little to learn from.
    """
    import torch

    from models.methods.gaussian_talker_networks import tokens_of
    from models.voice import disguise
    from tasks.gt_head import SpeakersFace

    clip, audio = context.read(Clip, "ingest", speaker=name), context.read(AudioFeatures, "audio", speaker=name)
    face = SpeakersFace.of(context.places, load_speaker(context.places, name), track, device)
    mouthing = face.mouthing()
    known = track.valid & (clip.split == TRAIN)
    if known.sum() < SHORTEST:
        raise InputError(
            f"{name}: {int(known.sum())} frames to learn speech from",
            f"at least {SHORTEST} training frames with a face are needed",
            "record a longer clip",
        )
    count = len(known)
    share = np.convolve(known, np.ones(length), "valid") / length
    follows = np.ones(count, bool)
    follows[[0, *map(int, clip.cuts), *track.cuts]] = False
    hearing = Hearing.open(str(context.keys.extractor), load_params(context.places.params, "audio", AudioParams))
    seeds = (context.params.seed + number for number in range(1, context.params.phase.voices + 1))
    copies = [hearing.windows(disguise(clip.sound, seed), count) for seed in seeds]
    with torch.no_grad():
        truth = mouthing.truth
        vertices = mouthing.vertices(truth, torch.arange(count, device=device))
    return Speech(
        name=name,
        face=face,
        voices=torch.stack([tokens_of(torch.from_numpy(values)) for values in (audio.values, *copies)]).to(device),
        mouthing=mouthing,
        truth=truth,
        true_vertices=vertices,
        known=torch.from_numpy(known.astype(np.float32)).to(device),
        follows=torch.from_numpy(follows).to(device),
        starts=np.flatnonzero(share >= min(LEAST_KNOWN, share.max())),
    )


def _draw(talks: Sequence[Speech], random: np.random.Generator) -> tuple[Speech, int]:
    """Return a speaker and the first frame of one of the windows, all speakers' windows alike."""
    place = int(random.integers(sum(len(talk.starts) for talk in talks)))
    for talk in talks:
        if place < len(talk.starts):
            return talk, int(talk.starts[place])
        place -= len(talk.starts)
    raise AssertionError


def _tokens(talk: Speech, window: slice, disguised: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return features `[n, 2 D]` as they are heard, `disguised` of them in another voice, and in one more voice."""
    count = len(talk.voices)
    voice = int(random.integers(1, count)) if count > 1 and random.random() < disguised else 0
    other = (voice + int(random.integers(1, max(2, count)))) % count
    return talk.voices[voice, window], talk.voices[other, window]


def _open_as_far(translator: Translator, talk: Speech, values: Tensor, share: float) -> float:
    """Let lips open `share` times as far as the tracked ones do in the training frames, and return the gain.

    A regression says less the less it knows, and lips that open less than they should look like mumbling. Statistical
    speech synthesis scales what is predicted to its natural variance (Toda and Tokuda, "A speech parameter generation
    algorithm considering global variance", 2007); so do we, by one gain over all that is spoken. It has a limit: what
    next to nothing was learnt of would be blown up.
    """
    import torch

    frames = torch.nonzero(talk.known)[:, 0]
    frames = frames[:: math.ceil(len(frames) / MEASURED)]
    spoken = translator.speak(values, 0)[frames]
    true, found = (float(talk.opening(talk.landmarks(part, frames)).std()) for part in (talk.truth[frames], spoken))
    if not share or not min(true, found) > 0:  # NaN where a head model has no such landmarks
        return 1.0
    gain = min(share * true / found, MOST_GAIN)
    translator.spread[0] *= gain
    return gain


def _check(context: Context[TranslatorParams], translator: Translator, talk: Speech) -> dict[str, float]:
    """Translate the test part's sound, and compare lips with the tracked ones: in millimetres, and as they open.

    Beside them stands what a still mouth would give, the mean of the training frames.
    """
    import torch

    from models.heads.mediapipe_points import LIP_POINTS

    clip, track = context.read(Clip, "ingest"), context.read(HeadTrack, "track")
    frames = np.flatnonzero((clip.split == TEST) & track.valid)
    if len(frames) < 2:
        return {}
    values = context.read(AudioFeatures, "audio").values
    first, end = int(frames[0]), int(frames[-1]) + 1
    rows, place = talk.face.model.rows_of(LIP_POINTS), torch.from_numpy(frames).to(talk.truth.device)
    spoken = translator.speak(torch.from_numpy(values[first:end]), 0)[place - first]
    still = talk.truth[talk.known > 0].mean(0).expand_as(spoken)
    true, found, rest = (talk.landmarks(numbers, place) for numbers in (talk.truth[place], spoken, still))

    def error(points: np.ndarray) -> float:
        return 1000 * float(np.linalg.norm(points[:, rows] - true[:, rows], axis=-1).mean())

    wanted, given = (talk.opening(points) for points in (true, found))
    figures = {"lips_mm": error(found), "still_lips_mm": error(rest)}
    if min(wanted.std(), given.std()) > 0:
        figures |= {
            "opening_r": float(np.corrcoef(wanted, given)[0, 1]),
            "opening_amplitude": float(given.std() / wanted.std()),
        }
    return {f"test_{name}": round(value, 4) for name, value in figures.items()}


if __name__ == "__main__":
    main(STAGE, run)
