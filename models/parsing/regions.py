"""Which part of the person a pixel is: landmarks outline the features, colours learnt from the clip tell the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from models.heads.mediapipe_points import BROW_RINGS, EYE_RINGS, LIP_RING_OUTER
from models.parsing import labels as L
from models.parsing.colours import COUNT, codes, density, mixed_log
from models.parsing.geometry import FaceFrame, face_oval, polygon
from models.parsing.mouth import MouthColours, inside_mouth

Array = np.ndarray

PARTS = (L.SKIN, L.HAIR, L.NECK, L.CLOTH)  # what colours decide between
UNSURE = 255  # of a seed: neck or cloth
NEVER = 100.0
EAR_LOBE = 0.1  # IOD: how far it hangs below the line through the jaw landmarks under the ears
FINGER = 0.12  # IOD
HAIR_TRUST = 1.5  # weight of the network's log odds for hair beside the colours
ROOM_TRUST = 4.0  # the most that the room's colours speak against a person, in log units
PERSON = 0.6  # probability from which on a pixel is the person's; at 0.5 a rim of the room stays around hair


@dataclass(frozen=True)
class Appearance:
    """The colours of one clip."""

    log_density: Array  # [colours.COUNT, len(PARTS)] float32
    mouth: MouthColours
    room: Array | None = None  # [colours.COUNT] float32, log density of what is nobody's; None: not known

    def scores(self, coded: Array) -> Array:
        """Return the log likelihood of each of PARTS for colour bins `[H, W]`, float32 `[H, W, len(PARTS)]`."""
        return np.take(self.log_density, coded, axis=0)


def learn(
    frames: Sequence[Array],
    people: Sequence[Array],
    points: Sequence[Array],
    mouth: MouthColours,
    hairs: Sequence[Array] | None = None,
) -> Appearance:
    """Learn the colours of skin, hair, neck and cloth from some frames of a clip.

    Args:
        frames: `[H, W, 3]` uint8 each.
        people: the person's probability `[H, W]` of each.
        points: the landmarks `[478, 2]` px of each.
        mouth: what `models.parsing.mouth.learn_mouth` has learnt from them.
        hairs: the hair's probability `[H, W]` of each, where a network gives it.
    """
    seeds = [_seeds(frame, person, p) for frame, person, p in zip(frames, people, points, strict=True)]
    room: Array | None = None
    if hairs is None:
        appearance = Appearance(_densities(frames, seeds), mouth)
        for frame, person, p, seed in zip(frames, people, points, seeds, strict=True):
            _drop_long_hair(seed, person, p, appearance.scores(codes(frame)))
    else:
        for seed, person, hair, p in zip(seeds, people, hairs, points, strict=True):
            _seed_around_hair(seed, person, hair, p)
        empty = [(person < 0.05) & (hair < 0.05) for person, hair in zip(people, hairs, strict=True)]
        room = mixed_log(density([codes(frame) for frame in frames], empty), 0.03)
    _tell_necks_by_tint(frames, seeds)
    appearance = Appearance(_densities(frames, seeds), mouth, room)
    # Once more from the labels that this gives: the seeds are small and miss lights and shadows.
    given = zip(frames, people, points, hairs or [None] * len(frames), strict=True)
    found = [label_frame(frame, person, p, appearance, hair=hair) for frame, person, p, hair in given]
    return Appearance(_densities(frames, found), mouth, room)


def label_frame(
    frame: Array,
    person: Array,
    points: Array,
    appearance: Appearance,
    face_is_seen: bool = True,
    hair: Array | None = None,
) -> Array:
    """Label one frame.

    Args:
        frame: `[H, W, 3]` uint8.
        person: probability `[H, W]`.
        points: landmarks `[478, 2]` px; those of another frame when the face is not seen.
        appearance: of the clip.
        face_is_seen: whether the landmarks are this frame's, so that the features can be drawn.
        hair: probability `[H, W]`, where a network gives it.

    Returns:
        uint8 `[H, W]` of models.parsing.labels.
    """
    height, width = person.shape
    face = FaceFrame.of(points)
    oval = face_oval(points, height, width)
    inside = cv2.distanceTransform(oval.astype(np.uint8), cv2.DIST_L2, 3) / face.iod
    coded = codes(frame)
    scores = cv2.GaussianBlur(appearance.scores(coded), (0, 0), max(0.8, 0.015 * face.iod))
    if appearance.room is not None:
        # OpenCV reduces four numbers a pixel several times as fast as NumPy.
        best = cv2.reduce(scores.reshape(-1, len(PARTS)), 1, cv2.REDUCE_MAX).reshape(height, width)
        person = _without_room(person, np.take(appearance.room, coded) - best)
    if hair is not None:
        # Where the person's network wavers is hair, or none of the person.
        person = np.where((hair > 0.5) & (person > 0.3), np.maximum(person, hair), 2 * person - 1)
    is_person = _person(person, inside, face.iod) if face_is_seen else _person(person, np.zeros_like(inside), face.iod)
    scores -= _penalties(face, oval, inside, hair)
    result = np.array(PARTS, np.uint8)[np.argmax(scores, axis=2)]
    _connect(result, is_person, oval, scores, face)
    result[~is_person] = L.BACKGROUND
    if face_is_seen:
        _draw_features(result, frame, points, appearance.mouth, is_person)
    return result


def without_flicker(labels: Iterable[Array], cuts: Iterable[int]) -> Iterator[Array]:
    """Yield labels in which nothing outside the face lasts one frame only.

    A pixel whose label differs from that of the frames before and after, which agree, takes theirs. Eyes, lips and the
    inside of the mouth are left alone: a blink or a closure of the lips can really be that short.
    """
    starts = set(cuts)
    slow = np.zeros(256, bool)
    slow[[L.BACKGROUND, L.SKIN, L.HAIR, L.NECK, L.CLOTH, L.OTHER]] = True
    window: deque[Array] = deque(maxlen=3)
    for index, current in enumerate(labels):
        if index in starts and window:
            yield window[-1]
            window.clear()
        window.append(current)
        if len(window) == 2:
            yield window[0]
        elif len(window) == 3:
            before, now, after = window
            yield np.where((before == after) & slow[before] & slow[now], before, now)
    if window:
        yield window[-1]


def _densities(frames: Sequence[Array], labels: Sequence[Array]) -> Array:
    """Return the log density of each part's colours from smoothed histograms of labelled frames."""
    coded = [codes(frame) for frame in frames]
    known = {part: density(coded, [m == part for m in labels]) for part in PARTS}
    # A neck is skin too; alone it is often seen in shadow only.
    known[L.NECK] = 0.7 * known[L.NECK] + 0.3 * known[L.SKIN]
    # A colour that was never seen says little about skin or hair, but clothes may have any.
    return np.stack([mixed_log(known[part], 0.03 if part == L.CLOTH else 0.001) for part in PARTS], axis=1)


