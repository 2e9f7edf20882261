"""What is behind the head: the plate of the room, and torso and neck continued where the head hides them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from models.errors import UsageError
from models.parsing.labels import BACKGROUND, NECK, head, inside_mouth, torso

Array = np.ndarray

KEPT = 5  # frames a pixel of which the plate is the median
CLEAR_PX = 2  # torso pixels so close to the head hold some of its colour
SIDEWAYS = 0.03  # how far the torso goes on behind the head in any direction, over the square root of the head's area
SAME_ROOM = 10  # levels that the middle pixel of two plates of one room may differ by, in any channel
DARKER = 0.98  # a row, going up under the chin


@dataclass(frozen=True)
class Plate:
    """The room without the person."""

    colours: Array  # [H, W, 3] uint8
    seen: Array  # [H, W] bool: whether some frame showed the room there; elsewhere it is filled in smoothly


def collect_plate(frames: Iterable[tuple[Array, Array]], least_distance: float) -> Plate:
    """Collect the room from the frames in which each pixel lies farthest from the person.

    The distance is exact (Felzenszwalb and Huttenlocher's transform); the median of the farthest few frames keeps
    shadows and mislabelled pixels out.

    Args:
        frames: (frame `[H, W, 3]` uint8, labels `[H, W]`) of some frames with a face; those in which nobody is labelled
            are not used.
        least_distance: px, 0 or more; nearer pixels are not used.

    Raises:
        UsageError: no frames.
    """
    distances: Array | None = None
    colours = np.empty(0)
    for frame, labels in frames:
        distance = cv2.distanceTransform((labels == BACKGROUND).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        if (labels == BACKGROUND).all():
            distance[:] = 0  # the parser has missed the person, who may be anywhere
        if distances is None:
            distances = np.full((KEPT, *labels.shape), -1.0, np.float32)
            colours = np.zeros((KEPT, *frame.shape), np.uint8)
        nearest = np.argmin(distances, axis=0)[None]
        better = distance > np.take_along_axis(distances, nearest, axis=0)[0]
        rows, columns = np.nonzero(better)
        slot = nearest[0, rows, columns]
        distances[slot, rows, columns] = distance[rows, columns]
        colours[slot, rows, columns] = frame[rows, columns]
    if distances is None:
        raise UsageError("no frames to collect a background plate from")
    usable = distances > least_distance
    seen = np.asarray(usable.any(axis=0))
    values = np.where(usable[..., None], colours.astype(np.float32), np.nan)
    picture = np.zeros(colours.shape[1:], np.float32)
    picture[seen] = np.nanmedian(values[:, seen], axis=0)
    return Plate(np.round(fill_smoothly(picture, seen)).astype(np.uint8), seen)


def same_room(one: Plate, other: Plate) -> bool:
    """Return whether two plates show one room in one light, as far as both show any."""
    both = one.seen & other.seen
    if not both.any():
        return True
    difference = np.abs(one.colours[both].astype(np.int16) - other.colours[both].astype(np.int16))
    return bool((np.median(difference, axis=0) <= SAME_ROOM).all())


def fill_smoothly(picture: Array, known: Array) -> Array:
    """Fill the unknown pixels from ever coarser averages of the known ones (push-pull, Gortler et al. 1996).

    Args:
        picture: `[H, W, C]` float32.
        known: `[H, W]` bool; without any known pixel the picture comes back as it is.
    """
    weight = known.astype(np.float32)
    if not known.any():
        return picture
    return np.where(known[..., None], picture, _pull(picture * weight[..., None], weight))


def _pull(weighted: Array, weight: Array) -> Array:
    """Return averages `[H, W, C]` from weighted colours; where there is no weight, from half the size."""
    height, width = weight.shape
    average = weighted / np.maximum(weight, 1e-6)[..., None]
    if weight.min() >= 1 or max(height, width) <= 1:
        return average
    half = ((width + 1) // 2, (height + 1) // 2)
    sum_of_weights = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(weighted, half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0], -1)
    # A coarse pixel that was seen at all counts as known, or the holes would never close.
    full = np.minimum(1.0, 4 * sum_of_weights)
    sums *= (full / np.maximum(sum_of_weights, 1e-6))[..., None]
    coarse = cv2.resize(_pull(sums, full), (width, height), interpolation=cv2.INTER_LINEAR)
    share = np.minimum(weight, 1)[..., None]
    return average * share + coarse.reshape(height, width, -1) * (1 - share)


def torso_layer(frame: Array, labels: Array, neck_rows: float, cloth_rows: float) -> Array:
    """Cut out neck and cloth and continue them behind the head, so that no hole shows when the jaw moves.

    Each column goes on upwards from its topmost pixel under the head, two hundredths darker a row; what the head hides
    between two parts of the torso is filled smoothly; all of it is blurred (after TalkingGaussian's torso images).

    Args:
        frame: `[H, W, 3]` uint8.
        labels: `[H, W]`.
        neck_rows: how far a neck goes on, over the square root of the head's area.
        cloth_rows: the same for cloth.

    Returns:
        `[H, W, 4]` uint8 with straight alpha; black where transparent.
    """
    hidden = head(labels) | inside_mouth(labels)
    body = torso(labels)
    if not body.any():
        return np.zeros((*labels.shape, 4), np.uint8)
    around = cv2.dilate(hidden.astype(np.uint8), np.ones((2 * CLEAR_PX + 1, 2 * CLEAR_PX + 1), np.uint8)) > 0
    clean = body & ~around
    colours = frame.astype(np.float32)
    size = float(np.sqrt(np.count_nonzero(hidden)))
    # Where the frame shows the room there is no torso: a collar's corner would stand beside the jaw as a post.
    free = around & (labels != BACKGROUND)
    rising, rows = _continue_up(colours, labels, clean, free, size * neck_rows, size * cloth_rows)
    colours[rows] = rising[rows]
    between = free & ~rows & _between(clean)
    # Between a neck and the hair beside it the room would shine through as soon as the hair moves.
    margin = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(SIDEWAYS * size) + 1,) * 2)
    beside = hidden & (cv2.dilate(body.astype(np.uint8), margin) > 0)
    # Pixels at the rim of the head belong to the torso all the same; they only need a clean colour.
    invented = rows | between | beside | (body & around)
    solid = clean | rows
    colours = _fill_near(colours, solid, invented)
    covered = body | invented
    soft = _blur_inside(colours, covered)
    colours[invented] = soft[invented]
    # One more pixel on the side of the room: there the camera has mixed cloth and room already.
    edge = (cv2.dilate(covered.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & (labels == BACKGROUND) & ~around
    alpha = covered | edge
    result = np.zeros((*labels.shape, 4), np.uint8)
    result[alpha, :3] = np.clip(np.round(colours[alpha]), 0, 255)
    result[alpha, 3] = 255
    return result


def _continue_up(
    colours: Array, labels: Array, clean: Array, free: Array, neck_rows: float, cloth_rows: float
) -> tuple[Array, Array]:
    """Return colours `[H, W, 3]` continued upwards into what is `free` for it, and where (bool) they hold."""
    height, width = clean.shape
    column = np.arange(width)
    # Crumbs between hair and collar would grow into posts: only what is as broad as a finger goes on.
    side = max(3, round((neck_rows + cloth_rows) / 8)) | 1
    broad = cv2.morphologyEx(clean.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side, side), np.uint8)) > 0
    top = np.argmax(broad, axis=0)
    near = np.maximum(top - np.arange(1, side + 1)[:, None], 0)
    under_head = broad.any(axis=0) & (top > 0) & free[near, column].any(axis=0)
    # Three rows are averaged, so that one dark pixel does not become a dark stripe.
    depth = [np.minimum(top + k, height - 1) for k in range(3)]
    colour = np.mean(
        [np.where(clean[y, column][:, None], colours[y, column], colours[top, column]) for y in depth], axis=0
    )
    neck = (labels[top, column] == NECK) & under_head
    # A neck is broad; a narrow piece of that label beside it is a shadow on the collar.
    neck = cv2.morphologyEx(neck[None].astype(np.uint8), cv2.MORPH_OPEN, np.ones((1, 3 * side), np.uint8))[0] > 0
    if neck.any():
        colour[neck] = _blur_along(colour, neck, side)[neck]
        # Where the jaw meets the collar no neck shows, but when it rises there is one, as far out as on the other side.
        chin, places = column[free.any(axis=0)].mean(), column[neck]
        hidden = under_head & ~neck & (np.abs(column - chin) <= np.abs(places - chin).max())
        colour[hidden] = colour[places[np.abs(column[hidden, None] - places).argmin(axis=1)]]
        neck |= hidden
    reach = np.where(neck, neck_rows, cloth_rows).astype(np.float32)
    # The neck's outline falls off softly; cloth beside it does not rise for that.
    reach = np.minimum(reach, cv2.GaussianBlur(reach[None], (0, 0), side / 2)[0])
    climb = top[None] - np.arange(height)[:, None]
    holds = under_head[None] & (climb > 0) & (climb <= reach[None]) & free
    return (colour[None] * (DARKER ** np.maximum(climb, 0))[..., None]).astype(np.float32), holds


def _blur_along(colour: Array, known: Array, sigma: float) -> Array:
    """Blur a row of colours `[W, 3]` over its known pixels: a beard's shadow would go on as stripes."""
    weight = known.astype(np.float32)
    total = cv2.GaussianBlur(weight[None], (0, 0), sigma)[0]
    blurred = cv2.GaussianBlur((colour * weight[:, None])[None], (0, 0), sigma)[0]
    return blurred / np.maximum(total, 1e-6)[:, None]


def _between(clean: Array) -> Array:
    """Return the pixels that have torso both to the left and to the right in their row."""
    left = np.maximum.accumulate(clean, axis=1)
    right = np.maximum.accumulate(clean[:, ::-1], axis=1)[:, ::-1]
    return left & right


def _fill_near(colours: Array, solid: Array, wanted: Array) -> Array:
    """Fill `wanted` smoothly from `solid`, working only on the rows and columns concerned."""
    holes = wanted & ~solid
    if not holes.any():
        return colours
    rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
    margin = 8
    area = np.s_[max(0, rows[0] - margin) : rows[-1] + margin, max(0, columns[0] - margin) : columns[-1] + margin]
    filled = fill_smoothly(colours[area], solid[area])
    colours[area] = np.where(holes[area][..., None], filled, colours[area])
    return colours


def _blur_inside(colours: Array, covered: Array) -> Array:
    """Blur with a 5x5 Gaussian that sees only covered pixels."""
    weight = covered.astype(np.float32)
    total = cv2.GaussianBlur(weight, (5, 5), 0)
    blurred = cv2.GaussianBlur(colours * weight[..., None], (5, 5), 0)
    return blurred / np.maximum(total, 1e-6)[..., None]
