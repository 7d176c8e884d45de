"""The identity of a drawn person, the scene around it, and the pose of its head.

Lengths are in face units: half the width of an average face. The origin lies between the eyes, x grows to the
picture's right and y downwards, so an average chin is at y = 1.45.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SKINS = np.array(
    [
        (240, 206, 186), (233, 193, 168), (225, 180, 150), (212, 164, 130), (196, 145, 109),
        (175, 122, 87), (150, 101, 70), (126, 83, 58), (103, 68, 49), (82, 55, 42),
    ],
    dtype=np.float64,
)  # fmt: skip
"""Skin colours from light to dark, RGB under white light."""

HAIRS = np.array(
    [(34, 29, 29), (52, 38, 31), (88, 60, 40), (124, 68, 40), (196, 160, 106), (158, 156, 154)], dtype=np.float64
)
"""Black, dark brown, brown, auburn, blond, grey; RGB under white light."""

IRISES = np.array([(78, 50, 30), (104, 70, 38), (92, 98, 58), (84, 118, 142), (112, 128, 138)], dtype=np.float64)

STYLES = ("short", "parted", "fringe", "long", "bob", "curly", "bun", "cropped")
"""Hair styles."""

GLASSES_SHARE = 1 / 6
"""The share of people with glasses."""

Color = tuple[float, float, float]


def _color(values: np.ndarray) -> Color:
    red, green, blue = np.clip(values, 0, 255)
    return float(red), float(green), float(blue)


FRAME_COLORS = np.array([(28, 26, 28), (28, 26, 28), (66, 44, 32), (120, 122, 126), (140, 112, 70)], dtype=np.float64)
"""Colours of glasses: black (twice as often), brown, grey, gold; RGB under white light."""


@dataclass(frozen=True)
class Glasses:
    """Glasses: half the width and half the height of a lens, and the frame's thickness, in face units."""

    width: float
    height: float
    roundness: float
    """Exponent of the lens's outline: 2 is an oval, 4 nearly a box."""
    thickness: float
    shine: float
    """Opacity of the streak of light on a lens."""
    color: Color

    @classmethod
    def random(cls, rng: np.random.Generator) -> Glasses:
        """Random glasses."""
        return cls(
            width=float(rng.uniform(0.26, 0.31)),
            height=float(rng.uniform(0.18, 0.24)),
            roundness=float(rng.uniform(2.1, 4.0)),
            thickness=float(rng.uniform(0.018, 0.034)),
            shine=float(rng.uniform(0.03, 0.16)),
            color=_color(FRAME_COLORS[rng.integers(len(FRAME_COLORS))] * rng.uniform(0.85, 1.15)),
        )


@dataclass(frozen=True)
class Identity:
    """One drawn person. Proportions are factors around 1 or lengths in face units."""

    seed: int
    """Seed of details without a field: strands of hair, freckles, folds of cloth."""
    skin: float
    """0 for the lightest, 1 for the darkest of ``SKINS``."""
    hair_color: Color
    style: str
    cloth: Color
    iris: Color
    width: float = 1.0
    chin: float = 1.45
    squareness: float = 2.3
    """Exponent of the outline: 2 is an oval, 3 nearly a box."""
    taper: float = 0.10
    eye_distance: float = 0.42
    eye_width: float = 0.225
    eye_height: float = 0.097
    eye_tilt: float = 0.015
    brow_height: float = 0.29
    brow_thickness: float = 0.045
    brow_arch: float = 0.05
    nose_width: float = 1.0
    nose_length: float = 0.56
    nose_height: float = 1.0
    mouth_y: float = 0.93
    mouth_width: float = 0.36
    upper_lip: float = 0.085
    lower_lip: float = 0.115
    lip_redness: float = 0.5
    beard: float = 0.0
    """Darkness of the beard, 0..1."""
    creases: float = 1.0
    """Depth of the folds of expression."""
    freckles: float = 0.0
    neck: float = 0.56
    shoulders: float = 2.3
    neckline: float = 0.5
    glasses: Glasses | None = None

    @classmethod
    def random(cls, rng: np.random.Generator) -> Identity:
        """A random person; skin is uniform from the lightest to the darkest."""
        skin = float(rng.uniform())
        light_hair = rng.uniform() > 0.3 + skin
        hair = HAIRS[rng.integers(2, 6)] if light_hair else HAIRS[rng.choice([0, 0, 1, 5], p=[0.4, 0.15, 0.35, 0.1])]
        iris = IRISES[rng.integers(1, 5)] if skin < 0.4 and rng.uniform() < 0.6 else IRISES[rng.integers(0, 2)]
        style = STYLES[rng.integers(len(STYLES))]
        bearded = style in ("short", "parted", "cropped", "curly") and rng.uniform() < 0.45
        return cls(
            seed=int(rng.integers(2**31)),
            skin=skin,
            hair_color=_color(hair * rng.uniform(0.85, 1.15)),
            style=style,
            cloth=_color(rng.uniform(25, 215) + rng.normal(0, 28, 3)),
            iris=_color(iris * rng.uniform(0.9, 1.1)),
            width=float(rng.uniform(0.93, 1.07)),
            chin=float(rng.uniform(1.38, 1.56)),
            squareness=float(rng.uniform(2.1, 2.75)),
            taper=float(rng.uniform(0.0, 0.11)),
            eye_distance=float(rng.uniform(0.395, 0.445)),
            eye_width=float(rng.uniform(0.205, 0.245)),
            eye_height=float(rng.uniform(0.089, 0.106)),
            eye_tilt=float(rng.uniform(-0.015, 0.04)),
            brow_height=float(rng.uniform(0.265, 0.315)),
            brow_thickness=float(rng.uniform(0.028, 0.06)),
            brow_arch=float(rng.uniform(0.02, 0.08)),
            nose_width=float(rng.uniform(0.85, 1.2) + 0.12 * skin),
            nose_length=float(rng.uniform(0.51, 0.60)),
            nose_height=float(rng.uniform(0.8, 1.2)),
            mouth_y=float(rng.uniform(0.90, 0.97)),
            mouth_width=float(rng.uniform(0.325, 0.395)),
            upper_lip=float(rng.uniform(0.075, 0.11) + 0.02 * skin),
            lower_lip=float(rng.uniform(0.105, 0.145) + 0.02 * skin),
            lip_redness=float(rng.uniform(0.2, 0.9)),
            beard=float(rng.uniform(0.15, 0.75)) if bearded else 0.0,
            creases=float(rng.uniform(0.75, 1.3)),
            freckles=float(rng.uniform(0.3, 1.0)) if skin < 0.4 and rng.uniform() < 0.25 else 0.0,
            neck=float(rng.uniform(0.56, 0.70)),
            shoulders=float(rng.uniform(2.1, 2.6)),
            neckline=float(rng.uniform(0.25, 0.65)),
            glasses=Glasses.random(rng) if rng.uniform() < GLASSES_SHARE else None,
        )

    @property
    def skin_color(self) -> np.ndarray:
        """(3,) RGB under white light."""
        index = self.skin * (len(SKINS) - 1)
        return np.array([np.interp(index, np.arange(len(SKINS)), SKINS[:, channel]) for channel in range(3)])