def _seeds(frame: Array, person: Array, points: Array) -> Array:
    """Label the pixels whose part the landmarks alone decide; everything else is background."""
    height, width = person.shape
    face = FaceFrame.of(points)
    across, down = face.coordinates(height, width)
    inside = face_oval(points, height, width)
    sure = cv2.erode((person > 0.8).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    middle = float((points[np.isfinite(points).all(1)] - face.origin).mean(0) @ face.across / face.iod)
    top = float(down[inside].min()) if inside.any() else -0.9
    seeds = np.zeros((height, width), np.uint8)
    seeds[sure & (down < top - 0.12) & (np.abs(across - middle) < 0.7)] = L.HAIR
    seeds[sure & (down > face.chin + 0.5) & (np.abs(across - middle) > 0.65)] = L.CLOTH
    seeds[sure & (down > face.chin + 0.08) & (down < face.chin + 0.22) & (np.abs(across - middle) < 0.3)] = L.NECK
    cheeks = (down > 0.15) & (down < 0.7) & (np.abs(across - middle) < 0.6)
    forehead = (down > -0.6) & (down < -0.4) & (np.abs(across - middle) < 0.3)
    seeds[inside & (cheeks | forehead)] = L.SKIN
    for ring in (*EYE_RINGS, *BROW_RINGS, LIP_RING_OUTER):
        seeds[polygon(points, ring, height, width)] = L.BACKGROUND
    return seeds


def _drop_long_hair(seeds: Array, person: Array, points: Array, scores: Array) -> None:
    """Unlabel cloth seeds that are long hair: hair-coloured, and hanging together with the hair of the crown."""
    skin, hair = scores[..., PARTS.index(L.SKIN)], scores[..., PARTS.index(L.HAIR)]
    like_hair = (person > PERSON) & (hair > skin) & (hair > -np.log(len(PARTS) * COUNT))
    _, pieces = cv2.connectedComponents(like_hair.astype(np.uint8), connectivity=4)
    crown = np.unique(pieces[(seeds == L.HAIR) & like_hair])
    seeds[(seeds == L.CLOTH) & np.isin(pieces, crown[crown > 0])] = L.BACKGROUND


def _seed_around_hair(seeds: Array, person: Array, hair: Array, points: Array) -> None:
    """Take hair's seeds from the network. What of the person is left below the chin is neck or cloth: unsure as yet."""
    face = FaceFrame.of(points)
    across, down = face.coordinates(*person.shape)
    sure = (person > 0.8) & (hair < 0.05)
    seeds[(hair > 0.2) | (seeds == L.HAIR)] = L.BACKGROUND
    seeds[(hair > 0.9) & (person > 0.8)] = L.HAIR
    below = sure & (down > face.chin + 0.08)
    # Bare shoulders are as far out as clothes.
    seeds[below & ((seeds == L.BACKGROUND) | ((seeds == L.CLOTH) & (np.abs(across) < 1.2)))] = UNSURE
    seeds[(seeds == UNSURE) & (np.abs(across) < 0.4) & (down < face.chin + 0.6)] = L.NECK


def _tell_necks_by_tint(frames: Sequence[Array], seeds: Sequence[Array]) -> None:
    """Unlabel neck seeds that do not have the tint of the face: a shirt or a scarf under the chin; that is cloth.

    Tint, not lightness, because the chin throws a shadow on the neck.
    """
    tints = [cv2.cvtColor(frame, cv2.COLOR_RGB2Lab)[..., 1:].astype(np.float32) for frame in frames]
    skin = np.concatenate([t[m == L.SKIN] for t, m in zip(tints, seeds, strict=True)])
    if not len(skin):
        return
    middle = np.median(skin, axis=0)
    reach = 3 * np.median(np.abs(skin - middle), axis=0).mean() + 8
    for tint, seed in zip(tints, seeds, strict=True):
        strange = np.linalg.norm(tint - middle, axis=2) > reach
        seed[(seed == L.NECK) & strange] = L.BACKGROUND
        seed[(seed == UNSURE) & strange] = L.CLOTH
        seed[seed == UNSURE] = L.BACKGROUND


def _penalties(face: FaceFrame, oval: Array, inside: Array, seen_hair: Array | None) -> Array:
    """Return how unlikely each part is at each place, in units of log likelihood, float32 `[H, W, len(PARTS)]`."""
    height, width = oval.shape
    across, down = face.coordinates(height, width)
    outside = cv2.distanceTransform((~oval).astype(np.uint8), cv2.DIST_L2, 3) / face.iod
    side = np.abs(across)
    above = down < np.where(side > 0.55, np.float32(face.jaw + EAR_LOBE), np.float32(face.jaw))
    below_chin = np.maximum(down - face.chin, 0)
    # Skin outside the oval: ears beside it, the forehead above it.
    skin = np.where(above, 8 * np.maximum(outside - 0.22, 0), 4 + 20 * outside)
    if seen_hair is None:
        # A fringe hangs into the oval from above and from the sides; hair-coloured skin further in is shade or a beard.
        fringe = 1.5 + 10 * inside + 8 * np.clip((down - 0.2) / 0.2, 0, 1)
        hair = np.where(oval, fringe, np.where(above, 0, 1 + 2 * below_chin + 5 * np.clip((0.55 - side) / 0.2, 0, 1)))
    else:
        known = np.clip(seen_hair, 0.01, 0.99)
        hair = HAIR_TRUST * np.log((1 - known) / known)
    neck = np.where(above | oval, NEVER, 6 * np.maximum(side - 0.6, 0) + 3 * np.maximum(below_chin - 0.7, 0))
    cloth = np.where(above | oval, NEVER, 8 * np.maximum(face.chin + 0.1 - down, 0))
    skin[oval] = 0
    return cv2.merge([np.asarray(plane, np.float32) for plane in (skin, hair, neck, cloth)])


def _without_room(person: Array, doubt: Array) -> Array:
    """Lower the person's probability where the colour is the room's rather than any part's: `doubt` in log units.

    Between strands of hair, and between hair and shoulder, the person's network sees the person.
    """
    known = np.clip(person, 1e-4, 1 - 1e-4)
    return 1 / (1 + (1 - known) / known * np.exp(np.clip(doubt, 0, ROOM_TRUST)))


def _person(probability: Array, inside: Array, iod: float) -> Array:
    """Return the person without holes and crumbs; the inner part of the face always belongs to it."""
    mask = (probability > PERSON) | (inside > 0.08) | ((inside > 0) & (probability > 0.25))
    small = (0.35 * iod) ** 2
    for value in (False, True):  # first fill small holes, then drop small pieces
        count, pieces, statistics, _ = cv2.connectedComponentsWithStats(
            (mask == value).astype(np.uint8), connectivity=4
        )
        crumbs = np.flatnonzero(statistics[:, cv2.CC_STAT_AREA] < small)
        crumbs = crumbs[crumbs > 0]
        if count > 1 and len(crumbs):
            mask[np.isin(pieces, crumbs)] = not value
    return mask


def _connect(result: Array, is_person: Array, oval: Array, scores: Array, face: FaceFrame) -> None:
    """Keep hair that hangs together with the hair of the crown, skin that touches the face, a neck under the chin."""
    height, width = result.shape
    across, down = face.coordinates(height, width)
    near_face = cv2.dilate(oval.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    _demote(result, is_person, L.SKIN, near_face, scores, (L.HAIR, L.NECK, L.CLOTH))
    _drop_shadows(result, scores, face)
    # Hair comes after whatever may turn into hair, and nothing after it may.
    crown = ~oval & (down < 0) & is_person
    _demote(result, is_person, L.HAIR, crown, scores, (L.SKIN, L.NECK, L.CLOTH))
    _drop_strands(result, is_person, scores, face)
    _drop_crumbs(result, is_person, scores, face)
    # The knot of a tie has a neck's tint, but a collar lies between it and the chin.
    around = cv2.dilate(oval.astype(np.uint8), np.ones((round(FINGER * face.iod) | 1,) * 2, np.uint8))
    under_chin = (np.abs(across) < 0.5) & (around > 0)
    _demote(result, is_person, L.NECK, under_chin, scores, (L.CLOTH,))
    _demote(result, is_person, L.CLOTH, np.ones_like(oval), scores, (L.NECK,), (0.25 * face.iod) ** 2)


def _drop_shadows(result: Array, scores: Array, face: FaceFrame) -> None:
    """Give hair below the chin that is thinner than two fingers to neck or cloth: it is the shadow beside a collar."""
    _, down = face.coordinates(*result.shape)
    low = (result == L.HAIR) & (down > face.chin - FINGER)
    if not low.any():
        return
    broad = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (round(2 * FINGER * face.iod) | 1,) * 2)
    hair = (result == L.HAIR).astype(np.uint8)
    kept = cv2.dilate(cv2.morphologyEx(hair, cv2.MORPH_OPEN, broad), np.ones((5, 5), np.uint8))
    _give(result, low & (kept == 0), scores, (L.NECK, L.CLOTH))


def _drop_strands(result: Array, is_person: Array, scores: Array, face: FaceFrame) -> None:
    """Give what is thinner than a finger beside the face, or hangs on nothing else, to hair or skin.

    No neck and no collar is like that. Strands and the soft rim of the face have the colours of a shaded neck; in the
    torso's layer they would stay behind when the head moves.
    """
    _, down = face.coordinates(*result.shape)
    torso = (((result == L.NECK) | (result == L.CLOTH)) & is_person).astype(np.uint8)
    finger = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (round(FINGER * face.iod) | 1,) * 2)
    # The corner of a collar is thin as well; it ends within a finger of what is broad.
    broad = cv2.dilate(cv2.morphologyEx(torso, cv2.MORPH_OPEN, finger), finger)
    count, pieces = cv2.connectedComponents(torso & broad, connectivity=4)
    hanging = np.zeros(count, bool)
    hanging[pieces[(torso & broad > 0) & (down > face.chin)]] = True
    # Further down, thin is an edge of a collar.
    strands = (torso > 0) & ((broad == 0) | ~hanging[pieces]) & (down < face.chin + 0.3)
    by_hair = cv2.dilate((result == L.HAIR).astype(np.uint8), finger) > 0
    like_hair = scores[..., PARTS.index(L.HAIR)] > scores[..., PARTS.index(L.SKIN)]
    result[strands] = np.where(by_hair & like_hair, L.HAIR, L.SKIN)[strands]


