"""Data manifests: which image belongs to whom, what is known of them, and who trains, validates and tests."""

from osteo_monai.data.build import Build, BuildOptions, build_manifest
from osteo_monai.data.manifest import (
    Header,
    Manifest,
    datalist,
    join_manifests,
    manifest_json_schema,
    manifest_sha256,
    read_manifest,
    write_manifest,
)
from osteo_monai.data.record import Record
from osteo_monai.data.split import SplitPlan, split_by_subject, split_manifest

__all__ = [
    "Build",
    "BuildOptions",
    "Header",
    "Manifest",
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
