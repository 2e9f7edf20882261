"""A trained head with everything that it needs to say something; from a project, or from one small file.

The file is what `gausstalk export` writes for other machines. It holds the weights, one still pose with the torso and
the room behind it, the expressions of the clip, the scale of the speaker's sound, and the record of the speaker: whose
likeness this is and on what basis it may be used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.audio import Measured
from models.audio import extractor as find_extractor
from models.errors import InputError
from models.methods.talking_gaussian_config import Config
from models.records import TRAIN, Clip, Weights
from models.storage import load_arrays, read_header, save_arrays
from tasks.acting import Acting, perform
from tasks.params import load_params, validate
from tasks.people import Speaker, check_basis
from tasks.places import Keys, Places
from tasks.rendering import RenderParams
from tasks.scene import Backdrop, Scene, Shot, blink_of
from tasks.speech_features import AudioParams
from tasks.talking_head import TalkingHead
from tasks.trained import heard_by, speaker_with_head

log = logging.getLogger("gausstalk")

SCHEMA, VERSION = "Head", 2
LARGEST = 30_000_000  # bytes of the file; numbers of a larger one are halved
ARRAYS = ("intrinsics", "pose", "behind", "expression")


@dataclass(frozen=True)
class Talker:
    """Who can say something."""

    name: str
    person: Speaker
    weights: Weights
    scene: Scene
    extractor: str
    audio: AudioParams
    scale: Any = None
    """Of the extractor's features over the speaker's own sound, if it has such a thing (`models.audio.Measured`)."""
    crf: int = RenderParams.model_validate({}).crf
    """Of videos, see `RenderParams`."""

    @staticmethod
    def of(places: Places, speaker: str, extractor: str = "logmel") -> Talker:
        """Return a speaker of the project.

        Raises:
            UsageError, ConsentError, InputError: as `speaker_with_head` says.
        """
        person = speaker_with_head(places, speaker, extractor)
        weights = Weights.load(places.record("tg_fuse", Keys(speaker=speaker, extractor=extractor)))
        return Talker(
            name=speaker,
            person=person,
            weights=weights,
            scene=Scene.load(places, speaker, face_config(weights)),
            extractor=extractor,
            audio=heard_by(places, speaker, extractor),
            scale=_scale(Clip.load(places.record("ingest", Keys(speaker=speaker))), extractor),
            crf=load_params(places.params, "render", RenderParams).crf,
        )

    def head(self, device: str = "cpu") -> TalkingHead:
        """Return the head, ready to draw."""
        return TalkingHead(self.weights, device)

    def shots(self, acting: Acting) -> Iterator[Shot]:
        """Yield what each picture needs besides the sound, without end."""
        return perform(self.scene, acting)

    def still(self, frame: int | None = None) -> Talker:
        """Return the talker whose head is held as in one frame; see `Scene.still`."""
        return replace(self, scene=self.scene.still(frame))

    def articulating(self, articulation: float) -> Talker:
        """Return the talker whom sound moves so many times as far as was learnt; see `AudioEncoder.articulate`."""
        value = np.array([articulation], np.float32)
        changed = {f"{branch}/motion/audio.articulation": value for branch in ("face", "mouth")}
        return replace(self, weights=replace(self.weights, tensors=self.weights.tensors | changed))

    def save(self, path: Path, frame: int | None = None) -> int:
        """Write the talker, held still, as one file; return its size in bytes.

        Args:
            path: of the file, .safetensors.
            frame: whose pose and torso it has; the quiet one if None.

        Raises:
            UsageError: there is no such frame.
        """
        scene = self.scene.still(frame)
        arrays = {f"weights/{name}": tensor for name, tensor in self.weights.tensors.items()}
        arrays |= {"intrinsics": scene.intrinsics, "pose": scene.poses[0], "behind": scene.layers.behind(0)}
        arrays["expression"] = scene.expression.numpy()
        arrays |= {f"scale/{name}": value for name, value in _named(self.scale).items()}
        meta = {
            "name": self.name,
            "person": self.person.model_dump(mode="json"),
            "method": self.weights.method,
            "config": self.weights.config,
            "extractor": self.extractor,
            "revision": find_extractor(self.extractor).REVISION,
            "audio": self.audio.model_dump(mode="json"),
            "fps": scene.fps,
            "sample_rate": scene.sample_rate,
        }
        if sum(array.nbytes for array in arrays.values()) > LARGEST:
            arrays = {name: _halved(name, array) for name, array in arrays.items()}
        save_arrays(path, arrays, SCHEMA, VERSION, meta)
        size = path.stat().st_size
        if size > LARGEST:
            log.warning("%s: %.0f MB, although its numbers have been halved", path, size / 1e6)
        return size

    @staticmethod
    def load(path: Path) -> Talker:
        """Read what `save` wrote.

        Raises:
            InputError: it is no such file, is damaged, or was made with other features than this version computes.
            ConsentError: the basis for using this person's likeness is not valid any more.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such file", "a head is read from there", "gausstalk export SPEAKER -o FOLDER")
        header = read_header(path)
        if header["schema"] == SCHEMA and header["version"] < VERSION:
            raise InputError(
                f"{path}: version {header['version']} of an exported head, this code reads {VERSION}",
                "it was made by an earlier version of gausstalk",
                "where it was made: gausstalk run SPEAKER, then gausstalk export SPEAKER -o FOLDER",
            )
        arrays, meta = load_arrays(path, SCHEMA, VERSION)
        arrays = {name: _whole(array) for name, array in arrays.items()}
        try:
            person = validate(Speaker, meta["person"], str(path))
            check_basis(person)
            extractor, revision = str(meta["extractor"]), meta["revision"]
            if find_extractor(extractor).REVISION != revision:
                raise InputError(
                    f"{path}: made with revision {revision} of {extractor}",
                    f"this version of gausstalk computes revision {find_extractor(extractor).REVISION}",
                    "use the version that made it, or train and export the head again",
                )
            intrinsics, pose, behind, expression = (arrays[name] for name in ARRAYS)
            weights = Weights(str(meta["method"]), "export", meta["config"], _under("weights/", arrays))
            scene = Scene(
                speaker=str(meta["name"]),
                fps=float(meta["fps"]),
                sample_rate=int(meta["sample_rate"]),
                size=(behind.shape[1], behind.shape[0]),
                layers=Backdrop(behind),
                poses=np.repeat(pose[None], len(expression), 0),
                intrinsics=intrinsics,
                expression=torch.from_numpy(expression),
                blink=blink_of(face_config(weights)),
                valid=np.ones(len(expression), bool),
                cuts=[],
            )
            return Talker(
                name=str(meta["name"]),
                person=person,
                weights=weights,
                scene=scene,
                extractor=extractor,
                audio=validate(AudioParams, meta["audio"], str(path)),
                scale=_scale_of_file(arrays, extractor),
            )
        except (KeyError, ValueError, IndexError) as error:
            raise InputError(
                f"{path}: not a whole head", f"{type(error).__name__}: {error}", "export it again"
            ) from error


def face_config(weights: Weights) -> Config:
    """Return how the face of a head is built."""
    return Config.from_record(weights.config["face"])


def _scale(clip: Clip, extractor: str) -> Any:
    """Return the scale of the sound of the training frames, None for an extractor that has none."""
    module = find_extractor(extractor)
    if not isinstance(module, Measured):
        return None
    samples = clip.sample_rate / clip.fps
    pieces = [clip.sound[round(t * samples) : round((t + 1) * samples)] for t in clip.indices(TRAIN).tolist()]
    return module.measure(np.concatenate([clip.sound[:0], *pieces]))


def _named(scale: Any) -> Mapping[str, np.ndarray]:
    return {} if scale is None else scale._asdict()


def _scale_of_file(arrays: dict[str, np.ndarray], extractor: str) -> Any:
    module = find_extractor(extractor)
    return module.Scale(**_under("scale/", arrays)) if isinstance(module, Measured) else None


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _halved(name: str, array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16) if name.startswith("weights/") and array.dtype == np.float32 else array


def _whole(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array
