"""Fit a head model to the landmarks: one identity, and a camera pose and an expression for every frame."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from pydantic import Field

from models.heads.model import HeadModel
from models.records import Clip, HeadTrack, Landmarks
from tasks.head_models import load_head_model, posed_landmarks, project
from tasks.params import Params
from tasks.progress import Progress
from tasks.stage import Context, Stage, main

log = logging.getLogger("gausstalk")

BLENDSHAPES = 52  # that MediaPipe's landmarker gives


class TrackParams(Params):
    """What may be set. Strengths of the fit's terms are in models.heads.fit_params, with their reasons."""

    focal_factor: float = Field(default=2.3, gt=0.3, lt=20)  # focal length over the larger side; it cannot be measured
    identity_frames: int = Field(default=64, ge=4)  # spread frames that the face's shape is found from
    flow: bool = True  # measure by optical flow how the head accelerates, instead of assuming that it does not
    identities: int | None = Field(default=None, ge=1, le=300)  # directions of FLAME or BFM to use; None: the usual
    expressions: int | None = Field(default=None, ge=1, le=100)


STAGE = Stage(
    name="track", per=("speaker",), params=TrackParams, reads=("ingest", "landmarks"), gives=HeadTrack, preview=True
)


def run(context: Context[TrackParams]) -> HeadTrack:
    """Fit the speaker's head model.

    Raises:
        MissingAssetError: the head model is not on this machine.
        InputError: no frame shows a face.
    """
    from models.heads.fit import fit_head
    from models.heads.fit_params import FitParams
    from models.heads.flow import measure_flow

    clip = context.read(Clip, "ingest")
    landmarks = context.read(Landmarks, "landmarks")
    params = context.params
    model = load_head_model(context.places, context.speaker().head_model, params.identities, params.expressions)
    height, width = clip.frames.shape[1:3]
    settings = FitParams(focal_factor=params.focal_factor, identity_frames=params.identity_frames)
    flow = judge = None
    if params.flow:
        log.info("track %s: measuring the motion of the head", clip.speaker)
        # Every other corner feeds the fit; the rest judges it.
        flow, judge = measure_flow(clip.frames, landmarks.points, landmarks.valid, tuple(landmarks.cuts))
    known = landmarks.blendshapes.shape[1] == BLENDSHAPES
    percent = Progress(f"track {clip.speaker}", 100, "%")

    def progress(done: float, phase: str) -> None:
        percent.update(round(100 * done) - percent.done, phase)

    fit = fit_head(
        model,
        landmarks.points,
        landmarks.valid,
        width,
        height,
        tuple(landmarks.cuts),
        flow,
        landmarks.blendshapes if known else None,
        settings,
        progress,
        judge,
    )
    percent.note = ""
    percent.finish()
    intrinsics = np.array([[fit.focal, 0, width / 2], [0, fit.focal, height / 2], [0, 0, 1]], np.float32)
    quality: dict[str, Any] = {name: float(value) for name, value in fit.stats.items()}
    quality |= {"identity_rms": float(np.sqrt(np.mean(fit.identity**2))), "flow": flow is not None}
    rest = model.landmarks(fit.identity) + fit.landmark_offsets
    result = HeadTrack(
        model=model.name,
        width=width,
        height=height,
        intrinsics=intrinsics,
        world_to_camera=fit.world_to_camera.astype(np.float32),
        valid=landmarks.valid,
        identity=fit.identity.astype(np.float32),
        expression=fit.expression.astype(np.float32),
        turns=fit.turns.astype(np.float32),
        landmark_index=model.landmark_index.astype(np.int32),
        rest_landmarks=rest.astype(np.float32),
        residual_px=fit.residual_px.astype(np.float32),
        expression_names=list(model.expression_names),
        joint_names=list(model.joint_names),
        cuts=[int(cut) for cut in landmarks.cuts],
        quality=quality,
    )
    _preview(context, clip, landmarks, model, result)
    return result


def _preview(
    context: Context[TrackParams], clip: Clip, landmarks: Landmarks, model: HeadModel, result: HeadTrack
) -> None:
    """Draw the fitted mesh and, as dots, its landmarks (red) on the measured ones (green)."""
    import cv2

    from tasks.pictures import draw_mesh, draw_points, mark_of_clip, save_strip, telling_frames

    faces = model.triangles
    if "face" in model.regions:
        first, end = model.regions["face"]
        faces = faces[((faces >= first) & (faces < end)).all(axis=1)]
    tiles: list[np.ndarray] = []
    captions: list[str] = []
    for t, caption in telling_frames(landmarks.points, landmarks.valid):
        large = cv2.resize(clip.frames[t], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        vertices = model.vertices(result.identity, result.expression[t], result.turns[t])
        mesh = draw_mesh(large, 2 * project(vertices, result, t), faces, opacity=0.2)
        marks = posed_landmarks(model, result, t)
        dots = draw_points(large, 2 * landmarks.points[t, result.landmark_index], (60, 220, 60), 1)
        dots = draw_points(dots, 2 * project(marks, result, t), (255, 40, 40), 1)
        tiles.append(np.concatenate([mesh, dots]))
        captions.append(f"{caption}, {result.residual_px[t]:.2f} px" if result.valid[t] else f"{caption}, no face")
    save_strip(context.preview / "strip.jpg", tiles, mark_of_clip(clip), captions)


if __name__ == "__main__":
    main(STAGE, run)
