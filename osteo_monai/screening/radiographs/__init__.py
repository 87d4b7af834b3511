"""Screening of the radiographs of one study."""
