"""What stages hand to each other: frozen, shape-checked records, keyed by the frame index.

A field made with `array("T", 478, 2)` is a numpy array of that shape; a letter stands for the same length wherever it
occurs in a record. Frames, landmarks and poses follow CONVENTIONS.md.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from models.errors import InputError, UsageError
from models.storage import RECORD_FILE, FrameStore, load_arrays, save_arrays

TRAIN, VALIDATION, TEST = 0, 1, 2


def array(*shape: str | int, dtype: str = "float32") -> Any:
    """Declare a record's array field; "T" and the like are lengths that must agree within the record."""
    return field(metadata={"shape": shape, "dtype": dtype})


@dataclass(frozen=True, eq=False)
class Record:
    """Base of all records: arrays in one safetensors file, frame stores beside it, everything else in the header."""

    VERSION: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check types and shapes of all declared arrays.

        Raises:
            UsageError: an array has another type or shape than declared, or lengths disagree.
        """
        lengths: dict[str, int] = {}
        for spec in dataclasses.fields(self):
            if "shape" not in spec.metadata:
                continue
            value = getattr(self, spec.name)
            want, name = spec.metadata["shape"], f"{type(self).__name__}.{spec.name}"
            if not isinstance(value, np.ndarray):
                raise UsageError(f"{name}: a {type(value).__name__}, not an array")
            if value.dtype != np.dtype(spec.metadata["dtype"]):
                raise UsageError(f"{name}: {value.dtype}, not {spec.metadata['dtype']}")
            if len(value.shape) != len(want):
                raise UsageError(f"{name}: shape {value.shape}, not {want}")
            for length, symbol in zip(value.shape, want, strict=True):
                expected = lengths.setdefault(symbol, length) if isinstance(symbol, str) else symbol
                if length != expected:
                    raise UsageError(f"{name}: shape {value.shape}, not {want} with {symbol}={expected}")

    def save(self, folder: Path) -> None:
        """Write the record into `folder`; its frame stores must already lie there under their field's name."""
        arrays: dict[str, np.ndarray] = {}
        meta: dict[str, Any] = {}
        stores: dict[str, str] = {}
        files: dict[str, dict[str, int]] = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, FrameStore):
                if value.path.resolve() != store_path(folder, spec.name).resolve():
                    raise UsageError(f"{type(self).__name__}.{spec.name}: stored at {value.path}, not in {folder}")
                stores[spec.name], files[spec.name] = value.digest(), value.sizes()
            elif "shape" in spec.metadata:
                arrays[spec.name] = value
            elif spec.metadata.get("tensors"):
                arrays.update({f"{spec.name}/{key}": tensor for key, tensor in value.items()})
            else:
                meta[spec.name] = value
        told = {"fields": meta, "stores": stores, "files": files}
        save_arrays(folder / RECORD_FILE, arrays, type(self).__name__, self.VERSION, told)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the record that lies in `folder`.

        Raises:
            InputError: it is missing, damaged, of another kind or version.
        """
        path = folder / RECORD_FILE
        if not path.is_file():
            raise InputError(f"{folder}: no {cls.__name__} here", "", "run the stage that makes it: dvc repro")
        arrays, meta = load_arrays(path, cls.__name__, cls.VERSION)
        values: dict[str, Any] = dict(meta["fields"])
        for spec in dataclasses.fields(cls):
            if spec.name in meta["stores"]:
                store = values[spec.name] = FrameStore(store_path(folder, spec.name))
                store.check(meta.get("files", {}).get(spec.name, {}))  # older records do not tell them
            elif "shape" in spec.metadata:
                values[spec.name] = arrays[spec.name]
            elif spec.metadata.get("tensors"):
                prefix = f"{spec.name}/"
                values[spec.name] = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        return cls(**values)


def store_path(folder: Path, field_name: str) -> Path:
    """Return where the frame store of a record's field lies."""
    return folder / f"{field_name}.zarr"