def _drop_crumbs(result: Array, is_person: Array, scores: Array, face: FaceFrame) -> None:
    """Give pieces of the head that have come off it to neck or cloth."""
    of_head = (((result == L.SKIN) | (result == L.HAIR)) & is_person).astype(np.uint8)
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats(of_head, connectivity=8)
    crumbs = statistics[:, cv2.CC_STAT_AREA] < (0.25 * face.iod) ** 2
    _give(result, crumbs[pieces] & (of_head > 0), scores, (L.NECK, L.CLOTH))


def _give(result: Array, where: Array, scores: Array, others: tuple[int, ...]) -> None:
    """Label pixels as the likeliest of `others`."""
    if where.any():
        columns = [PARTS.index(other) for other in others]
        result[where] = np.array(others, np.uint8)[np.argmax(scores[where][:, columns], axis=1)]


def _demote(
    result: Array,
    is_person: Array,
    part: int,
    anchor: Array,
    scores: Array,
    others: tuple[int, ...],
    smallest: float = 0.0,
) -> None:
    """Give pieces of `part` that do not touch `anchor`, or have fewer than `smallest` pixels, the best of `others`."""
    own = (result == part) & is_person
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats(own.astype(np.uint8), connectivity=4)
    keep = statistics[:, cv2.CC_STAT_AREA] >= smallest
    # A piece that the picture's border cuts is larger than it looks.
    left, top, wide, high = statistics[:, :4].T
    keep |= (left == 0) | (top == 0) | (left + wide == result.shape[1]) | (top + high == result.shape[0])
    touching = np.zeros_like(keep)
    touching[pieces[anchor & own]] = True
    _give(result, own & ~(keep & touching)[pieces], scores, others)


