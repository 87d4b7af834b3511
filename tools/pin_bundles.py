"""Write ``osteo_monai/bundle/pins.json``: the SHA-256 of the files of each bundle, and the code in their configs.

    python tools/pin_bundles.py

Run it after each change of the configs or weights of a bundle; ``tests/bundle/test_pins.py`` compares them.
"""

from pathlib import Path

from osteo_monai.bundle import make_pins
from osteo_monai.utils.files import write_json

ROOT = Path(__file__).parents[1]


def main() -> None:
    folders = [file.parents[1] for file in (ROOT / "bundles").glob("*/configs/metadata.json")]
    target = ROOT / "osteo_monai" / "bundle" / "pins.json"
    write_json(target, make_pins(folders))
    print(f"{len(folders)} bundles: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
