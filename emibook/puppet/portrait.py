"""The static part of a drawn person: skin, hair, body and background, drawn and lit once."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from emibook.puppet.hair import HAIR, hair_behind, hair_in_front
from emibook.puppet.looks import Identity, Scene
from emibook.puppet.relief import (
    FACE,
    REDNESS_OF_SHADOW,
    UNIT,
    grid,
    head_relief,
    mound,
    noise,
    outline,
    pair,
    skin_light,
    smoothstep,
    soft_inside,
    window,
)

BODY = window(-3, 0.2, 3, 3.1)


@dataclass(frozen=True)
class Portrait:
    """A person without eyes and mouth; all arrays are ``(row, column, ...)`` of the texture."""

    color: np.ndarray
    """RGBA uint8; the eyes and the mouth are skin here."""
    relief: np.ndarray
    """Height towards the camera, in face units."""
    shade: np.ndarray
    """(row, column, 3) light on the skin, 1 for full."""


def _skin(identity: Identity, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(row, column, 3) colour of the skin of the face under white light."""
    redness = 0.55 * pair(x, y, 0.55, 0.45, 0.25, 0.2) + 0.5 * mound(x, y, 0, identity.nose_length, 0.16, 0.12)
    redness = redness + 0.25 * mound(x, y, 0, identity.chin - 0.15, 0.25, 0.12)
    redness *= 0.8 - 0.4 * identity.skin
    color = identity.skin_color.astype(np.float32) * (
        1 + redness[..., None] * np.array([0.05, -0.09, -0.08], np.float32)
    )
    around_eyes = pair(x, y, identity.eye_distance, 0.04, 0.24, 0.13)
    color *= 1 - around_eyes[..., None] * np.array([0.09, 0.12, 0.08], np.float32)
    color *= 1 + 0.012 * noise(rng, x.shape, 3)[..., None] + 0.016 * noise(rng, x.shape, 12)[..., None]
    if identity.freckles:
        spots = np.clip(noise(rng, x.shape, 1.3) - 1.1, 0, 0.6) * np.exp(-0.5 * ((y - 0.33) / 0.22) ** 2)
        color *= 1 - identity.freckles * spots[..., None] * np.array([0.25, 0.4, 0.5], np.float32)
    if identity.beard:
        hairy = smoothstep(0.5, 0.95, y + 0.55 * smoothstep(0.55, 1.0, np.abs(x)))
        hairy *= 1 - 0.85 * mound(x, y, 0, identity.mouth_y, 0.30, 0.10)
        hairy *= 1 - pair(x, y, 0.50, 0.55, 0.2, 0.22)
        grain = np.clip(0.85 + 0.22 * noise(rng, x.shape, 1.5), 0, 1)
        share = (identity.beard * 0.9 * hairy * grain)[..., None]
        color = color * (1 - share) + share * np.array(identity.hair_color, np.float32)
    return _brows(identity, rng, x, y, color)


def _brows(identity: Identity, rng: np.random.Generator, x: np.ndarray, y: np.ndarray, color: np.ndarray) -> np.ndarray:
    # From the inner end (t = 0) to the outer (t = 1), thick first, rising to two thirds, then falling.
    inner, outer = identity.eye_distance - 0.26, identity.eye_distance + 0.30
    t = (np.abs(x) - inner) / (outer - inner)
    middle = -identity.brow_height + 0.018 - identity.brow_arch * np.sin(np.pi * np.clip(t, 0, 1) ** 1.25) * 1.3
    middle += 0.05 * np.clip(t - 0.6, 0, None)
    half = identity.brow_thickness * (1 - 0.72 * np.clip(t, 0, 1) ** 1.8)
    inside = smoothstep(1.25, 0.55, np.abs(y - middle) / half)
    inside *= smoothstep(-0.05, 0.08, t) * smoothstep(1.03, 0.9, t)
    strands = noise(rng, (x.shape[0], x.shape[1]), 1.2)
    share = np.clip(inside * (0.86 + 0.13 * strands), 0, 0.97)[..., None]
    dark = np.array(identity.hair_color, np.float32) * (0.55 if max(identity.hair_color) > 110 else 0.85)
    return color * (1 - share) + share * dark


