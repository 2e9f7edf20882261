"""What GaussianTalker's stages share: a speaker's head model as torch has it, and the trained modules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.errors import InputError
from models.gaussians.bound import BoundField
from models.gaussians.camera import Camera
from models.heads.mediapipe_points import LIP_POINTS
from models.heads.model import HeadModel
from models.heads.mouth_parts import with_mouth
from models.heads.rig import FaceMesh, Rig, face_mesh, spread
from models.heads.silhouette import silhouette
from models.methods.gaussian_talker import Mouthing, Renderer, followed, spoken_expressions
from models.methods.gaussian_talker_config import InpaintingConfig, RendererConfig, TranslatorConfig
from models.methods.gaussian_talker_inpainting import InpaintingGenerator, Painter, scale_of
from models.methods.gaussian_talker_networks import BlendShapes, HeadTable, Translator
from models.morphology import grow
from models.records import HeadTrack, Weights
from tasks.head_models import load_head_model
from tasks.people import Speaker
from tasks.places import Places

AGAIN = "train it again: gausstalk run SPEAKER --method gaussiantalker"
RIM_PX = 2  # so far beyond the mesh a face may be, at 256 pixels: contours are tracked to about a pixel
SMALL_TURN = 0.05  # radians, from which it is measured how far the jaw moves a face


@dataclass(frozen=True)
class SpeakersFace:
    """A speaker's head model as torch has it: the mesh of the face, inside of the mouth included."""

    track: HeadTrack
    model: HeadModel
    mesh: FaceMesh
    rig: Rig
    jaw: np.ndarray  # [T, J] rotation vectors of the clip, J is 0 for a model without joints

    @staticmethod
    def of(places: Places, person: Speaker, track: HeadTrack, device: str = "cpu") -> SpeakersFace:
        """Load the head model that a clip was tracked with.

        Raises:
            MissingAssetError: its files are not on this machine.
            InputError: it is another one now.
        """
        bare = load_head_model(places, person.head_model, len(track.identity), len(track.expression_names))
        if bare.name != track.model or list(bare.expression_names) != track.expression_names:
            raise InputError(
                f"{person.name} was tracked with the head model {track.model}, and now has {bare.name}",
                "the coefficients of one mean nothing to the other",
                f"gausstalk run {person.name}",
            )
        jaw = np.zeros((len(track.valid), 0), np.float32)
        if bare.skeleton is not None:
            jaw = track.turns[:, bare.skeleton.jaw]
        model = with_mouth(bare)
        mesh = face_mesh(model)
        # What the landmarks know of this face beyond the model's identity.
        points = bare.landmarks(track.identity)
        vertices = model.vertices(track.identity)[mesh.vertices]
        offsets = spread(points, track.rest_landmarks - points, vertices)
        return SpeakersFace(track, model, mesh, Rig(model, mesh.vertices, offsets, device), jaw)

    @property
    def motion(self) -> np.ndarray:
        """Expression and jaw of the clip `[T, E + J]`."""
        return np.concatenate([self.track.expression, self.jaw], 1)

    @property
    def neutral(self) -> np.ndarray:
        """Vertices `[V, 3]` of the speaker's neutral face, metres."""
        return self._moved(np.zeros((1, self.motion.shape[1]), np.float32))[0]

    def vertices(self, frame: int) -> np.ndarray:
        """Return vertices `[V, 3]` of the face as it was tracked in a frame, head frame, metres."""
        return self._moved(self.motion[frame, None])[0]

    def covers(self, frame: int, camera: Camera) -> torch.Tensor:
        """Return where the face is that the mesh has, as it was tracked in a frame `[H, W]` bool.

        Skin beyond it is left to the frame: ears and neck, on triangles of a cheek, do not turn as they do.

        Args:
            frame: of the clip.
            camera: of all of that frame.
        """
        pose, intrinsics = (part.cpu().numpy() for part in camera[:2])
        size = camera.height, camera.width
        seen = silhouette(self.vertices(frame), self.mesh.triangles, pose, intrinsics, size)
        return grow(torch.from_numpy(seen), round(RIM_PX * scale_of(camera))).to(camera.intrinsics.device)

    @property
    def lengths(self) -> np.ndarray:
        """How far a coefficient of 1 moves the face `[E + J]`, root mean square, metres."""
        steps = np.eye(self.motion.shape[1], dtype=np.float32)
        steps[len(self.track.expression_names) :] *= SMALL_TURN
        moved = np.array([self._moved(step[None])[0] for step in steps]) - self.neutral
        return np.sqrt((moved**2).sum(-1).mean(-1)) / steps.max(1)

    def _moved(self, motion: np.ndarray) -> np.ndarray:
        device, count = self.rig.neutral.device, len(self.track.expression_names)
        identity, given = (torch.from_numpy(part).to(device) for part in (self.track.identity, motion))
        return self.rig.vertices(identity, given[:, :count], given[:, count:]).cpu().numpy()

    def mouthing(self) -> Mouthing:
        """Return what the motion translator's numbers do to this face, at its landmarks."""
        corners = np.unique(self.model.landmark_triangle)
        lips = np.isin(corners, self.model.landmark_triangle[self.model.rows_of(LIP_POINTS)])
        device = self.rig.neutral.device
        known = (self.track.identity, self.track.expression, self.jaw, followed(self.model).astype(np.float32), lips)
        identity, expression, jaw, follows, is_lip = (torch.from_numpy(part).to(device) for part in known)
        rig = Rig(self.model, corners, device=str(device))
        return Mouthing(rig, identity, expression, jaw, spoken_expressions(self.model), follows, is_lip)

    def renderer(self, config: RendererConfig, gaussians: BoundField) -> Renderer:
        """Return a renderer with these Gaussians, its perceptron as it begins.

        Raises:
            ValueError: a Gaussian's triangle is not there.
        """
        device, faces = self.rig.neutral.device, gaussians.faces.cpu().numpy()
        if not 0 <= faces.min() <= faces.max() < len(self.mesh.triangles):
            raise ValueError("a Gaussian's triangle is not there")
        # More than half of the vertices carry nothing and need not move: no triangle gets its first Gaussian later.
        carries, corners = np.unique(self.mesh.triangles[faces], return_inverse=True)
        triangles = np.zeros_like(self.mesh.triangles)
        triangles[faces] = corners.reshape(-1, 3)
        rig, of_rig = self.rig.part(torch.from_numpy(carries).to(device)), torch.from_numpy(triangles).long().to(device)
        return Renderer(rig, of_rig, gaussians.to(device), BlendShapes(config, self.motion.shape[1]).to(device))


