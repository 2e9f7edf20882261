"""GaussianTalker: Gaussians on the mesh of the tracked head, and what they do beyond it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models.curriculum import FrameSampler
from models.errors import InputError
from models.methods.gaussian_talker_config import DRAWN, Latent, RendererConfig, Shape
from models.methods.gaussian_talker_phases import BASES, RendererPhase
from models.methods.gaussian_talker_presets import presets_of
from models.parsing.labels import EYES, FACE, INSIDE_MOUTH
from models.records import TEST, Weights
from models.schedule import MOST_GAUSSIANS, color_at, frozen_at, weights_at
from tasks.params import Params
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from torch import Tensor

    from models.methods.gaussian_talker import Renderer
    from models.methods.gaussian_talker_networks import HeadTable
    from tasks.box import Box
    from tasks.gt_head import SpeakersFace
    from tasks.material import Footage

LASHES_PX = 1  # so far lids reach into the eyes that the parser sees, at 256 pixels: of closed ones it leaves a slit
VIEWS = 24  # frames, besides those most turned, that tell which triangles can be seen
NEAR_PX = 2  # so near to the face counts, at 256 pixels
FACING = 0.1  # cosine of the angle between normal and camera from which a triangle of the skin tells its colour
WIDE = 0.25  # share of the frames, those with the widest mouths, that tell what can be seen inside it
CHECKED_FRAMES = 24  # of the test part, evenly spread
DIFFERENCE_GAIN = 4


class RendererParams(Params):
    """How the renderer is trained."""

    seed: int = Field(0, ge=0)
    gaussians: int = Field(9000, ge=0, le=MOST_GAUSSIANS)  # to begin with; 0: one on each triangle; the paper: 10522
    sh_degree: int = Field(1, ge=0, le=3)  # the paper: 3, which a clip with one camera hardly tells
    color_bands: int = Field(1, ge=1, le=16)  # how many of the spherical harmonics change with the motion
    latent: Latent = "components"
    shape: Shape = "fixed"
    phase: RendererPhase = RendererPhase()


STAGE = Stage(
    name="gt_renderer",
    per=("speaker",),
    params=RendererParams,
    presets=presets_of("gt_renderer"),
    reads=("ingest", "landmarks", "parse", "layers", "track", "pose_refine", "action_units"),
    gives=Weights,
    preview=True,
    method="gaussian_talker",
)


def run(context: Context[RendererParams]) -> Weights:
    """Train the Gaussians, their bases and the head parameters on the training frames."""
    import torch

    from models.methods import gaussian_talker as method
    from models.methods.gaussian_talker_networks import HeadTable
    from tasks.gt_head import SpeakersFace
    from tasks.material import Footage
    from tasks.perceptual import perceptual_distance
    from tasks.training import FieldLearner, prepare, total_of, train

    device = prepare(context)
    params, phase, seed = context.params, context.params.phase, context.params.seed
    footage = Footage.of(context, device)
    face = SpeakersFace.of(context.places, context.speaker(), footage.track, device)
    config = RendererConfig(
        sh_degree=params.sh_degree, color_bands=params.color_bands, latent=params.latent, shape=params.shape
    )
    torch.manual_seed(seed)
    shown = _shown(footage, face)
    first = method.first_gaussians(face.mesh, shown, face.neutral, params.gaussians, phase, config, seed)
    renderer = face.renderer(config, first)
    frames = footage.train_frames
    renderer.blend.learn(face.motion[frames], face.lengths, config, face.jaw.shape[1])
    table = HeadTable(footage.track.identity, footage.track.expression, face.jaw, frames, config).to(device)
    quiet = footage.quiet_frame
    view = footage.camera(quiet, footage.whole)
    method.color_first(renderer, face.mesh.inside, table.at(quiet), footage.clip.frames[quiet], view)
    distance = perceptual_distance(context, phase, device)

    learner = FieldLearner(renderer.gaussians, phase.rates, phase.density, seed, 1.0, footage.scale)
    head = HeadLearner(table, renderer, phase)
    # Behind translucent lips what is inside the mouth would learn to look like lips, and fill the mouth with them;
    # behind translucent lids eyeballs would learn to look like lids, and shine through them.
    behind_skin = torch.from_numpy(face.mesh.inside | face.mesh.eyeballs).to(device)
    sampler = FrameSampler(footage.train_frames, footage.curriculum, phase.windows, seed)
    covered = _coverage(footage, face)

    def step(number: int) -> dict[str, float]:
        progress, on = number / phase.steps, weights_at(phase, number)
        frozen = frozen_at(phase.frozen, progress)
        behind = footage.plain(color_at(phase.backdrops, number, phase.steps))
        frame = sampler.draw(number, progress)
        crop = footage.whole if phase.whole_frames else footage.face_crop(frame)
        alone = on["skin_alone"]
        drawn = _skin(footage, face, frame, crop) if alone else footage.mask(frame, crop, DRAWN)
        shown = drawn & covered(frame)[crop.rows, crop.columns]
        target = torch.where(shown[..., None], footage.frame(frame, crop), behind)
        degree = phase.harmonics.degree(progress, config.sh_degree)
        left_out = behind_skin if alone else None
        raster = renderer.draw(footage.camera(frame, crop), table.at(frame), behind, degree, left_out)
        lips = footage.mouth_crop(frame).within(crop)
        terms = method.renderer_losses(raster, target, shown, lips, renderer.gaussians, phase, on, distance)
        total, values = total_of(terms)
        (total * (alone or 1)).backward()
        learner.step(number, phase.steps, raster, frozen | set(BASES if "blend_shapes" in frozen else ()))
        head.step(frozen)
        return values

    outcome = train(context, "renderer", phase.steps, step, {"field": learner, "head": head, "sampler": sampler})
    quality = outcome.quality(gaussians=len(renderer.gaussians), triangles=len(renderer.triangles))
    quality |= _check(context, footage, face, renderer, table)
    named = {f"gaussians/{name}": tensor for name, tensor in renderer.gaussians.tensors().items()}
    named |= {f"blend/{name}": tensor for name, tensor in renderer.blend.state_dict().items()}
    named |= {f"head/{name}": tensor for name, tensor in table.state_dict().items()}
    tensors = {name: tensor.detach().cpu().numpy().copy() for name, tensor in named.items()}
    return Weights("gaussian_talker", "renderer", config.as_record(), tensors, outcome.curves, quality)


class HeadLearner:
    """Trains the head parameters of the clip and the perceptron of the blend weights with Adam.

    A frame's own parameters move in the steps that draw it, and in no other: Adam's momentum would carry them on for
    dozens of steps, and with the lips of the training frames anywhere, a mouth learns not to open with its mesh.
    """

    def __init__(self, table: HeadTable, renderer: Renderer, phase: RendererPhase) -> None:
        import torch

        rates = phase.rates
        self.table, self.blend = table, renderer.blend
        parts = [(name, part) for name, part in table.named_parameters() if part.numel() and part.requires_grad]
        self.head = torch.optim.SparseAdam([{"params": [part], "lr": getattr(rates, name)} for name, part in parts])
        self.weights = torch.optim.Adam(renderer.blend.parameters(), lr=rates.weights, fused=True)

    def step(self, frozen: frozenset[str]) -> None:
        """Use up the gradients."""
        for name, optimizer in (("head", self.head), ("blend_shapes", self.weights)):
            if name not in frozen:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {"table": self.table, "blend": self.blend, "head": self.head, "weights": self.weights}


def _shown(footage: Footage, face: SpeakersFace) -> np.ndarray:
    """Return which triangles some training frame may show `[F]` bool: no frame tells of the others.

    Those of the skin lie where the face is and face the camera, those inside the mouth lie where a wide one is open.
    Most of gums, tongue and cavity never do. Skin that always faces away would show the colours of what it is hidden
    by, as soon as the head turns farther: there the frame has its own.

    Raises:
        InputError: no skin is shown at all.
    """
    import torch

    from models.gaussians.placing import inside
    from models.heads.silhouette import facing
    from models.methods.gaussian_talker_inpainting import extremes
    from models.morphology import grow

    frames = footage.train_frames
    wide = frames[np.argsort(-footage.curriculum["opening"][frames], kind="stable")]
    wide = wide[: max(1, round(WIDE * len(wide)))]

    def lies_in(seen: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
        found = np.zeros(len(face.mesh.triangles), bool)
        cameras = torch.from_numpy(np.linalg.inv(footage.poses[seen])[:, :3, 3])
        for frame in seen[extremes(cameras / cameras.norm(dim=1, keepdim=True), VIEWS)].tolist():
            mask = grow(footage.mask(frame, footage.whole, group).float(), round(NEAR_PX * footage.scale))
            vertices = face.vertices(frame)
            lie = inside(vertices, mask.cpu().numpy() > 0, footage.poses[frame], footage.track.intrinsics)
            turned = facing(vertices, face.mesh.triangles, footage.poses[frame]) > FACING
            found |= lie[face.mesh.triangles].any(1) & (turned | face.mesh.inside)
        return found

    shown = np.where(face.mesh.inside, lies_in(wide, INSIDE_MOUTH), lies_in(frames, DRAWN))
    if not (shown & ~face.mesh.inside).any():
        raise InputError(
            f"{footage.clip.speaker}: no training frame shows a triangle of the face",
            "the tracked mesh lies beside what the parser calls skin, or its triangles are turned inside out",
            f"look at data/preview/{footage.clip.speaker}/track and parse",
        )
    return shown


def _skin(footage: Footage, face: SpeakersFace, frame: int, crop: Box) -> Tensor:
    """Return where a frame shows skin and nothing that is behind it `[h, w]` bool.

    A head model without eyeballs has its eyes drawn by the lids.
    """
    from models.morphology import shrink

    skin = footage.mask(frame, crop, FACE)
    if not face.mesh.eyeballs.any():
        return skin
    return skin & ~shrink(footage.mask(frame, crop, (EYES,)), max(1, round(LASHES_PX * footage.scale)))


def _coverage(footage: Footage, face: SpeakersFace) -> Callable[[int], Tensor]:
    """Return what tells where the face is that the mesh has in a frame `[H, W]` bool, found out once a frame."""
    import torch

    shape, found = (footage.height, footage.width), dict[int, np.ndarray]()

    def covered(frame: int) -> Tensor:
        if frame not in found:  # eight pixels a byte: a long clip has thousands of frames
            found[frame] = np.packbits(face.covers(frame, footage.camera(frame, footage.whole)).cpu().numpy())
        bits = np.unpackbits(found[frame], count=shape[0] * shape[1]).reshape(shape)
        return torch.from_numpy(bits).to(footage.device).bool()

    return covered


def _check(
    context: Context[RendererParams], footage: Footage, face: SpeakersFace, renderer: Renderer, table: HeadTable
) -> dict[str, float]:
    """Draw test frames with their tracked motion, beside the truth; return how near they are."""
    import torch

    from models.methods.gaussian_talker import compose
    from tasks.pictures import mark_of_clip, save_strip, telling_frames

    def drawn(frame: int) -> tuple[np.ndarray, np.ndarray]:
        whole, camera = footage.whole, footage.camera(frame, footage.whole)
        hole = footage.mask(frame, whole, DRAWN) & face.covers(frame, camera)
        with torch.no_grad():
            raster = renderer.draw(camera, table.at(frame))
            image = compose(raster, footage.frame(frame, whole), footage.torso(frame, whole), hole)
        return (image.clamp(0, 1) * 255 + 0.5).byte().cpu().numpy(), hole.cpu().numpy()

    frames = np.flatnonzero((footage.clip.split == TEST) & footage.valid)
    errors = []
    for frame in frames[np.unique(np.linspace(0, len(frames) - 1, min(CHECKED_FRAMES, len(frames))).astype(int))]:
        image, hole = drawn(int(frame))
        truth = footage.clip.frames[int(frame)]
        if hole.any():  # the parser may see no face where the mesh is
            errors.append(np.mean((image[hole].astype(float) - truth[hole]) ** 2))
    tiles, captions = [], []
    for frame, caption in telling_frames(footage.points, footage.valid, 4):
        truth, image = footage.clip.frames[frame], drawn(frame)[0]
        difference = np.abs(image.astype(float) - truth) * DIFFERENCE_GAIN
        tiles += [truth, image, difference.clip(0, 255).astype(np.uint8)]
        captions += [f"{caption}", "tracked motion", f"difference x{DIFFERENCE_GAIN}"]
    save_strip(context.preview / "strip.jpg", tiles, mark_of_clip(footage.clip), captions, columns=3)
    psnr = [10 * np.log10(255**2 / max(error, 1e-9)) for error in errors]
    return {"test_face_psnr": round(float(np.mean(psnr)), 3)} if psnr else {}


if __name__ == "__main__":
    main(STAGE, run)
