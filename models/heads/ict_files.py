"""From the meshes of ICT-FaceKit Light to the one archive that `models.heads.ict` reads.

Facts from the model's own README (github.com/ICT-VGL/ICT-FaceKit): all meshes share one topology; every identity and
expression mesh is the neutral one with one coefficient at 1; vertex ranges of the parts; 68 landmark vertices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.errors import InputError

Array = np.ndarray

NEUTRAL = "generic_neutral_mesh.obj"
IDENTITIES = 100
EXPRESSIONS = (
    *(f"{name}_{side}" for name in ("browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekSquint", "eyeBlink",
                                    "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
      for side in "LR"),
    "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthDimple_L", "mouthDimple_R", "mouthFrown_L",
    "mouthFrown_R", "mouthFunnel", "mouthLeft", "mouthLowerDown_L", "mouthLowerDown_R", "mouthPress_L", "mouthPress_R",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmile_L", "mouthSmile_R", "mouthStretch_L", "mouthStretch_R", "mouthUpperUp_L", "mouthUpperUp_R",
    "noseSneer_L", "noseSneer_R",
)  # fmt: skip
REGIONS = {
    "face": (0, 9409), "narrow_face": (0, 6706), "head_neck": (9409, 11248), "mouth_socket": (11248, 13294),
    "eye_socket_left": (13294, 13678), "eye_socket_right": (13678, 14062), "gums_tongue": (14062, 17039),
    "teeth": (17039, 21451), "eyeball_left": (21451, 23021), "eyeball_right": (23021, 24591),
}  # fmt: skip
LANDMARKS68 = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,  # jaw line
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509,  # brows
    978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,  # nose
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,  # eyes
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841,  # lips, outside
    5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,  # lips, inside
)  # fmt: skip


def convert(meshes: Path, archive: Path) -> None:
    """Pack the neutral mesh and the offsets of all others from it.

    Args:
        meshes: Folder with `generic_neutral_mesh.obj`, `identity000.obj` ... and one mesh for each of `EXPRESSIONS`.
        archive: What is written: centimetres, the neutral mesh as float32, the offsets as float16 (rounded by at most
            0.01 mm).

    Raises:
        InputError: A mesh is missing, damaged or of another topology.
    """
    lines = _lines(meshes / NEUTRAL)
    neutral = _numbers(meshes / NEUTRAL, lines, "v", 3)
    quads, quads_uv = _faces(meshes / NEUTRAL, lines)

    def offsets(names: list[str]) -> Array:
        packed = np.empty((len(names), *neutral.shape), np.float16)
        for row, name in enumerate(names):
            path = meshes / f"{name}.obj"
            vertices = _numbers(path, _lines(path), "v", 3)
            if vertices.shape != neutral.shape:
                raise InputError(f"{path.name} has {len(vertices)} vertices, the neutral mesh {len(neutral)}")
            packed[row] = vertices - neutral
        return packed

    np.savez_compressed(
        archive,
        neutral=neutral.astype(np.float32),
        quads=quads,
        uv=_numbers(meshes / NEUTRAL, lines, "vt", 2).astype(np.float32),
        quads_uv=quads_uv,
        identity=offsets([f"identity{index:03d}" for index in range(IDENTITIES)]),
        expression=offsets(list(EXPRESSIONS)),
        expression_names=np.array(EXPRESSIONS),
        landmarks68=np.array(LANDMARKS68, np.int32),
        region_names=np.array(list(REGIONS)),
        region_ranges=np.array(list(REGIONS.values()), np.int32),
    )


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is missing or is no text", str(error)) from error


def _numbers(path: Path, lines: list[list[str]], kind: str, count: int) -> Array:
    try:
        return np.array([line[1 : 1 + count] for line in lines if line and line[0] == kind], np.float64).reshape(
            -1, count
        )
    except ValueError as error:
        raise InputError(f"{path.name} is not a whole mesh", str(error)) from error


def _faces(path: Path, lines: list[list[str]]) -> tuple[Array, Array]:
    """Return vertex and texture numbers of the polygons, `[F, 4]` from 0; -1 in the fourth place of a triangle."""
    faces = [[corner.split("/") for corner in line[1:]] for line in lines if line and line[0] == "f"]
    try:
        both = np.array([[(int(v) - 1, int(t) - 1) for v, t in face] + [(-1, -1)] * (4 - len(face)) for face in faces])
    except ValueError as error:
        raise InputError(f"{path.name} has faces that are not quads or triangles with textures", str(error)) from error
    return both[..., 0].astype(np.int32), both[..., 1].astype(np.int32)
