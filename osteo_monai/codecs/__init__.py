"""Decoding of compressed pixel data in a process of its own, which imports pydicom and numpy only.

``worker`` is that process, ``osteo_monai.imaging.decoding`` starts it.
"""
