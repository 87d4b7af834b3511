"""Opportunistic osteoporosis screening in CT and radiographs, as a MONAI workflow."""

__version__ = "0.1.0"
