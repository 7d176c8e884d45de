"""Eyes and mouth of a drawn person, drawn into the portrait's texture for every frame."""

from __future__ import annotations

import cv2
import numpy as np

from emibook.puppet.looks import Identity, Pose, Scene
from emibook.puppet.muscles import INDEX
from emibook.puppet.portrait import Portrait
from emibook.puppet.relief import ORIGIN, UNIT, mound, window

ALONG_LID = np.linspace(0, 1, 17)
"""Positions from the inner to the outer corner of an eye."""
ALONG_LIPS = np.linspace(-1, 1, 25)
"""Positions from the left to the right corner of the mouth."""
SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates."""


def _pixels(x: np.ndarray, y: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    """Face units to OpenCV's fixed-point pixels inside ``box``."""
    pixels = np.empty((len(x), 2), np.int32)
    pixels[:, 0] = np.rint(((x + ORIGIN[0]) * UNIT - 0.5 - box[1].start) * (1 << SHIFT))
    pixels[:, 1] = np.rint(((y + ORIGIN[1]) * UNIT - 0.5 - box[0].start) * (1 << SHIFT))
    return pixels


def _bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the nonzero part of ``mask``, which is small, with ``margin`` more on each side."""
    column, row, width, height = cv2.boundingRect(mask)
    return slice(max(row - margin, 0), row + height + margin), slice(max(column - margin, 0), column + width + margin)


def _blur(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur ``mask`` in place."""
    box = _bounding_box(mask, margin=2 * int(np.ceil(4 * sigma)))
    mask[box] = cv2.GaussianBlur(mask[box], (0, 0), sigma)
    return mask


