"""Small archives of the form into which FLAME and the Basel Face Model are converted.

They are made from a head with named shapes: its expressions become principal components in standard deviations, and
FLAME's chin is moved by a joint instead of by a shape.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.heads.model import HeadModel

FLAME_IDENTITIES, FLAME_EXPRESSIONS = 300, 100
FLAME_SHIFT = np.array([0.01, 1.5, -0.03])  # official templates are not in the head frame either
BFM_EXPRESSION_MEAN = np.array([0.0, 300.0, -200.0])


def components(model: HeadModel, without: str, seed: int = 3) -> np.ndarray:
    """Return the expressions but one as as many directions without names, one standard deviation long."""
    named = [i for i, name in enumerate(model.expression_names) if name != without]
    mixture = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(named), len(named))))[0]
    return np.tensordot(0.25 * mixture, model.expression[named].astype(np.float64), 1)


def write_flame(path: Path, model: HeadModel, jaw: str, hinge: tuple[float, float, float], seed: int = 3) -> Path:
    """Write a model of FLAME's form whose joint at `hinge` (m, head frame) moves what the shape `jaw` moved."""
    rng, count = np.random.default_rng(seed), len(model.neutral)
    moved = np.linalg.norm(model.expression[model.expression_names.index(jaw)], axis=1)
    arm = np.linalg.norm(model.neutral - np.array(hinge), axis=1)
    carried = np.clip(moved / arm / np.percentile(moved / arm, 98), 0, 1)
    places = np.array([[0, -0.12, -0.03], [0, -0.06, -0.01], hinge, [0.032, 0.0, 0.07], [-0.032, 0.0, 0.07]])
    regressor = np.zeros((5, count))
    for j, place in enumerate(places):
        # Weights of the nearest vertices that add up to 1 and meet the place exactly.
        near = np.argsort(np.linalg.norm(model.neutral - place, axis=1))[:60]
        system = np.concatenate([model.neutral[near].T.astype(np.float64), np.ones((1, 60))])
        regressor[j, near] = np.linalg.lstsq(system, [*place, 1.0], rcond=None)[0]
    weights = np.zeros((count, 5))
    weights[:, 1], weights[:, 2] = 1 - carried, carried
    shapes = np.zeros((count, 3, FLAME_IDENTITIES + FLAME_EXPRESSIONS), np.float32)
    expressions = components(model, jaw, seed)
    shapes[..., : len(model.identity)] = model.identity.transpose(1, 2, 0)
    shapes[..., FLAME_IDENTITIES : FLAME_IDENTITIES + len(expressions)] = expressions.transpose(1, 2, 0)
    smooth = np.stack([np.ones(count), *(10 * model.neutral.T)])
    np.savez(
        path,
        v_template=(model.neutral + FLAME_SHIFT).astype(np.float32),
        f=model.triangles,
        shapedirs=shapes,
        posedirs=np.einsum("mfc,mv->vcf", rng.normal(0, 4e-4, (4, 36, 3)), smooth).astype(np.float32),
        J_regressor=regressor.astype(np.float32),
        weights=weights.astype(np.float32),
        kintree_table=np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        landmarks68=model.landmarks68,
    )
    return path


def write_bfm(path: Path, model: HeadModel, seed: int = 3) -> Path:
    """Write a model of the Basel Face Model's form, in micrometres."""
    arrays: dict[str, np.ndarray] = {"tl": model.triangles, "landmarks68": model.landmarks68}
    for kind, directions in (("shape", model.identity.astype(np.float64)), ("exp", components(model, "", seed))):
        length = np.linalg.norm(directions, axis=(1, 2))
        arrays[f"{kind}PC"] = (directions / length[:, None, None]).transpose(1, 2, 0).astype(np.float32)
        arrays[f"{kind}EV"] = (1e6 * length).astype(np.float32)
    arrays["shapeMU"] = (1e6 * model.neutral.astype(np.float64) - BFM_EXPRESSION_MEAN).astype(np.float32)
    arrays["expMU"] = np.tile(BFM_EXPRESSION_MEAN, (len(model.neutral), 1)).astype(np.float32)
    np.savez(path, **arrays)
    return path
