"""Screening of one CT study: vertebrae found, named, outlined and measured."""
