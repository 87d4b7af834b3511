"""Add bundles, recipes and the manifest schema to the wheel; all other settings are in ``pyproject.toml``.

They are data folders at the top of the repository, where ``monai.bundle`` and users work with them. The wheel installs
them as packages of their own. setuptools cannot combine package discovery and renamed folders in ``pyproject.toml``.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["osteo_monai*"]), "osteo_monai_bundles", "osteo_monai_data_manifests"],
    package_dir={"osteo_monai_bundles": "bundles", "osteo_monai_data_manifests": "data_manifests"},
    package_data={
        # no patterns like models/*: training and evaluation write checkpoints and figures there
        "osteo_monai_bundles": [
            "*/LICENSE",
            "*/configs/*.json",
            "*/configs/*.conf",
            "*/docs/*.md",
            "*/models/model*.pt",
            "*/models/*.json",
            "*/models/*.ubj",
        ],
        "osteo_monai_data_manifests": ["*.json", "*.csv", "recipes/*.json", "evidence/*.json", "evidence/*.csv"],
    },
)