@dataclass(frozen=True)
class Scene:
    """Light, background, position of the face in the picture, and the camera's noise."""

    seed: int
    light: tuple[float, float, float] = (-0.5, -0.4, 0.75)
    """Towards the light: x to the picture's right, y down, z to the camera."""
    ambient: float = 0.45
    """Share of ambient light."""
    warmth: float = 0.0
    """-1 for bluish, 1 for yellowish light."""
    exposure: float = 1.0
    wall: Color = (150.0, 150.0, 146.0)
    x: float = 0.5
    """Position of the point between the eyes, as a share of the picture's width; ``y`` of its height."""
    y: float = 0.43
    scale: float = 0.20
    """A face unit as a share of the picture's height."""
    noise: float = 2.5
    """Standard deviation of the sensor noise in grey levels."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Scene:
        """A random scene, lit from the left or the right."""
        side = rng.choice([-1.0, 1.0])
        light = np.array([side * rng.uniform(0.15, 0.75), -rng.uniform(0.2, 0.6), rng.uniform(0.6, 0.9)])
        light /= np.linalg.norm(light)
        return cls(
            seed=int(rng.integers(2**31)),
            light=(float(light[0]), float(light[1]), float(light[2])),
            ambient=float(rng.uniform(0.36, 0.6)),
            warmth=float(rng.uniform(-0.7, 0.8)),
            exposure=float(rng.uniform(0.88, 1.12)),
            wall=_color(rng.uniform(60, 215) + rng.normal(0, 9, 3)),
            x=float(rng.uniform(0.44, 0.56)),
            y=float(rng.uniform(0.40, 0.46)),
            scale=float(rng.uniform(0.18, 0.225)),
            noise=float(rng.uniform(1.0, 4.5)),
        )

    @property
    def tint(self) -> np.ndarray:
        """(3,) colour of the light, a factor for each of RGB."""
        return self.exposure * np.array([1 + 0.06 * self.warmth, 1.0, 1 - 0.08 * self.warmth])


@dataclass(frozen=True)
class Pose:
    """Pose of the head relative to the scene's position of it. Angles in radians, shifts in face units."""

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    roll: float = 0.0
    yaw: float = 0.0
    """Positive turns the nose to the picture's right."""
    pitch: float = 0.0
    """Positive turns the nose down."""
    walk: float = 0.0
    """Shift of the whole figure to the picture's right, in face units; ``x`` and ``y`` shift the head."""
    gaze_x: float = 0.0
    """-1..1, the picture's left to right."""
    gaze_y: float = 0.0

    @classmethod
    def random(cls, rng: np.random.Generator, amplitude: float = 1.0) -> Pose:
        """A random pose; ``amplitude`` scales its standard deviations."""
        x, y, scale, roll, yaw, pitch, gaze_x, gaze_y = rng.normal(
            0, amplitude * np.array([0.12, 0.06, 0.03, 0.05, 0.09, 0.06, 0.25, 0.15])
        )
        return cls(x, y, 1 + scale, roll, yaw, pitch).looking(gaze_x, gaze_y)

    def looking(self, gaze_x: float, gaze_y: float) -> Pose:
        """The same pose with another gaze, clipped to -1..1."""
        return replace(self, gaze_x=float(np.clip(gaze_x, -1, 1)), gaze_y=float(np.clip(gaze_y, -1, 1)))
