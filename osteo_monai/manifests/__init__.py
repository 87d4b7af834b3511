"""Data manifests: which image belongs to whom, what is known of them, and who trains, validates and tests."""

from osteo_monai.manifests.build import Build, BuildOptions, build_manifest
from osteo_monai.manifests.manifest import (
    Header,
    Manifest,
    ManifestError,
    datalist,
    join_manifests,
    manifest_json_schema,
    manifest_sha256,
    read_manifest,
    write_manifest,
)
from osteo_monai.manifests.record import Record
from osteo_monai.manifests.split import SplitPlan, split_by_subject, split_manifest

__all__ = [
    "Build",
    "BuildOptions",
    "Header",
    "Manifest",
    "ManifestError",
    "Record",
    "SplitPlan",
    "build_manifest",
    "datalist",
    "join_manifests",
    "manifest_json_schema",
    "manifest_sha256",
    "read_manifest",
    "split_by_subject",
    "split_manifest",
    "write_manifest",
]
