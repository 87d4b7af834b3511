#!/usr/bin/env bash
# Build the source archive with the lowest setuptools that pyproject.toml allows, build the wheel from it, install that away
# from the checkout and screen a virtual CT.
#
#     tools/check_wheel.sh [PYTHON]
#
# The libraries are those of PYTHON, by default .venv/bin/python.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON="$(cd "$(dirname "${1:-.venv/bin/python}")" && pwd)/$(basename "${1:-.venv/bin/python}")"
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
unset PYTHONPATH OSTEO_BUNDLES
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
"$PYTHON" -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
    > "$("$work/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/libraries.pth"
"$work/venv/bin/python" -m pip install --quiet --no-deps --no-index --force-reinstall "$work"/*.whl

cd "$work/empty"
"$work/venv/bin/python" -c "
import osteo_monai
assert osteo_monai.__file__.startswith('$work'), osteo_monai.__file__
print('installed', osteo_monai.__version__)"
"$work/venv/bin/osteo-monai" virtual ct --output ct --seed 1 --density 75 --matrix 128
"$work/venv/bin/osteo-monai" screen ct/dicom --output result --device cpu
grep --quiet '"verdict": "accepted' result/result.json
test -s result/report.html
echo "The wheel screens: $(basename "$work"/*.whl)"
