"""Build a manifest from a table of subjects and a folder of images.

``docs/manifests.md`` describes the columns. Unknown facts stay unknown; the number of subjects for whom a rule could
not be checked is reported.
"""

from osteo_monai.data.from_table.builder import Build, BuildProducts, build_manifest, build_products
from osteo_monai.data.from_table.flow import Exclusion, Stage
from osteo_monai.data.from_table.rules import RULE_SETS, Rule
from osteo_monai.data.from_table.table import TABLE_COLUMNS, BuildOptions

__all__ = [
    "RULE_SETS",
    "TABLE_COLUMNS",
    "Build",
    "BuildOptions",
    "BuildProducts",
    "Exclusion",
    "Rule",
    "Stage",
    "build_manifest",
    "build_products",
]
