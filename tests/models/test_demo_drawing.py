"""How the synthetic speaker is drawn: the kernels against plain Python, and what is done once for all frames."""

import numpy as np
import pytest

from models.demo import raster
from models.demo.animation import still
from models.demo.body import Body
from models.demo.mesh import by_rows
from models.demo.render import Actor
from models.parsing.labels import CLOTH, NECK, SKIN


@pytest.fixture(scope="module")
def actor() -> Actor:
    return Actor("male", 64)


def surface(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bumpy sheet: vertices [V, 3] mm and triangles [F, 3], in no order."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :9]
    vertices = np.stack([x, y, generator.normal(0, 0.4, x.shape)], axis=-1).reshape(-1, 3).astype(np.float32)
    a = (9 * y + x)[:-1, :-1].ravel()
    triangles = np.concatenate([np.stack([a, a + 1, a + 10], 1), np.stack([a, a + 10, a + 9], 1)])
    mixed = generator.permutation(len(vertices))
    return vertices[np.argsort(mixed)], generator.permutation(mixed[triangles]).astype(np.int32)


def test_normals_are_those_of_the_triangles_about_a_vertex_by_area():
    vertices, triangles = surface(0)
    corners = vertices[triangles].astype(np.float64)
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    expected = np.zeros((len(vertices), 3))
    np.add.at(expected, triangles.ravel(), np.repeat(faces, 3, axis=0))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(raster.vertex_normals(vertices, triangles), expected, atol=1e-6)


def test_a_mesh_in_rows_is_the_same_surface_from_the_top_down():
    vertices, triangles = surface(1)
    ordered, renumbered = by_rows(vertices, triangles)

    def faces(points: np.ndarray, of: np.ndarray) -> list[list[float]]:
        return sorted(points[of].reshape(-1, 9).tolist())

    assert faces(ordered, renumbered) == faces(vertices, triangles)
    assert (np.diff(ordered[:, 1]) <= 0).all()
    assert (np.diff(ordered[:9, 0]) > 0).all()
    assert (np.diff(renumbered.min(axis=1)) >= 0).all()


def test_part_of_a_body_is_the_same_there():
    generator = np.random.default_rng(2)
    parts = {raster.HEAD: (0, 5), raster.TONGUE: (5, 12), raster.CLOTH: (12, 16)}  # first vertex, and after the last
    triangles = np.concatenate([generator.integers(*ends, (6, 3)) for ends in parts.values()]).astype(np.int32)
    rest, fixed, tangents = (generator.random((16, columns)).astype(np.float32) for columns in (3, 10, 3))
    stiffness = generator.random(16).astype(np.float32)
    slices = {part: slice(*ends) for part, ends in parts.items()}
    part = np.repeat(np.array(list(parts), np.int8), 6)
    whole = Body(rest, triangles, part, slices, fixed, tangents, stiffness)
    for kept in ((raster.TONGUE,), (raster.HEAD, raster.CLOTH)):
        some = whole.only(*kept)
        assert list(some.slices) == list(kept)
        assert sum(ends.stop - ends.start for ends in some.slices.values()) == len(some.rest)
        for each in kept:
            for name in ("rest", "fixed", "tangents", "stiffness"):
                mine, its = getattr(some, name)[some.slices[each]], getattr(whole, name)[whole.slices[each]]
                np.testing.assert_array_equal(mine, its)
            corners = some.rest[some.triangles[some.part == each]]
            np.testing.assert_array_equal(corners, whole.rest[whole.triangles[whole.part == each]])


def test_shading_is_what_the_same_lines_do_in_plain_python(actor, monkeypatch):
    calls = []
    monkeypatch.setattr(raster, "shade", lambda *arguments: calls.append(arguments))
    actor.still(jaw=0.5, lower_lip=1, spread=1, blink_left=0.3)
    (*inputs, irradiance, albedo, gloss, label) = calls[-1]
    monkeypatch.undo()
    owner, part = inputs[5], inputs[4]
    seen = np.where(owner < 0, -1, part[owner])
    assert set(np.unique(seen)) == {-1, *range(9)} - {raster.CLOTH}
    for each in range(9):  # plain Python is slow: some samples of every part
        owner[tuple(np.argwhere(seen == each)[12:].T)] = -1
    results = []
    for shade in (raster.shade, raster.shade.py_func):
        outputs = [np.zeros_like(values) for values in (irradiance, albedo, gloss, label)]
        shade(*inputs, *outputs)
        results.append(outputs)
    for compiled, plain in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, atol=1e-4)
    assert all((values[owner < 0] == 0).all() for values in results[0])
    assert (results[0][0][owner >= 0] > 0).all()


def test_the_jumper_is_drawn_once_and_the_head_moves_before_it(actor):
    animation = still(2)
    animation.rotation[1] = (0.2, 0.35, 0.1)
    frames = actor.render(animation, [0, 1])
    plate = actor.plate
    for labels, rgb in zip(frames.labels, frames.rgb, strict=True):
        cloth = labels == CLOTH
        inside = cloth.copy()  # not at the outline of the neck, where a pixel is of both
        for axis in (0, 1):
            inside &= np.roll(cloth, 1, axis) & np.roll(cloth, -1, axis)
        assert inside.sum() > 100
        np.testing.assert_array_equal(rgb[inside], plate.rgb[inside])
        assert ((plate.labels == CLOTH) & np.isin(labels, (SKIN, NECK))).any()  # the neck stands before its back
    assert (frames.labels[0] != frames.labels[1]).sum() > 100