def _polygon(shape: tuple[int, int], points: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """Mask 0..255 of a polygon with a smooth edge."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, SHIFT)
    return _blur(mask, sigma) if sigma else mask


def _blend(picture: np.ndarray, color: np.ndarray, mask: np.ndarray) -> None:
    """Blend ``color`` over ``picture`` with the uint8 weights ``mask``; ``picture`` changes in place."""
    if not mask.any():
        return
    box = _bounding_box(mask)
    weight = mask[box].astype(np.float32) * (1 / 255)
    picture[box] = cv2.blendLinear(np.ascontiguousarray(color[box]), picture[box], weight, 1 - weight)


def _paint(picture: np.ndarray, color: tuple[float, ...], mask: np.ndarray, strength: float = 1.0) -> None:
    """``_blend`` with one color. The four channels of a pixel are set as one uint32, which is faster."""
    pixel = np.array([*(min(max(int(channel), 0), 255) for channel in color[:3]), 255], np.uint8).view(np.uint32)
    flat = np.full(mask.shape, pixel[0]).view(np.uint8).reshape(*mask.shape, 4)
    _blend(picture, flat, cv2.convertScaleAbs(mask, alpha=strength) if strength != 1 else mask)


class Eye:
    """One eye; ``side`` is -1 for the picture's left, 1 for its right."""

    def __init__(self, identity: Identity, scene: Scene, portrait: Portrait, side: int) -> None:
        self.identity, self.side = identity, side
        self.x, self.width = side * identity.eye_distance, identity.eye_width
        half = self.width + 0.09
        self.box = window(self.x - half, -0.27, self.x + half, 0.20)
        rows, columns = self.box
        self.shape = rows.stop - rows.start, columns.stop - columns.start
        shade = portrait.shade[self.box].mean((0, 1))
        self.light = np.clip(0.35 + 0.62 * shade, 0.3, 1.05) * scene.tint
        self.skin = portrait.color[self.box][..., :3].reshape(-1, 3).mean(0)
        self.lash = tuple(0.16 * self.skin + 0.10 * np.array(identity.hair_color))
        self.margin = 10
        self.ball = self._ball(scene)

    def _ball(self, scene: Scene) -> np.ndarray:
        """The eyeball, ``margin`` pixels larger than the box on each side, so that it can turn."""
        height, width = (size + 2 * self.margin for size in self.shape)
        rows, columns = self.box
        column = (np.arange(width) - self.margin + columns.start + 0.5) / UNIT - ORIGIN[0] - self.x
        row = (np.arange(height) - self.margin + rows.start + 0.5) / UNIT - ORIGIN[1]
        x, y = np.meshgrid(column, row)
        white = np.array([232.0, 227.0, 222.0]) - 12 * self.identity.skin
        roundness = 1 - 0.30 * (x / (self.width * 1.1)) ** 2 - 0.5 * np.clip(-y / 0.12, 0, 1) ** 2 * 0.4
        ball = white * roundness[..., None] * self.light
        radius = np.sqrt(x**2 + (y + 0.012) ** 2)
        size = 0.094
        iris = np.array(self.identity.iris)
        spokes = 1 + 0.16 * np.cos(np.arctan2(y, x) * 23) * np.clip(radius / size, 0, 1)
        glow = 0.75 + 0.6 * np.clip(y / size, -0.6, 1) * 0.6
        rim = 1 - 0.62 * np.clip((radius / size - 0.68) / 0.32, 0, 1) ** 2
        disc = iris * (spokes * glow * rim)[..., None] * self.light
        edge = np.clip((size - radius) * UNIT + 0.5, 0, 1)[..., None]
        ball += edge * (disc - ball)
        pupil = np.clip((0.040 - radius) * UNIT + 0.5, 0, 1)[..., None]
        ball += pupil * (np.array([14.0, 11.0, 10.0]) - ball)
        side = np.sign(scene.light[0])
        spot = np.clip((0.024 - np.sqrt((x - side * 0.038) ** 2 + (y + 0.055) ** 2)) * UNIT + 0.5, 0, 1)
        spot = np.maximum(spot, 0.35 * mound(x, y, -side * 0.04, 0.04, 0.018, 0.018))[..., None]
        ball += spot * (np.array([250.0, 250.0, 248.0]) - ball)
        corner = np.clip(1.3 * mound(x, y, -self.side * self.width, 0.02, 0.045, 0.04), 0, 1)[..., None]
        ball += corner * (0.75 * (self.skin * [1.15, 0.8, 0.78] - ball))
        return np.dstack([np.clip(ball, 0, 255), np.full(ball.shape[:2], 255)]).astype(np.uint8)

    def lids(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y of the upper and y of the lower lid's edge, ``(point,)`` each, inner corner first, in face units."""
        level = units / 5
        raised, cheek, tight, blink = (level[INDEX[unit]] for unit in (5, 6, 7, 45))
        wrinkle, brow = level[INDEX[9]], level[INDEX[4]]
        # At rest the upper lid covers the iris's upper edge; raised, it shows the white above it. Tightening lifts and
        # straightens the lower lid, a raised cheek only pushes it.
        upper = self.identity.eye_height * (1 - 0.22 * tight - 0.06 * cheek - 0.10 * brow - 0.10 * wrinkle)
        upper = upper + 0.080 * raised
        lower = 0.058 * (1 - 0.40 * wrinkle) - 0.067 * tight - 0.036 * cheek + 0.004 * raised
        shut = np.clip(blink * 1.06, 0, 1)
        upper = upper + shut * (-(lower + 0.5 * (0.040 - lower)) - upper)
        lower = lower + shut * 0.5 * (0.040 - lower)
        x = self.width * (2 * ALONG_LID - 1)
        tilt = self.identity.eye_tilt * (1 - 2 * ALONG_LID)
        arch = np.sin(np.pi * ALONG_LID**0.92) ** 0.85
        return self.x + self.side * x, tilt - upper * arch, tilt + lower * np.sin(np.pi * ALONG_LID**1.1) ** 0.9

    def draw(self, texture: np.ndarray, units: np.ndarray, pose: Pose) -> None:
        """Draw the eye into the RGBA ``texture``, in place."""
        picture = texture[self.box]
        x, upper, lower = self.lids(units)
        height, width = self.shape
        gap = float(np.max(lower - upper))
        top, bottom = _pixels(x, upper, self.box), _pixels(x, lower, self.box)
        # The crease above the lid deepens as the eye opens and flattens as it closes.
        raised = float(units[INDEX[5]]) / 5
        crease = _pixels(x, upper - 0.055 + 0.03 * raised - 0.02 * np.sin(np.pi * ALONG_LID), self.box)[1:]
        line = np.zeros(self.shape, np.uint8)
        cv2.polylines(line, [crease], False, 255, 2, cv2.LINE_AA, SHIFT)
        _paint(picture, tuple(0.55 * self.skin), _blur(line, 1.3), 0.75 if gap > 0.05 else 0.35)
        if gap > 0.008:
            right = self.margin - int(round(pose.gaze_x * 0.075 * UNIT))
            down = self.margin - int(round(pose.gaze_y * 0.045 * UNIT))
            ball = self.ball[down : down + height, right : right + width].copy()
            shadow = np.zeros(self.shape, np.uint8)
            cv2.polylines(shadow, [top], False, 255, 7, cv2.LINE_AA, SHIFT)
            _paint(ball, tuple(0.30 * self.skin), _blur(shadow, 2.0), 0.62 - 0.4 * raised)
            opening = np.concatenate([top, bottom[::-1]])
            _blend(picture, ball, _polygon(self.shape, opening))
            rim = np.zeros(self.shape, np.uint8)
            cv2.polylines(rim, [bottom], False, 255, 1, cv2.LINE_AA, SHIFT)
            _paint(picture, tuple(self.skin * [0.62, 0.50, 0.48]), _blur(rim, 0.7), 0.9)
        # The lashes: a band that becomes thicker outwards.
        thick = 0.012 + 0.020 * ALONG_LID**0.8
        band = np.concatenate([top, _pixels(x, upper - thick, self.box)[::-1]])
        _paint(picture, self.lash, _polygon(self.shape, band, 0.6), 0.95)


class Mouth:
    """Lips, teeth, tongue and the cavity behind them."""

    def __init__(self, identity: Identity, scene: Scene, portrait: Portrait) -> None:
        self.identity = identity
        y = identity.mouth_y
        self.box = window(-0.72, y - 0.36, 0.72, y + 0.50)
        rows, columns = self.box
        self.shape = rows.stop - rows.start, columns.stop - columns.start
        self.light = np.clip(portrait.shade[self.box], 0.1, 1.3).astype(np.float32)
        self.tint = float(self.light.mean())
        red = identity.lip_redness
        skin = identity.skin_color
        dark, fair = np.array([128.0, 66.0, 62.0]), np.array([206.0, 104.0, 104.0])
        lip = (0.50 - 0.20 * red) * skin + (0.50 + 0.20 * red) * (dark if identity.skin > 0.6 else fair)
        lip = lip * [0.97, 0.90, 0.90]
        self.upper = self._lit(lip * 0.80 * scene.tint)
        self.lower = self._lit(lip * 1.03 * scene.tint)
        self.gloss = np.clip(lip * 1.25 + 22, 0, 255) * scene.tint * self.tint
        self.cavity = (40.0 * self.tint, 16.0 * self.tint, 18.0 * self.tint)
        self.tongue = tuple(np.array([152.0, 70.0, 72.0]) * self.tint * 0.8)
        self.teeth = tuple(np.array([236.0, 230.0, 218.0]) * scene.tint * (0.25 + 0.68 * self.tint))

    def _lit(self, color: np.ndarray) -> np.ndarray:
        flat = np.clip(self.light * color, 0, 255)
        return np.dstack([flat, np.full(self.shape, 255)]).astype(np.uint8)

    def curves(self, units: np.ndarray) -> tuple[np.ndarray, ...]:
        """x, then y of the upper lip's outer and inner and of the lower lip's inner and outer edge.

        Each is ``(point,)``, in face units.
        """
        level = units / 5
        smile, dimple, down, chin, stretch, tight, part, jaw, sneer, nose = (
            level[INDEX[unit]] for unit in (12, 14, 15, 17, 20, 23, 25, 26, 10, 9)
        )
        width = self.identity.mouth_width
        width += 0.125 * smile + 0.065 * dimple + 0.015 * down + 0.16 * stretch - 0.105 * tight
        width -= 0.035 * jaw + 0.035 * chin
        t, bow = ALONG_LIPS, 1 - ALONG_LIPS**2
        x = width * t * (1 - 0.04 * jaw * bow)
        corner = -0.012 - 0.118 * smile + 0.085 * down + 0.02 * stretch - 0.01 * dimple
        droop = 0.035 * down * np.clip(np.abs(t) - 0.8, 0, 1) / 0.2
        middle = self.identity.mouth_y + 0.03 * jaw + corner * np.abs(t) ** 2.2 + droop - 0.065 * chin * bow
        middle += 0.035 * smile * bow
        thin = (1 - 0.62 * tight) * (1 - 0.42 * stretch) * (1 - 0.2 * smile) * (1 - 0.25 * dimple)
        above = self.identity.upper_lip * thin * (1 - 0.15 * chin) * (1 - 0.30 * sneer)
        below = self.identity.lower_lip * thin * (1 + 0.32 * chin) * (1 - 0.40 * jaw)
        # A raised upper lip moves the lower one by half as much; a dropped jaw opens the lips wide only if they part.
        open_up = part * (0.050 + 0.025 * smile) + 0.090 * sneer + 0.02 * nose + 0.01 * jaw
        open_down = part * (0.080 + 0.095 * jaw) + 0.045 * jaw - 0.045 * sneer
        open_up, open_down = (value * (1 - 0.35 * tight) for value in (open_up, open_down))
        square = 0.8 - 0.35 * sneer - 0.15 * stretch + 0.25 * jaw
        upper_inner = middle - open_up * bow**square + 0.006 * np.exp(-((t / 0.22) ** 2))
        lower_inner = np.maximum(middle + open_down * bow**0.75, upper_inner)
        cupid = 0.22 * np.exp(-((t / 0.16) ** 2)) * (1 - 0.6 * stretch)
        upper_outer = upper_inner - above * (np.clip(1 - np.abs(t) ** 1.7, 0, None) - cupid)
        lower_outer = lower_inner + below * bow**0.75
        return x, upper_outer, upper_inner, lower_inner, lower_outer

    def draw(self, texture: np.ndarray, units: np.ndarray) -> None:
        """Draw the mouth into the RGBA ``texture``, in place."""
        picture = texture[self.box]
        x, upper_outer, upper_inner, lower_inner, lower_outer = self.curves(units)
        points = [_pixels(x, y, self.box) for y in (upper_outer, upper_inner, lower_inner, lower_outer)]
        gap = float(np.max(lower_inner - upper_inner))
        _blend(picture, self.lower, _polygon(self.shape, np.concatenate([points[2], points[3][::-1]]), 1.2))
        _blend(picture, self.upper, _polygon(self.shape, np.concatenate([points[0], points[1][::-1]]), 1.0))
        shine = np.zeros(self.shape, np.uint8)
        half = lower_inner + 0.45 * (lower_outer - lower_inner)
        cv2.polylines(shine, [_pixels(x, half, self.box)[8:17]], False, 255, 3, cv2.LINE_AA, SHIFT)
        _paint(picture, tuple(self.gloss), _blur(shine, 2.0), 0.55)
        if gap > 0.012:
            inside = _polygon(self.shape, np.concatenate([points[1], points[2][::-1]]))
            mouth = np.empty_like(picture)
            mouth[:] = (*(int(channel) for channel in self.cavity), 255)
            self._draw_inside(mouth, x, upper_inner, lower_inner)
            _blend(picture, mouth, inside)
        line = np.zeros(self.shape, np.uint8)
        cv2.polylines(line, [points[1]], False, 255, 1 if gap > 0.03 else 2, cv2.LINE_AA, SHIFT)
        dark = tuple(np.array([74.0, 30.0, 30.0]) * self.tint * (1 - 0.35 * self.identity.skin))
        _paint(picture, dark, _blur(line, 0.8), 0.95)
        ends = np.zeros(self.shape, np.uint8)
        for end in (0, -1):
            cv2.circle(ends, tuple(int(v) for v in points[1][end]), 2 << SHIFT, 255, -1, cv2.LINE_AA, SHIFT)
        _paint(picture, dark, _blur(ends, 1.4), 0.8)

    def _draw_inside(self, mouth: np.ndarray, x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> None:
        """Tongue, teeth and shadow between the inner edges of the lips, ``top`` and ``bottom`` ``(point,)``."""
        tongue = np.maximum(bottom - 0.45 * (bottom - top), top + 0.10)
        if float(np.max(bottom - top)) > 0.12:
            shape = np.concatenate([_pixels(0.72 * x, tongue, self.box), _pixels(0.72 * x, bottom, self.box)[::-1]])
            _paint(mouth, self.tongue, _polygon(self.shape, shape, 1.5))
        edge = np.minimum(top + 0.10, top[len(top) // 2] + 0.095 - 0.02 * ALONG_LIPS**2)
        edge = np.maximum(np.minimum(edge, bottom - 0.012), top)
        teeth = np.concatenate([_pixels(0.9 * x, top - 0.02, self.box), _pixels(0.9 * x, edge, self.box)[::-1]])
        _paint(mouth, self.teeth, _polygon(self.shape, teeth, 0.8), 0.95)
        gaps = np.zeros(self.shape, np.uint8)
        for center in (-0.20, -0.135, -0.07, 0.0, 0.07, 0.135, 0.20):
            high, low = (float(np.interp(center, 0.9 * x, line)) for line in (top, edge - 0.02))
            if low > high:
                ends = _pixels(np.array([center, center]), np.array([high, low]), self.box)
                cv2.polylines(gaps, [ends], False, 255, 1, cv2.LINE_AA, SHIFT)
        _paint(mouth, tuple(0.7 * np.array(self.teeth)), gaps, 0.35)
        shadow = np.zeros(self.shape, np.uint8)
        cv2.polylines(shadow, [_pixels(x, top, self.box)], False, 255, 3, cv2.LINE_AA, SHIFT)
        _paint(mouth, self.cavity, _blur(shadow, 1.6), 0.6)
