"""The body of a virtual person."""

from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.neck import AnatomyWithNeck
from osteo_monai.virtual.anatomy.shapes import Noise, Palette, Positions, Shape, Texture, Value, Vec, paint_shapes
from osteo_monai.virtual.anatomy.vertebra import BODY_SIZE_MM, FEMALE_SCALE, Vertebra, reached, sequence

__all__ = [
    "BODY_SIZE_MM",
    "FEMALE_SCALE",
    "Anatomy",
    "AnatomyWithNeck",
    "Noise",
    "Palette",
    "Positions",
    "Shape",
    "Texture",
    "Value",
    "Vec",
    "Vertebra",
    "paint_shapes",
    "reached",
    "sequence",
]