def _draw_features(result: Array, frame: Array, points: Array, mouth: MouthColours, is_person: Array) -> None:
    """Draw brows, eyes, lips and the inside of the mouth over the labels."""
    height, width = result.shape
    for ring in BROW_RINGS:
        # Hair that hangs over a brow hides it.
        result[polygon(points, ring, height, width) & (result != L.HAIR)] = L.BROWS
    for ring in EYE_RINGS:
        result[polygon(points, ring, height, width) & is_person] = L.EYES
    result[polygon(points, LIP_RING_OUTER, height, width) & is_person] = L.LIPS
    opening, teeth = inside_mouth(frame, points, mouth)
    result[opening] = L.MOUTH
    result[teeth] = L.TEETH


def choose_frames(points: Array, valid: Array, count: int) -> Array:
    """Choose frames to learn colours from: three quarters spread evenly, one quarter with the widest mouths.

    Args:
        points: landmarks `[T, 478, 2]` px.
        valid: `[T]`.
        count: how many; fewer when there are not as many frames with a face.
    """
    frames = np.flatnonzero(valid)
    spread = frames[np.unique(np.linspace(0, len(frames) - 1, max(1, count - count // 4)).astype(int))]
    gap = np.nan_to_num(np.linalg.norm(points[frames, 13] - points[frames, 14], axis=1))
    widest: list[int] = []
    for frame in frames[np.argsort(-gap, kind="stable")]:
        if len(widest) >= count // 4:
            break
        # Frames of one wide mouth are neighbours and look alike.
        if all(abs(frame - other) > 2 for other in widest):
            widest.append(int(frame))
    return np.union1d(spread, np.array(widest, int))
