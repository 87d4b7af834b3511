"""Hip bones and sacrum for radiographs of the lumbar spine, finer than a CT of the spine needs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.shapes import Palette, Positions, Shape, Vec
from osteo_monai.virtual.canvas import capsule, ellipsoid, smooth_max, smooth_min

SACRUM_REACH_MM = np.array([[-68.0, -120.0, -128.0], [68.0, 45.0, 30.0]])


def hip_bones(anatomy: Anatomy) -> list[Shape]:
    """Return sacrum with its foramina, iliac wings and hips of a person; mg/cm3 of mineral."""
    rng = np.random.default_rng([anatomy.person.seed, 8])
    s = anatomy.scale
    mean = anatomy.person.mean_density
    strength = 0.42 + 0.58 * float(np.clip(mean / 135.0, 0.25, 1.5))
    compact = 900.0 * (0.55 + 0.45 * min(strength, 1.15))
    spongy = 0.75 * mean + 15.0
    noise, shift, texture = anatomy.noise, float(rng.uniform(0, 40)), float(rng.uniform(0.05, 0.2))

    def dense(palette: Palette, p: Positions, d: Tensor) -> float:
        return compact

    def marrow(palette: Palette, p: Positions, d: Tensor) -> Tensor:
        return spongy * (1.0 + texture * noise(p, 5.0, shift)).clamp(min=0.1)

    def add(distance: Callable[[Positions], Tensor], low: Vec, high: Vec, shell: float, value: object = marrow) -> None:
        thickness = max(shell * strength, 0.3)
        shapes.append(
            Shape(tuple(low.tolist()), tuple(high.tolist()), distance, value, None, (thickness, dense))  # type: ignore[arg-type]
        )

    shapes: list[Shape] = []
    sacrum = next(shape for shape in anatomy.bone_shapes if shape.label == VertebraLevel.SACRUM.label)
    shapes.append(replace(sacrum, low=tuple(SACRUM_REACH_MM[0].tolist()), high=tuple(SACRUM_REACH_MM[1].tolist())))
    frame = anatomy.sacrum_frame
    for i in range(4):
        for side in (-1.0, 1.0):
            w = (-24.0 - 21.0 * i) * s
            at = frame @ np.array([side * (24.0 - 2.2 * i) * s, -14.0 + 0.0042 * w * w, w])
            a, b, r = at + frame[:, 1] * 18, at - frame[:, 1] * 18, (5.0 - 0.5 * i) * s
            shapes.append(_hole(a, b, r, 0.25 * spongy))
    crest = float(rng.uniform(28, 52))
    turn, out = np.deg2rad(rng.uniform(30, 44)), np.deg2rad(rng.uniform(14, 26))
    bow, spread = float(rng.uniform(0.0018, 0.0028)), float(rng.uniform(0.95, 1.05))
    for side in (-1.0, 1.0):
        centre = np.array([side * 80 * s * spread, -4.0, crest - 62 * s])
        yaw = np.array([[np.cos(turn), side * np.sin(turn), 0], [-side * np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        tip = np.array([[np.cos(out), 0, side * np.sin(out)], [0, 1, 0], [-side * np.sin(out), 0, np.cos(out)]])
        axes = (yaw @ tip).T

        def wing(p: Positions, c: Vec = centre, m: Vec = axes, side: float = side) -> Tensor:
            d = [x - float(k) for x, k in zip(p, c, strict=True)]
            q = [d[0] * float(row[0]) + d[1] * float(row[1]) + d[2] * float(row[2]) for row in m]
            # a fan: round above, drawn in towards the hip below
            narrow = 1.0 - 0.30 * (-q[2] / (66 * s)).clamp(0, 1)
            rim = (((q[1] / (66 * s * narrow)) ** 2 + (q[2] / (68 * s)) ** 2).clamp(min=1e-6).sqrt() - 1) * (66 * s)
            near = torch.exp(-((rim / 11.0) ** 2))
            below = (-q[2] / (60 * s)).clamp(0, 1)
            half = (2.3 + 4.2 * near + 4.5 * below * below) * s
            sheet = (q[0] - side * bow * (q[1] ** 2 + q[2] ** 2) + side * 4).abs() - half
            return smooth_max(sheet, rim, 4)

        add(wing, centre - 76 * s, centre + 76 * s, 1.0)
        head = np.array([side * 88 * s, 14.0, crest - 62 * s - 74 * s])
        socket = head + np.array([-side * 8 * s, -2.0, 10.0 * s])

        def hip(p: Positions, head: Vec = head, socket: Vec = socket, side: float = side) -> Tensor:
            ball = ellipsoid(p, head.tolist(), [23.5 * s] * 3)
            neck = capsule(p, head, head + np.array([side * 48, -8, -36]) * s, 17 * s, 22 * s)
            cup = ellipsoid(p, socket.tolist(), [31 * s] * 3)
            return smooth_min(smooth_min(ball, neck, 8), smooth_max(cup, 27 * s - (ball + 23.5 * s), 4), 2)

        low = np.minimum(head - 36 * s, head + np.array([side * 75, -36, -62]) * s)
        high = np.maximum(head + 46 * s, head + np.array([side * 75, 30, 0]) * s)
        add(hip, low, high, 1.6)
    return shapes


def _hole(start: Vec, end: Vec, radius: float, value: float) -> Shape:
    low, high = np.minimum(start, end) - radius, np.maximum(start, end) + radius
    return Shape(
        tuple(low.tolist()),
        tuple(high.tolist()),
        lambda p: capsule(p, start, end, radius),
        lambda palette, p, d: value,
    )
