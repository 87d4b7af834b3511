"""Data manifests: which image belongs to whom, what is known of them, and who trains, validates and tests."""

from osteo_monai.manifests.manifest import (
    Header,
    Manifest,
    ManifestError,
    datalist,
    manifest_json_schema,
    manifest_sha256,
    read_manifest,
    write_manifest,
)
from osteo_monai.manifests.record import Record
from osteo_monai.manifests.split import split_by_subject

__all__ = [
    "Header",
    "Manifest",
    "ManifestError",
    "Record",
    "datalist",
    "manifest_json_schema",
    "manifest_sha256",
    "read_manifest",
    "split_by_subject",
    "write_manifest",
]
