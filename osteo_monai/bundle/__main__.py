"""``python -m osteo_monai.bundle merge BUNDLE ...`` or ``... export CHECKPOINT BUNDLE``."""

import argparse
import json
from pathlib import Path

from osteo_monai.bundle import export_weights, merge_inference_config


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m osteo_monai.bundle", description="House-keeping of bundles.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    merge = verbs.add_parser("merge", help="write configs/inference.json from common.json and inference_overlay.json")
    merge.add_argument("bundle", type=Path, nargs="+")
    export = verbs.add_parser("export", help="write a checkpoint's weights into a bundle")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("bundle", type=Path)
    export.add_argument("--name", default="model.pt", help="of the file in models, such as model_lateral.pt")
    export.add_argument("--full", action="store_true", help="keep single precision")
    arguments = parser.parse_args()
    if arguments.verb == "merge":
        for bundle in arguments.bundle:
            text = json.dumps(merge_inference_config(bundle), indent=4) + "\n"
            (bundle / "configs" / "inference.json").write_text(text)
    else:
        if not arguments.checkpoint.is_file():
            parser.exit(2, f"error: the checkpoint must be a file, there is none at '{arguments.checkpoint}'\n")
        target = arguments.bundle / "models" / arguments.name
        print(export_weights(arguments.checkpoint, target, half=not arguments.full), target)


if __name__ == "__main__":
    main()
