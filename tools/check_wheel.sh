#!/usr/bin/env bash
# Build the source archive with the lowest setuptools that pyproject.toml allows, build the wheel from it, install that away
# from the checkout, screen a virtual CT, make a virtual cohort, and train and evaluate a bundle.
#
#     tools/check_wheel.sh [--empty] [PYTHON]
#
# The libraries are those of PYTHON, by default .venv/bin/python; with --empty they are installed from the package index by the
# requirements of the wheel and constraints.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

empty=false
if [[ "${1:-}" == "--empty" ]]; then
    empty=true
    shift
fi
PYTHON="$(cd "$(dirname "${1:-.venv/bin/python}")" && pwd)/$(basename "${1:-.venv/bin/python}")"
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
unset PYTHONPATH OSTEO_BUNDLES
bundle=vertebral_body_segmentation_ct
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# a copy of the files under version control: an earlier build/ could add files
mkdir "$work/source" "$work/empty"
git ls-files -z | tar --null --files-from - --create --file - | tar --extract --file - --directory "$work/source"

lowest="$(sed -n 's/^requires = \["setuptools>=\([0-9.]*\)"\]$/\1/p' pyproject.toml)"
"$PYTHON" -m pip install --quiet --target "$work/setuptools" "setuptools==$lowest"
(
    cd "$work/source"
    PYTHONPATH="$work/setuptools" "$PYTHON" -c "from setuptools import build_meta; build_meta.build_sdist('$work')" \
        > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    PYTHONPATH="$work/setuptools" "$PYTHON" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work" \
        "$work"/*.tar.gz
)

"$PYTHON" -m venv "$work/venv"
if $empty; then
    # torch first: its pin selects the CPU wheel where no CUDA is used
    "$work/venv/bin/python" -m pip install --quiet --constraint constraints.txt torch
    "$work/venv/bin/python" -m pip install --quiet --constraint constraints.txt "$work"/*.whl
else
    "$PYTHON" -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
        > "$("$work/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/libraries.pth"
    "$work/venv/bin/python" -m pip install --quiet --no-deps --no-index --force-reinstall "$work"/*.whl
fi

cd "$work/empty"
"$work/venv/bin/python" -c "
import osteo_monai
assert osteo_monai.__file__.startswith('$work'), osteo_monai.__file__
print('installed', osteo_monai.__version__)"
"$work/venv/bin/osteo-monai" virtual ct --output ct --seed 1 --density 75 --matrix 128
"$work/venv/bin/osteo-monai" screen ct/dicom --output result --device cpu
grep --quiet '"verdict": "accepted' result/result.json
test -s result/report.html

# bundles, recipes and schema are package data
"$work/venv/bin/osteo-monai" bundle verify
"$work/venv/bin/osteo-monai" virtual cohort virtual_demo --output cohort
"$work/venv/bin/osteo-monai" manifest validate cohort/manifest.json
"$work/venv/bin/osteo-monai" manifest describe cohort/manifest.json --output describe
bundles="$("$work/venv/bin/python" -c "from osteo_monai.bundle import find_bundle; print(find_bundle('$bundle').parent)")"
case "$bundles" in "$work"/*) ;; *) echo "The bundles are not those of the wheel: $bundles"; exit 1 ;; esac
"$work/venv/bin/osteo-monai" bundle pack "$bundle" --output zoo
"$work/venv/bin/osteo-monai" bundle fetch "$bundle" --source zoo --output fetched
one=(--meta_file "fetched/$bundle/configs/metadata.json" --bundle_root "fetched/$bundle" --num_workers 0 --amp False)
"$work/venv/bin/python" -m monai.bundle run "${one[@]}" --config_file "fetched/$bundle/configs/train.json" \
    --epochs 1 --epoch_length 1 --validation_items 1 --batch_size 1 --image_size 64 --output_dir trained
test -s trained/checkpoints/model.pt
"$work/venv/bin/python" -m monai.bundle run "${one[@]}" --config_file "fetched/$bundle/configs/evaluate.json" \
    --test_items 2 --output_dir evaluated
grep val_mean_dice evaluated/metrics.csv
echo "The wheel screens, trains and evaluates: $(basename "$work"/*.whl), $(du -h "$work"/*.whl | cut -f1)"