def load_renderer(weights: Weights, face: SpeakersFace) -> tuple[Renderer, HeadTable]:
    """Return the trained renderer on a speaker's face, and the head parameters of the clip.

    Raises:
        InputError: it was trained for another head.
    """
    config = RendererConfig.from_record(weights.config)
    parts = {name: _tensors(weights, name) for name in ("gaussians", "blend", "head")}
    try:
        renderer = face.renderer(config, BoundField(**parts["gaussians"]))
        frames = parts["head"]["frames"].numpy()
        table = HeadTable(face.track.identity, face.track.expression, face.jaw, frames, config)
        renderer.blend.load_state_dict(parts["blend"])
        table.load_state_dict(parts["head"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        what = f"gt_renderer was trained for another head than {face.track.model}"
        raise InputError(what, str(error), AGAIN) from error
    return renderer, table.to(face.rig.neutral.device)


def load_translator(weights: Weights, face: SpeakersFace, device: str = "cpu") -> Translator:
    """Return the trained motion translator, ready to speak.

    Raises:
        InputError: it speaks other numbers than this face is told.
    """
    translator = Translator(TranslatorConfig.from_record(weights.config))
    told = face.mouthing().outputs
    try:
        if translator.config.outputs != told:
            raise ValueError(f"it gives {translator.config.outputs} numbers a frame, this head takes {told}")
        translator.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.tensors.items()})
    except (RuntimeError, ValueError) as error:
        what = f"gt_motion was trained for another head than {face.track.model}"
        raise InputError(what, str(error), AGAIN) from error
    return translator.to(device).eval()


def load_painter(weights: Weights, device: str = "cpu") -> Painter:
    """Return the trained Inpainting Generator, ready to paint.

    Raises:
        InputError: it is none of this version's.
    """
    network = InpaintingGenerator(InpaintingConfig.from_record(weights.config))
    try:
        network.load_state_dict(_tensors(weights, "network"))
        reach = torch.from_numpy(weights.tensors["reach"].copy())
    except (KeyError, RuntimeError) as error:
        raise InputError("gt_inpaint gave another network than its record says", str(error), AGAIN) from error
    return Painter(network.to(device).eval(), reach.to(device))


def _tensors(weights: Weights, prefix: str) -> dict[str, torch.Tensor]:
    start = f"{prefix}/"
    found = {name: array for name, array in weights.tensors.items() if name.startswith(start)}
    return {name.removeprefix(start): torch.from_numpy(array.copy()) for name, array in found.items()}
