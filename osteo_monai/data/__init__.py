"""Data manifests, their splits, and predictions tables."""

from osteo_monai.data.centre_slices import CentreSlices, write_centre_slices
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
from osteo_monai.data.outline_items import outline_items, shows_slices
from osteo_monai.data.outlines import OutlineImport, OutlineOptions, import_outlines
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
    "CentreSlices",
    "Header",
    "Manifest",
    "OutlineImport",
    "OutlineOptions",
    "Predictions",
    "Record",
    "SplitPlan",
    "build_manifest",
    "build_products",
    "common_rows",
    "datalist",
    "import_outlines",
    "join_manifests",
    "manifest_json_schema",
    "outline_items",
    "read_manifest",
    "read_prediction_rows",
    "read_predictions",
    "record_columns",
    "shows_slices",
    "split_by_subject",
    "split_manifest",
    "write_centre_slices",
    "write_manifest",
    "write_predictions",
]
