"""Outlines of vertebral bodies in single slices, by QuPath (GeoJSON) or as 2D label images, as a manifest of slices."""

from osteo_monai.data.outlines.importer import OutlineImport, OutlineOptions, import_outlines, outline_products

__all__ = ["OutlineImport", "OutlineOptions", "import_outlines", "outline_products"]
