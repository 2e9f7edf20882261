"""From samples to frames: light scatters in skin, samples shrink to pixels, a tone curve makes a picture of them."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from models.demo.fields import Array
from models.parsing.labels import LIPS, NECK, SKIN

_SCATTER = (3.2, 1.6, 1.0)  # blur of the irradiance of skin per channel, samples at 512


class Samples(NamedTuple):
    """What the kernels find out about R x R samples; colours are linear RGB."""

    depth: Array  # [R, R] float32, 1 / mm, of the nearest surface
    owner: Array  # [R, R] int32, the triangle that is seen; -1: what was there before. The next four need one
    weights: Array  # [R, R, 2] float32, where on it
    irradiance: Array  # [R, R, 3] float32
    albedo: Array  # [R, R, 3] float32
    gloss: Array  # [R, R, 3] float32
    label: Array  # [R, R] uint8

    @classmethod
    def of(cls, rows: int) -> "Samples":
        """Samples of empty space."""
        shape = (rows, rows)
        irradiance, albedo, gloss = np.zeros((3, *shape, 3), np.float32)
        return cls(
            depth=np.zeros(shape, np.float32),
            owner=np.full(shape, -1, np.int32),
            weights=np.zeros((*shape, 2), np.float32),
            irradiance=irradiance,
            albedo=albedo,
            gloss=gloss,
            label=np.zeros(shape, np.uint8),
        )


@dataclass(frozen=True)
class Plate:
    """What is behind all that moves: drawn once, and under every frame."""

    colour: Array  # [R, R, 3] float32, linear RGB
    depth: Array  # [R, R] float32, 1 / mm
    label: Array  # [R, R] uint8
    rgb: Array  # [S, S, 3] uint8, the frame that it makes alone
    labels: Array  # [S, S] uint8

    @classmethod
    def of(cls, samples: Samples, behind: Array, size: int) -> "Plate":
        """Take samples in front of a picture `behind` [R, R, 3]; the frames are `size` pixels a side."""
        colour = _over(behind, _reflected(samples, len(behind)), samples.owner >= 0)
        step = len(behind) // size
        return cls(colour, samples.depth, samples.label, develop(colour, step), shrink_labels(samples.label, step))

    def lay(self, samples: Samples) -> None:
        """Let the samples show the plate alone."""
        samples.depth[:], samples.owner[:], samples.label[:] = self.depth, -1, self.label

    def frame(self, samples: Samples) -> tuple[Array, Array]:
        """Picture [S, S, 3] and labels [S, S] of samples that began with the plate."""
        rgb, labels = self.rgb.copy(), self.labels.copy()
        step = len(self.colour) // len(rgb)
        drawn = samples.owner >= 0
        rows, columns = (np.nonzero(drawn.any(axis))[0] // step for axis in (1, 0))
        if len(rows):
            pixels = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            inside = tuple(slice(step * s.start, step * s.stop) for s in pixels)
            part = Samples(*(values[inside] for values in samples))
            colour = _over(self.colour[inside], _reflected(part, len(drawn)), drawn[inside])
            rgb[pixels], labels[pixels] = develop(colour, step), shrink_labels(part.label, step)
        return rgb, labels


def _over(behind: Array, picture: Array, where: Array) -> Array:
    """One picture [..., 3] over another `where` [...] bool; many times as fast as `np.where`."""
    return cv2.copyTo(picture, where.astype(np.uint8), behind.copy())


def _reflected(samples: Samples, rows: int) -> Array:
    """Light that reaches the camera [..., 3], after some of it has wandered in the skin.

    The irradiance is spread in place; no light comes from outside the samples. `rows`: of the whole frame.
    """
    light = samples.irradiance
    skin = (samples.label == SKIN) | (samples.label == LIPS) | (samples.label == NECK)
    mask = skin.astype(np.float32)
    for channel, sigma in enumerate(_SCATTER):
        sigma *= rows / 512
        if sigma >= 0.4:
            shares = mask, mask * light[..., channel]
            share, lit = (cv2.GaussianBlur(v, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT) for v in shares)
            np.divide(lit, share, out=light[..., channel], where=skin)
    return light * samples.albedo + samples.gloss


def develop(linear: Array, step: int) -> Array:
    """Shrink linear RGB to one pixel for `step` x `step` samples and apply the tone curve: uint8."""
    small = cv2.resize(linear, (linear.shape[1] // step, linear.shape[0] // step), interpolation=cv2.INTER_AREA)
    small = np.maximum(small, 0.0)
    small = small * (1 + small / 6.0) / (1 + 0.62 * small) * 1.12  # soft shoulder
    encoded = np.where(small <= 0.0031308, 12.92 * small, 1.055 * np.maximum(small, 1e-6) ** (1 / 2.4) - 0.055)
    return (np.clip(encoded, 0, 1) * 255 + 0.5).astype(np.uint8)


def shrink_labels(label: Array, step: int) -> Array:
    """Of every 2 x 2 block the commonest label, of four different ones the first; of larger blocks the middle one."""
    if step != 2:
        return label[step // 2 :: step, step // 2 :: step]
    a, b, c, d = label[::2, ::2], label[::2, 1::2], label[1::2, ::2], label[1::2, 1::2]
    later = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return np.where((a == b) | (a == c) | (a == d), a, later)