@dataclass(frozen=True, eq=False)
class Clip(Record):
    """The footage of one speaker at 25 frames a second, cropped to a square, with 16 kHz mono sound."""

    VERSION: ClassVar[int] = 2

    speaker: str
    basis: str  # consent, synthetic or research
    fps: float
    sample_rate: int
    frames: FrameStore  # [T, H, W, 3] uint8
    sound: np.ndarray = array("S", dtype="int16")
    cuts: np.ndarray = array("C", dtype="int32")  # first frame of each new shot
    split: np.ndarray = array("T", dtype="int8")  # TRAIN, VALIDATION or TEST
    intact: np.ndarray = array("T", dtype="bool")  # whether the frame shows anything; damaged ones stay in their place
    sources: list[dict[str, Any]] = field(
        default_factory=list
    )  # file, sha256, first_frame, frames, original size and rate
    fitness: dict[str, Any] = field(default_factory=dict)  # what a person should know before training

    def __len__(self) -> int:
        return len(self.split)

    def indices(self, part: int) -> np.ndarray:
        """Return the frame indices of TRAIN, VALIDATION or TEST."""
        return np.flatnonzero(self.split == part)


@dataclass(frozen=True, eq=False)
class Landmarks(Record):
    """478 points in MediaPipe's numbering, in pixels of the clip, and blendshape scores where the source has them."""

    source: str
    points: np.ndarray = array("T", 478, 2)  # NaN where absent
    present: np.ndarray = array(478, dtype="bool")
    valid: np.ndarray = array("T", dtype="bool")
    blendshapes: np.ndarray = array("T", "B")  # B is 0 when the source has none
    blendshape_names: list[str] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # of the clip, and those seen as a jump of the face
    quality: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Masks(Record):
    """One label a pixel (models.parsing.labels)."""

    parser: str
    labels: FrameStore  # [T, H, W] uint8
    valid: np.ndarray = array("T", dtype="bool")
    quality: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Layers(Record):
    """What is behind the head: plates of the rooms, and torso and neck with what the head hides painted in."""

    VERSION: ClassVar[int] = 2

    torso: FrameStore  # [T, H, W, 4] uint8, straight alpha
    plates: np.ndarray = array("P", "H", "W", 3, dtype="uint8")
    plate_of: np.ndarray = array("T", dtype="int32")  # which of the plates is behind a frame
    quality: dict[str, Any] = field(default_factory=dict)

    def behind(self, frame: int, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Return torso over plate `[h, w, 3]` float32 in 0..1 of one frame, or of a part of it."""
        images = self.torso[frame], self.plates[self.plate_of[frame]]
        torso, plate = (image[rows, columns].astype(np.float32) / 255 for image in images)
        return over_plate(torso, plate)


def over_plate(torso: Any, plate: Any) -> Any:
    """Put `[..., 4]` straight colours and alpha over `[..., 3]`, arrays or tensors in 0..1."""
    return plate + torso[..., 3:] * (torso[..., :3] - plate)


@dataclass(frozen=True, eq=False)
class HeadTrack(Record):
    """Camera, pose, identity and expression of a head model for every frame."""

    VERSION: ClassVar[int] = 2

    model: str
    width: int
    height: int
    intrinsics: np.ndarray = array(3, 3)
    world_to_camera: np.ndarray = array("T", 4, 4)
    valid: np.ndarray = array("T", dtype="bool")  # frames in which the face was seen
    identity: np.ndarray = array("K")
    expression: np.ndarray = array("T", "E")
    turns: np.ndarray = array("T", "J", 3)  # rotation vectors of the model's joints, radians; J is 0 without joints
    landmark_index: np.ndarray = array("L", dtype="int32")  # MediaPipe numbers of the points below
    rest_landmarks: np.ndarray = array("L", 3)  # personal neutral face, metres
    residual_px: np.ndarray = array("T")
    expression_names: list[str] = field(default_factory=list)
    joint_names: list[str] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    quality: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RefinedPoses(Record):
    """Poses moved so that a static render of the head falls on the frame."""

    world_to_camera: np.ndarray = array("T", 4, 4)
    correction: np.ndarray = array("T", 4)  # dx, dy, roll and scale in pixels at 60 px from the pivot
    quality: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ActionUnits(Record):
    """Intensities 0..5 of facial action units and gaze 0..1."""

    VERSION: ClassVar[int] = 2

    source: str  # builtin, geometry or openface
    intensity: np.ndarray = array("T", "A")
    gaze: np.ndarray = array("T", 4)  # down, up, right, left
    measured: np.ndarray = array("T", dtype="bool")  # the other frames are interpolated
    names: list[str] = field(default_factory=list)  # "AU01", ...
    origins: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # of each: level of trust, source, whether it moves
    quality: dict[str, Any] = field(default_factory=dict)

    def columns(self, names: tuple[str, ...]) -> np.ndarray:
        """Return the intensities `[T, len(names)]` of the named units.

        Raises:
            UsageError: this source does not give one of them.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise UsageError(
                f"action units {', '.join(missing)} are not given by {self.source}", f"it gives {self.names}"
            )
        return self.intensity[:, [self.names.index(name) for name in names]]


@dataclass(frozen=True, eq=False)
class AudioFeatures(Record):
    """Speech features at 25 windows a second; window t is centred on the instant of frame t."""

    VERSION: ClassVar[int] = 2

    extractor: str
    revision: str
    rate_hz: float
    values: np.ndarray = array("T", "D", "W")  # frames, feature dimension, window
    mean: np.ndarray = array("D")  # over the frames that a head learns from; of a drive over all
    deviation: np.ndarray = array("D")  # above 0; what a head divides by
    seconds: float = 0.0
    entries_hz: float = 50.0  # how many entries of a window make a second
    quality: dict[str, Any] = field(default_factory=dict)  # shares of clipped samples and of silence, ...


@dataclass(frozen=True, eq=False)
class Weights(Record):
    """Parameters of a method after one of its stages, with the configuration that built them."""

    VERSION: ClassVar[int] = 2

    method: str
    phase: str
    config: dict[str, Any]
    tensors: dict[str, np.ndarray] = field(metadata={"tensors": True})
    curves: dict[str, list[float]] = field(default_factory=dict)  # "step", "loss", ...
    quality: dict[str, Any] = field(default_factory=dict)  # seconds, Gaussians, resumed, ...


@dataclass(frozen=True, eq=False)
class Rendering(Record):
    """Rendered frames of a trained head, lossless, and the controls that show what the sound is worth."""

    method: str
    variants: list[str]  # the names of the stores that are there, "full" first
    full: FrameStore  # [n, H, W, 3] uint8
    frame_index: np.ndarray = array("n", dtype="int32")  # which frame of the clip gave the pose
    motion_off: FrameStore | None = None
    mean_motion: FrameStore | None = None
    wrong_audio: FrameStore | None = None
    quality: dict[str, Any] = field(default_factory=dict)  # milliseconds a frame, ...


@dataclass(frozen=True, eq=False)
class Mouths(Record):
    """Small pictures of a speaker's mouth and the sound with them, from which the house's own SyncNet learns."""

    speaker: str
    pictures: np.ndarray = array("T", 48, 48, dtype="uint8")  # grey; black where none is seen
    seen: np.ndarray = array("T", dtype="bool")
    split: np.ndarray = array("T", dtype="int8")  # TRAIN, VALIDATION or TEST
    sound: np.ndarray = array("S", dtype="int16")  # 16 kHz
    cuts: np.ndarray = array("C", dtype="int32")  # first frame of each new shot


@dataclass(frozen=True, eq=False)
class Judge(Record):
    """Who reads landmarks of a speaker's true and rendered frames alike."""

    VERSION: ClassVar[int] = 2

    source: str  # personal (learnt from the training frames) or mediapipe
    enlarge: int  # frames are shown to mediapipe so many times larger
    learnt: dict[str, np.ndarray] = field(metadata={"tensors": True})  # of a personal one, else empty
    own: np.ndarray = array("n", dtype="int32")  # training frames of the clip, neighbours, to hold other speech against
    own_points: np.ndarray = array("n", 478, 2)  # read from them, in pixels; NaN where no face is found
    unseen: np.ndarray = array("m", dtype="int32")  # test frames, neighbours: for what has learnt from training frames
    unseen_points: np.ndarray = array("m", 478, 2)


@dataclass(frozen=True, eq=False)
class DemoTruth(Record):
    """What is known of the demo speaker because it was computed, for every frame of its video."""

    width: int
    height: int
    labels: FrameStore  # [T, H, W] uint8
    intrinsics: np.ndarray = array(3, 3)
    world_to_camera: np.ndarray = array("T", 4, 4)
    expression: np.ndarray = array("T", "E")
    landmarks_px: np.ndarray = array("T", 478, 2)  # NaN where absent
    landmarks_m: np.ndarray = array("T", 478, 3)  # in the head frame, expression included
    present: np.ndarray = array(478, dtype="bool")
    action_units: np.ndarray = array("T", "A")
    gaze: np.ndarray = array("T", 4)  # down, up, right, left
    expression_names: list[str] = field(default_factory=list)
    action_unit_names: list[str] = field(default_factory=list)
    phonemes: list[list[Any]] = field(default_factory=list)  # [start in seconds, end in seconds, IPA]
