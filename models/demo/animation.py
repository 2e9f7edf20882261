"""Motion of a speaking head: mouth from the phonemes, and the small movements that people make while they talk."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.demo.expression import NAMES
from models.demo.fields import Array, Value
from models.demo.speech import Phoneme, Speech
from models.demo.visemes import MOUTH, VOWELS, mouth_track

COEFFICIENTS: tuple[str, ...] = (*NAMES, "tongue_up", "tongue_forward")
_COLUMN = {name: i for i, name in enumerate(COEFFICIENTS)}
PIVOT = np.array([0.0, -105.0, -30.0])  # mm: the head turns about the top of the spine
GAZE_RANGE = np.radians(30.0)  # the angle that counts as 1 in the four gaze numbers

# Action units that the coefficients drive one to one, with their gain to the FACS intensity 0..5.
_UNITS: dict[str, tuple[tuple[str, float], ...]] = {
    "AU01": (("brow_in", 5.0),),
    "AU02": (("brow_up", 5.0),),
    "AU04": (("brow_down", 5.0),),
    "AU06": (("squint", 5.0),),
    "AU10": (("upper_lip", 5.0),),
    "AU12": (("smile", 5.0),),
    "AU16": (("lower_lip", 5.0),),
    "AU18": (("round", 5.0),),
    "AU20": (("spread", 5.0),),
    "AU24": (("press", 5.0),),
    "AU26": (("jaw", 8.0),),
}


@dataclass(frozen=True)
class Animation:
    """Everything that moves, per frame."""

    coefficients: Array  # [T, len(COEFFICIENTS)] float32, 0..1
    rotation: Array  # [T, 3] yaw (to the subject's left), pitch (down), roll, radians
    translation: Array  # [T, 3] mm, of the pivot
    gaze: Array  # [T, 2] of the eyes in the head: yaw to the subject's left, pitch down, radians
    fps: float

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.coefficients)

    def coefficient(self, name: str) -> Array:
        """One coefficient over time [T]."""
        return self.coefficients[:, _COLUMN[name]]

    def head_to_pivot(self) -> Array:
        """Rigid motion of the skull [T, 4, 4] in mm: from the head frame to a frame at rest in the room."""
        turn = rotation_matrix(*self.rotation.T)
        motion = np.tile(np.eye(4), (len(self), 1, 1))
        motion[:, :3, :3] = turn
        motion[:, :3, 3] = PIVOT + self.translation - turn @ PIVOT
        return motion

    def action_units(self) -> dict[str, Array]:
        """FACS intensities 0..5, each [T] float32."""
        units = {
            name: np.clip(sum(gain * self.coefficient(c) for c, gain in parts), 0.0, 5.0)
            for name, parts in _UNITS.items()
        }
        # Parted lips (AU25): whatever opens the mouth, unless the lips are sealed.
        opening = 12 * self.coefficient("jaw") + 4 * (self.coefficient("upper_lip") + self.coefficient("lower_lip"))
        units["AU25"] = np.clip(opening * (1 - self.coefficient("seal")), 0.0, 5.0)
        units["AU45"] = np.clip(2.5 * (self.coefficient("blink_left") + self.coefficient("blink_right")), 0.0, 5.0)
        return {name: units[name].astype(np.float32) for name in sorted(units)}

    def gaze_numbers(self) -> Array:
        """Gaze as four numbers 0..1 [T, 4]: down, up, to the subject's right, to the subject's left."""
        yaw, pitch = (self.gaze / GAZE_RANGE).T
        return np.clip(np.stack([pitch, -pitch, -yaw, yaw], axis=1), 0.0, 1.0).astype(np.float32)


def rotation_matrix(yaw: Value, pitch: Value, roll: Value) -> Array:
    """Rotations [..., 3, 3]: roll about z first, then pitch about x, then yaw about y."""
    yaw, pitch, roll = np.broadcast_arrays(yaw, pitch, roll)
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*rows: Array) -> Array:
        return np.stack(rows, axis=-1).reshape(*yaw.shape, 3, 3)

    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_x = matrix(one, zero, zero, zero, cp, -sp, zero, sp, cp)
    about_z = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return about_y @ about_x @ about_z


def still(frames: int = 1, **coefficients: float) -> Animation:
    """A motionless head with the given coefficients: for tests, pictures and the neutral frame.

    Raises:
        KeyError: no such coefficient.
    """
    values = np.zeros((frames, len(COEFFICIENTS)), np.float32)
    for name, value in coefficients.items():
        values[:, _COLUMN[name]] = value
    return Animation(values, np.zeros((frames, 3)), np.zeros((frames, 3)), np.zeros((frames, 2)), 25.0)


def animate(speech: Speech | list[Phoneme], duration_s: float, fps: float = 25.0, seed: int = 0) -> Animation:
    """Move a head to speech.

    Args:
        speech: a synthesised text, or its phonemes.
        duration_s: length of the clip; frame t stands for the instant t / fps.
        fps: frames a second.
        seed: of everything that is not speech: blinks, brows, head, gaze.
    """
    phonemes = speech.phonemes if isinstance(speech, Speech) else speech
    frames = round(duration_s * fps)
    times = np.arange(frames) / fps
    generator = np.random.default_rng(seed)
    tracks = dict(zip(MOUTH, mouth_track(phonemes, times).T, strict=True))
    tracks["blink_left"] = _blinks(times, duration_s, generator)
    tracks["blink_right"] = 0.98 * tracks["blink_left"]

    stressed = [p for p in phonemes if p.stressed and p.symbol and p.symbol[0] in VOWELS]
    nod, brows = np.zeros(frames), np.zeros(frames)
    last_raise = -9.0
    for p in stressed:
        nod += np.radians(generator.uniform(0.3, 1.6)) * _bump(times - 0.5 * (p.start_s + p.end_s) - 0.04, 0.10, 0.16)
        if p.start_s - last_raise > 1.2 and generator.random() < 0.45:
            brows = np.maximum(brows, generator.uniform(0.35, 0.9) * _bump(times - p.start_s, 0.14, 0.32))
            last_raise = p.start_s
    frown = np.zeros(frames)
    for _ in range(int(duration_s / 7) + 1):
        at = generator.uniform(0, duration_s)
        frown = np.maximum(frown, generator.uniform(0.15, 0.45) * _bump(times - at, 0.3, 0.5))
    tracks["brow_up"], tracks["brow_in"] = brows, 0.8 * brows
    tracks["brow_down"] = frown * (1 - brows)
    smile = np.clip(0.22 + _wander(frames, fps, 0.10, 0.10, generator), 0.0, 0.5)
    tracks["squint"] = 0.8 * smile
    tracks["smile"] = smile * (1 - 0.6 * np.clip(tracks["round"], 0, 1))

    def drift(hertz: float, deviation: float) -> Array:
        return _wander(frames, fps, hertz, deviation, generator)

    degree = np.pi / 180
    yaw = drift(0.22, 4.0 * degree) + drift(0.7, 0.7 * degree)
    pitch = drift(0.25, 1.5 * degree) + drift(0.9, 0.4 * degree) + nod
    roll = drift(0.2, 1.7 * degree)
    translation = np.stack([drift(0.2, 3.0), drift(0.25, 1.0), drift(0.15, 3.0)], axis=1)
    # The eyes hold their target while the head moves: they turn against it.
    gaze = _saccades(frames, fps, generator) - 0.9 * np.stack([yaw, pitch], axis=1)
    coefficients = np.clip(np.stack([tracks[name] for name in COEFFICIENTS], axis=1), 0.0, 1.0)
    return Animation(
        coefficients.astype(np.float32), np.stack([yaw, pitch, roll], axis=1), translation, gaze, float(fps)
    )


def _bump(x: Array, rise_s: float, fall_s: float) -> Array:
    return np.exp(-0.5 * (x / np.where(x < 0, rise_s, fall_s)) ** 2)


def _wander(frames: int, fps: float, hertz: float, deviation: float, generator: np.random.Generator) -> Array:
    """Smooth noise [T] with zero mean, the given standard deviation and cut-off frequency."""
    margin = 200
    noise = gaussian_filter1d(generator.normal(size=frames + 2 * margin), fps / (2 * np.pi * hertz))
    # Normalised over the margins too: a short clip shows a stretch of the motion, not the whole of its range.
    return ((noise - noise.mean()) / noise.std())[margin : margin + frames] * deviation


def _blinks(times: Array, duration_s: float, generator: np.random.Generator) -> Array:
    """Lid closure 0..1: 80 ms down, 50 ms shut, 190 ms up, about every three seconds, sometimes double."""
    closure = np.zeros(len(times))
    at = generator.uniform(0.6, 1.6)
    while at < duration_s:
        x = times - at
        down = 1 - (np.clip(-0.02 - x, 0, 0.08) / 0.08) ** 2
        up = (1 - np.clip(x - 0.03, 0, 0.19) / 0.19) ** 1.6
        closure = np.maximum(closure, np.minimum(down, up))
        at += 0.28 if generator.random() < 0.08 else max(1.0, generator.lognormal(np.log(3.0), 0.45))
    return closure


def _saccades(frames: int, fps: float, generator: np.random.Generator) -> Array:
    """Where the eyes look relative to the camera [T, 2], radians: fixations of 0.5 to 2.2 s."""
    gaze = np.zeros((frames, 2))
    start = 0
    while start < frames:
        end = start + max(1, int(generator.uniform(0.5, 2.2) * fps))
        away = generator.random() < 0.22
        gaze[start:end] = generator.normal(0, (0.13, 0.06) if away else (0.02, 0.012))
        start = end
    return gaze
