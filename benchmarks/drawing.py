"""How long the puppet takes for a frame of the size that the book's corpus has, on one core.

Prints one table, milliseconds of processor time a frame: a person made once and drawn for each frame, with glasses and
without, beside the same person made anew for each frame. All in turns, the smallest and the median of many, because
the machine may be busy.
"""

from __future__ import annotations

import time
from dataclasses import replace

import cv2
import numpy as np

from emibook.doctor import machine
from emibook.puppet.looks import Glasses, Identity, Pose, Scene
from emibook.puppet.renderer import UNITS, Puppet

FRAMES, ANEW = 200, 20


def drawn(puppet: Puppet, step: int) -> np.ndarray:
    """A face in which every muscle pulls, so that all is drawn that can be."""
    units = 2.5 + 2 * np.sin(step / 7 + np.arange(len(UNITS)))
    pose = Pose(yaw=0.1 * float(np.sin(step / 11)))
    return puppet.draw(units, pose=pose, noise_rng=np.random.default_rng(step))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    person, scene, glasses = Identity.random(rng), Scene.random(rng), Glasses.random(rng)
    bare, worn = (Puppet(replace(person, glasses=each), scene) for each in (None, glasses))
    ways = {
        "drawn": lambda step: drawn(bare, step),
        "drawn with glasses": lambda step: drawn(worn, step),
        "made anew and drawn": lambda step: drawn(Puppet(bare.identity, scene), step),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for step in range(FRAMES):
        for name, way in ways.items():
            if way is not ways["made anew and drawn"] or step % (FRAMES // ANEW) == 0:
                began = time.process_time()
                way(step)
                times[name].append(1e3 * (time.process_time() - began))
    print(f"{machine()}\n{bare.width} by {bare.height}, {FRAMES} frames ({ANEW} made anew), one core")
    print(f"{'milliseconds a frame':<22} {'smallest':>8} {'median':>8}")
    for name, each in times.items():
        print(f"{name:<22} {min(each):>8.2f} {float(np.median(each)):>8.2f}")
