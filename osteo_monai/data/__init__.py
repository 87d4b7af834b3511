"""Data manifests, their splits, and predictions tables."""

from osteo_monai.data.from_table import Build, BuildOptions, BuildProducts, build_manifest, build_products
from osteo_monai.data.manifest import (
    Header,
    Manifest,
    datalist,
    join_manifests,
    manifest_json_schema,
    read_manifest,
    write_manifest,
)
from osteo_monai.data.predictions_schema import BINARY_CLASSES, FACTS, HEAT_COLUMNS, STATUS_CLASSES, record_columns
from osteo_monai.data.predictions_table import (
    Predictions,
    common_rows,
    read_prediction_rows,
    read_predictions,
    write_predictions,
)
from osteo_monai.data.record import Record
from osteo_monai.data.split import SplitPlan, split_by_subject, split_manifest

__all__ = [
    "BINARY_CLASSES",
    "FACTS",
    "HEAT_COLUMNS",
    "STATUS_CLASSES",
    "Build",
    "BuildOptions",
    "BuildProducts",
    "Header",
    "Manifest",
    "Predictions",
    "Record",
    "SplitPlan",
    "build_manifest",
    "build_products",
    "common_rows",
    "datalist",
    "join_manifests",
    "manifest_json_schema",
    "read_manifest",
    "read_prediction_rows",
    "read_predictions",
    "record_columns",
    "split_by_subject",
    "split_manifest",
    "write_manifest",
    "write_predictions",
]