class _Canvas:
    """A stack of layers, each blended over the ones before."""

    def __init__(self, background: np.ndarray, shape: tuple[int, int]) -> None:
        self.color = np.empty((*shape, 3), np.float32)
        self.color[:] = background
        self.alpha = np.zeros(shape, np.float32)

    def put(self, mask: np.ndarray, color: np.ndarray, box: tuple[slice, slice]) -> None:
        """Blend ``color`` ``(row, column, 3)`` over ``box`` with the weights ``mask`` ``(row, column)``."""
        mask = mask.astype(np.float32, copy=False)
        under = self.color[box]
        np.copyto(under, cv2.blendLinear(color.astype(np.float32, copy=False), under, mask, 1 - mask))
        np.maximum(self.alpha[box], mask, out=self.alpha[box])


def _neck(identity: Identity, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    x, y = (axis[BODY] for axis in grid())
    lx = scene.light[0]
    wide = identity.neck + 0.10 * smoothstep(1.5, 2.2, y) ** 2 + 0.5 * smoothstep(1.85, 2.4, y)
    mask = soft_inside(np.abs(x) / wide) * smoothstep(0.2, 0.4, y)
    across = np.clip(x / identity.neck, -1, 1)
    light = (0.80 + 0.26 * lx * across) * np.sqrt(np.clip(1.04 - 0.45 * across**2, 0, None))
    light *= 1 - 0.42 * smoothstep(identity.chin + 0.52, identity.chin - 0.05, y + 0.10 * x * np.sign(lx))
    sinew = np.exp(-0.5 * ((np.abs(x) - 0.16 - 0.22 * (2.1 - y)) / 0.05) ** 2)
    light *= 1 - 0.10 * sinew * smoothstep(1.6, 2.0, y)
    return mask, _on_skin(np.clip(light, 0.05, None)) * identity.skin_color.astype(np.float32)


def _cloth(identity: Identity, scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = (axis[BODY] for axis in grid())
    slope = 1.78 + 0.36 * smoothstep(0.5, 1.35, np.abs(x)) + 0.30 * np.clip(np.abs(x) - 0.9, 0, None) ** 2
    top = slope + 4 * np.clip(np.abs(x) - identity.shoulders + 0.25, 0, None) ** 2
    collar = (x / (identity.neck + 0.22)) ** 2 + ((y - 1.72) / (identity.neckline + 0.18)) ** 2
    mask = np.clip((y - top) * UNIT / 1.3 + 0.5, 0, 1) * (1 - soft_inside(collar))
    folds = noise(rng, x.shape, 16) * 0.02 + noise(rng, x.shape, 40) * 0.03
    across = x / identity.shoulders
    light = 0.92 + 0.30 * scene.light[0] * across - 0.16 * np.square(np.square(across)) + folds
    light -= 0.13 * np.exp(-0.5 * ((np.sqrt(collar) - 1.10) / 0.04) ** 2)
    light -= 0.22 * smoothstep(2.5, 1.9, y) * np.exp(-0.5 * (x / 0.8) ** 2)
    return mask, light[..., None] * np.array(identity.cloth, np.float32)


def _ear(identity: Identity, scene: Scene, side: int) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    box = window(side * identity.width - 0.25, -0.2, side * identity.width + 0.25, 0.55)
    x, y = (axis[box] for axis in grid())
    level = ((x - side * identity.width * 0.985) / 0.13) ** 2 + ((y - 0.16) / 0.27) ** 2
    light = 0.78 + 0.22 * side * scene.light[0] - 0.25 * np.exp(-0.5 * ((level - 0.35) / 0.18) ** 2)
    return soft_inside(level), _on_skin(light) * identity.skin_color * [1.02, 0.93, 0.9], box


def _on_skin(light: np.ndarray) -> np.ndarray:
    return light[..., None].astype(np.float32) ** REDNESS_OF_SHADOW


def _face_light(identity: Identity, scene: Scene, relief: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """(row, column, 3) light on the face, with cast shadows, which the relief's normals do not give."""
    x, y = (axis[FACE] for axis in grid())
    tip, wide, lx = identity.nose_length, identity.nose_width, scene.light[0]
    dark = 0.60 * pair(x, y, 0.095 * wide, tip + 0.085, 0.030 * wide, 0.018)
    dark += 0.17 * pair(x, y, 0.235 * wide, tip + 0.04, 0.018, 0.055)
    dark += 0.20 * mound(x, y, -0.10 * lx, tip + 0.165, 0.16 * wide, 0.045)
    dark += 0.16 * mound(x, y, 0, identity.mouth_y + identity.lower_lip + 0.075, 0.17, 0.035)
    dark += 0.16 * pair(x, y, identity.eye_distance - 0.14, -0.12, 0.15, 0.06)
    light = skin_light(relief, scene)
    light *= 1 - np.clip(dark, 0, 0.8)[..., None] * np.array([0.92, 1.0, 1.0], np.float32)
    hair_shadow = cv2.GaussianBlur(np.roll(hair[FACE], (7, int(-5 * np.sign(lx))), (0, 1)), (0, 0), 5)
    return light * (1 - 0.30 * hair_shadow[..., None])


def draw_portrait(identity: Identity, scene: Scene) -> Portrait:
    """Draw a person without eyes and mouth, in the scene's light."""
    rng = np.random.default_rng(identity.seed)
    x, y = grid()
    tint = scene.tint.astype(np.float32)
    canvas = _Canvas(0.8 * np.array(identity.hair_color), x.shape)
    for mask, color in hair_behind(identity, scene, rng):
        canvas.put(mask, color * tint, HAIR)
    for mask, color in (_neck(identity, scene), _cloth(identity, scene, rng)):
        canvas.put(mask, color * tint, BODY)
    for side in (-1, 1):
        mask, color, box = _ear(identity, scene, side)
        canvas.put(mask, color * tint, box)
    hair = np.zeros(x.shape, np.float32)
    hair[HAIR], hair_color = hair_in_front(identity, scene, rng)
    relief = np.zeros(x.shape, np.float32)
    relief[FACE] = head_relief(identity, x[FACE], y[FACE])
    shade = np.ones((*x.shape, 3), np.float32)
    shade[FACE] = _face_light(identity, scene, relief[FACE], hair)
    skin = _skin(identity, rng, x[FACE], y[FACE])
    canvas.put(soft_inside(outline(identity, x[FACE], y[FACE])), skin * shade[FACE] * tint, FACE)
    canvas.put(hair[HAIR], hair_color * tint, HAIR)
    color = np.dstack([np.clip(canvas.color, 0, 255), canvas.alpha * 255]).astype(np.uint8)
    return Portrait(color=color, relief=relief, shade=shade)


def draw_background(scene: Scene, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8 RGB: a wall with a few objects out of focus."""
    rng = np.random.default_rng(scene.seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / height
    across = columns / columns.max() - 0.5
    light = 0.95 - 0.35 * scene.light[0] * across * -1 - 0.12 * rows
    picture = light[..., None] * np.array(scene.wall, np.float32)
    for _ in range(rng.integers(1, 6)):
        x0, y0 = rng.uniform(-0.15, 0.95) * width, rng.uniform(-0.2, 0.7) * height
        x1, y1 = x0 + rng.uniform(0.06, 0.35) * width, y0 + rng.uniform(0.15, 0.9) * height
        shape = np.zeros((height, width), np.float32)
        cv2.rectangle(shape, (int(x0), int(y0)), (int(x1), int(y1)), 1.0, -1)
        shape = cv2.GaussianBlur(shape, (0, 0), rng.uniform(1.5, 6) * height / 240)[..., None]
        color = (np.array(scene.wall) * rng.uniform(0.6, 1.3) + rng.normal(0, 9, 3)).astype(np.float32)
        picture += shape * 0.8 * (color * light[..., None] - picture)
    picture *= scene.tint.astype(np.float32)
    return np.clip(picture, 4, 250).astype(np.uint8)
