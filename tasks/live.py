"""Pictures of a head while somebody speaks: sound comes in as it is recorded, pictures go out 0.3 s later.

    from tasks.live import stream
    from tasks.talker import Talker

    talker = Talker.load(Path("alice.safetensors"))        # of `gausstalk export`; or Talker.of(places, "alice")
    for picture in stream(talker, microphone()):           # int16 samples at 16 kHz, in chunks of any size
        show(picture)                                      # [H, W, 3] uint8 RGB, 25 a second

A recording's features are normalised by the recording as a whole, which live sound does not have. Here they are
normalised by a scale that is given beforehand: that of the speaker's own sound, in which the head has learnt to listen,
or one that was measured on some seconds of the voice and the microphone that will be heard (`models.audio.Measured`).
With the same scale, the pictures are those of `say`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from models.audio import Measured, names
from models.audio import extractor as find_extractor
from models.errors import UsageError
from models.methods.audio_encoder import NEIGHBOURS
from tasks.acting import Acting, perform
from tasks.gt_talker import GaussianTalker
from tasks.media import draw_mark
from tasks.people import Basis, Drive, Speaker, mark_of
from tasks.speaking import speak
from tasks.speech_features import SAMPLE_RATE, Hearing
from tasks.talker import Talker
from tasks.talking_head import TalkingHead

SAMPLES = 640  # a picture


def stream(
    talker: Talker | GaussianTalker,
    chunks: Iterable[np.ndarray],
    acting: Acting = Acting(),  # noqa: B008 - it is frozen
    followed: Iterable[Speaker | Drive] = (),
    scale: Any = None,
    device: str = "cpu",
    head: TalkingHead | None = None,
) -> Iterator[np.ndarray]:
    """Yield pictures as soon as enough sound has come for them, marked as those of `say` are.

    Picture t stands for the instant t / 25 s. It comes when the sound until `look_ahead` samples after that instant has
    been given. What is held in memory is half a second of sound and the chunk that came last. When the sound ends, the
    pictures that it still needs come at once: as many altogether as `say` gives for it.

    Args:
        talker: whose head.
        chunks: int16 `[n]` mono at 16 kHz.
        acting: what the head does besides.
        followed: other people whose motion that takes.
        scale: of the sound that will come; None: that of the speaker's own.
        device: of torch.
        head: the talker's head, where it has been loaded already.

    Raises:
        UsageError: the head hears by an extractor that needs the whole recording, or is none of TalkingGaussian's.
    """
    if not isinstance(talker, Talker):
        why = "its motion translator hears two seconds before and after each moment"
        raise UsageError(
            f"{talker.name}: GaussianTalker cannot follow live sound yet", why, "say takes whole recordings"
        )
    hearing = _hearing(talker, device)
    heard = _features(chunks, hearing, talker.scale if scale is None else scale)
    bases: list[Basis] = [talker.person.basis, *(person.basis for person in followed)]
    pictures = speak(head or TalkingHead(talker.weights, device), perform(talker.scene, acting), _neighbours(heard))
    return (draw_mark(picture, mark_of(*bases)) for picture in pictures)


def look_ahead(talker: Talker) -> int:
    """Return how many samples after its instant a picture waits for: 4720 with log-mel features, 0.295 s.

    Half of a frame's window of features, and three more frames of which the head hears the windows as well.
    """
    return _reach(_hearing(talker, "cpu")) + NEIGHBOURS[1] * SAMPLES


def _hearing(talker: Talker, device: str) -> Hearing:
    hearing = Hearing.open(talker.extractor, talker.audio, device=device)
    if not isinstance(hearing.module, Measured):
        able = [name for name in names() if isinstance(find_extractor(name), Measured)]
        raise UsageError(
            f"{talker.extractor} cannot follow live sound",
            "its features depend on the whole recording",
            f"train a head for one of: {', '.join(able)}",
        )
    return hearing


def _reach(hearing: Hearing) -> int:
    assert isinstance(hearing.module, Measured)
    return hearing.module.reach(hearing.window)


def _features(chunks: Iterable[np.ndarray], hearing: Hearing, scale: Any) -> Iterator[np.ndarray]:
    """Yield the features `[D, W]` of each frame as soon as all sound that it hears is there."""
    reach = _reach(hearing)
    margin = -(-reach // SAMPLES)  # frames
    sound = np.zeros(margin * SAMPLES, np.int16)  # before the recording there is silence
    done, received = 0, 0  # frames, samples

    def until(end: int) -> np.ndarray:
        """Return what frames `done` to `end` - 1 hear; `sound` begins `margin` frames before the first of them."""
        count = end - done
        return hearing.windows(sound, count + 2 * margin, scale)[margin : margin + count]

    for piece in _pieces(chunks):
        sound = np.concatenate([sound, piece])
        received += len(piece)
        end = max(done, (received - reach) // SAMPLES + 1)
        if end > done:
            yield from until(end)
            sound, done = sound[(end - done) * SAMPLES :], end
    end = max(1, round(received / SAMPLES))
    if end > done:
        yield from until(end)


def _pieces(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Cut chunks into pieces of at most a second, so that memory does not grow with them."""
    for chunk in chunks:
        if chunk.dtype != np.int16 or chunk.ndim != 1:
            raise UsageError(f"a chunk of sound is {chunk.dtype} {chunk.shape}", "int16 samples [n] are expected")
        for start in range(0, len(chunk), SAMPLE_RATE):
            yield chunk[start : start + SAMPLE_RATE]


def _neighbours(features: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
    """Yield the features of each frame with those of its neighbours, `[8, D, W]`; at the ends the last one is held."""
    before, after = -NEIGHBOURS[0], NEIGHBOURS[1]
    held: deque[np.ndarray] = deque(maxlen=before + 1 + after)
    for values in _held_on(features, after):
        held.extend([values] * (1 if held else before + 1))
        if len(held) == held.maxlen:
            yield torch.from_numpy(np.stack(held))


def _held_on(features: Iterable[np.ndarray], more: int) -> Iterator[np.ndarray]:
    """Yield `features`, then the last of them `more` times again."""
    values = None
    for values in features:
        yield values
    if values is not None:
        yield from [values] * more
