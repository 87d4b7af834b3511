"""Segment and measure the records of a manifest."""
