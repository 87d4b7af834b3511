"""``osteo-monai bundle``: configs and weights of MONAI bundles."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from osteo_monai.cli.errors import ArgumentError
from osteo_monai.cli.logs import logger_level
from osteo_monai.cli.options import (
    BundleFolder,
    Device,
    OutputFolder,
    Overwrite,
    TrainingSettings,
    TrustBundle,
    bundle_folder,
    existing_file,
    known_overlays,
    parse_data_source,
    parse_sizes,
    source_folder,
)
from osteo_monai.cli.output import check_folder, check_products, show
from osteo_monai.errors import ConfigError

__all__ = ["compare_networks", "export", "fetch", "merge", "onnx", "pack", "segment", "train_sizes", "verify"]

PAN_SIZES = (50, 100, 200, 300, 500, 1096)
"""Numbers of training images of Pan 2024, Fig. 5."""

SEED = 20240311
"""Of the bundle: of its trainings, and of the order in which people enter its training set."""


def merge(
    bundles: Annotated[
        list[Path],
        typer.Argument(parser=source_folder, metavar="BUNDLE", help="Folders of bundles, such as bundles/NAME."),
    ],
) -> None:
    """Write the merged configs of bundles: train.json, evaluate.json, inference.json, and those of bundles/_shared."""
    overlays = [folder / "configs" / "inference_overlay.json" for folder in bundles]
    if missing := [path for path in overlays if not path.is_file()]:
        raise ArgumentError([f"BUNDLE must hold configs/{path.name}, got '{path.parents[1]}'" for path in missing])
    from osteo_monai.bundle import write_merged_configs

    for folder in bundles:
        for target in write_merged_configs(folder):
            show(f"Config: {target}")


def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names of bundles.")],
    source: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Address of a zip archive, of a zoo that 'bundle pack' wrote or of a Hugging Face repository; or a "
            "folder or zip archive.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder to install into.",
            show_default="$OSTEO_BUNDLES, else ~/.local/share/osteo_monai/bundles",
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust_bundle: TrustBundle = False,
) -> None:
    """Install bundles from a zoo, an archive or a folder, after a check against the SHA-256 of this release."""
    from osteo_monai.bundle import fetch_bundle

    for name in names:
        folder = fetch_bundle(name, source, output, trust_bundle, overwrite)
        show(f"Bundle: {folder}")


def verify(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=bundle_folder,
            metavar="[BUNDLE]",
            help="Names or folders of bundles.",
            show_default="all bundles of this release",
        ),
    ] = None,
) -> None:
    """Compare the files of bundles with the SHA-256 of this release, and list the code in those that differ.

    Exit code 2 when a bundle differs; no code of a bundle is run.
    """
    from osteo_monai.bundle import differences, find_bundle, foreign_code, pinned_names

    wrong = 0
    for folder in bundles or [find_bundle(name) for name in pinned_names()]:
        found = differences(folder)
        wrong += bool(found)
        show(f"{folder.name}: {'differs from this release' if found else 'as in this release'}")
        for line in [*found, *(foreign_code(folder) if found else [])]:
            show(f"  {line}")
    if wrong:
        raise ConfigError(f"bundles must have the files of this release, got {wrong} that differ")


def pack(
    bundles: Annotated[
        list[Path], typer.Argument(parser=bundle_folder, metavar="BUNDLE", help="Names or folders of bundles.")
    ],
    output: OutputFolder,
    base_url: Annotated[
        str,
        typer.Option(
            "--base-url",
            metavar="URL",
            help="Address at which the folder will be served.",
            show_default="relative links",
        ),
    ] = "",
    wheel: Annotated[
        Path | None,
        typer.Option(parser=existing_file, metavar="FILE", help="Wheel of osteo-monai to put beside the archives."),
    ] = None,
) -> None:
    """Write bundles as a static zoo: zip archives, models/model_info.json, folders for MONAI's zoo and Hugging Face."""
    from osteo_monai.bundle import pack_bundles

    for archive in pack_bundles(bundles, output, base_url, wheel):
        show(f"Archive: {archive}")
    show(f"Index: {output / 'models' / 'model_info.json'}")


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            parser=existing_file, metavar="CHECKPOINT", help="Checkpoint of a training run, such as model.pt."
        ),
    ],
    bundle: BundleFolder,
    name: Annotated[str, typer.Option(metavar="NAME", help="File name in the folder models.")] = "model.pt",
    average: Annotated[
        list[Path] | None,
        typer.Option(
            parser=existing_file,
            metavar="FILE",
            help="Further checkpoint of the same network; the mean of all weights is written; repeatable.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Keep single precision instead of half precision.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the weights of a training checkpoint into a bundle, in half precision."""
    target = bundle / "models" / name
    check_products([target], overwrite)
    from osteo_monai.bundle import export_weights

    checksum = export_weights(checkpoint, target, not full, average or [])
    show(f"Weights: {target}, sha256 {checksum}")


def onnx(
    bundle: BundleFolder,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="ONNX file to write.")],
    overlay: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Config of the bundle to add, such as lateral; repeatable."),
    ] = None,
    overwrite: Overwrite = False,
    trust_bundle: TrustBundle = False,
) -> None:
    """Write the network of a bundle as an ONNX file of variable batch and size."""
    check_products([output], overwrite)
    overlays = known_overlays(bundle, overlay or [])
    from osteo_monai.bundle import export_onnx

    axes = export_onnx(bundle, output, overlays, trust_bundle)
    show(f"ONNX: {output}, variable axes: {', '.join(axes)}")


def segment(
    bundle: BundleFolder,
    image: Annotated[Path, typer.Argument(parser=existing_file, metavar="IMAGE", help="CT as NIfTI file.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Mask to write, a file .nii.")],
    slices: Annotated[int, typer.Option(metavar="N", min=1, help="Slices that are in memory together.")] = 32,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Segment a CT that does not fit into memory, slab by slab; the mask is that of the whole scan."""
    check_products([output], overwrite)
    from osteo_monai.bundle import load_bundle, segment_by_slabs
    from osteo_monai.utils.devices import torch_device

    voxels = segment_by_slabs(load_bundle(bundle, torch_device(device)), image, output, slices, progress=True)
    show(f"Mask: {output}, {voxels} voxels")


DataSource = Annotated[
    str,
    typer.Option(
        "--data-source",
        parser=parse_data_source,
        metavar="MANIFEST",
        help="'virtual', or data manifest with training, validation and test.",
    ),
]
Overlays = Annotated[
    list[str] | None,
    typer.Option("--overlay", metavar="NAME", help="Config of the bundle to add, such as pan2024; repeatable."),
]


def train_sizes(
    bundle: BundleFolder,
    output: OutputFolder,
    sizes: Annotated[
        Sequence[int],
        typer.Option(
            parser=parse_sizes,
            metavar="N,N,...",
            help="Numbers of training images.",
            show_default=",".join(map(str, PAN_SIZES)),
        ),
    ] = PAN_SIZES,
    data_source: DataSource = "virtual",
    subset_seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Seed of the order of the people of a manifest.")
    ] = SEED,
    overlay: Overlays = None,
    settings: TrainingSettings = {},  # noqa: B006  # never changed
    trust_bundle: TrustBundle = False,
) -> None:
    """Train the segmentation bundle on increasing numbers of images and measure Dice (Pan 2024, Fig. 5).

    Images of a size are contained in those of larger sizes: people of a manifest in the order of a seed. Writes
    training_size.csv, training_size.png and one folder per size. An interrupted run continues.
    """
    check_folder(output, (), overwrite=True)
    overlays = known_overlays(bundle, overlay or [])
    from osteo_monai.experiments.training_size import training_size_curve

    with logger_level("osteo_monai", logging.INFO):
        results = training_size_curve(bundle, sizes, output, data_source, overlays, subset_seed, settings, trust_bundle)
    for result in results:
        interval = f"95 % interval {result.low:.4f} to {result.high:.4f}"
        show(f"{result.images} training images: Dice {result.mean:.4f} +- {result.sd:.4f}, {interval}")
    show(f"Table: {output / 'training_size.csv'}")


def compare_networks(
    bundle: BundleFolder,
    output: OutputFolder,
    network: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="Config of the bundle with another network; repeatable."),
    ] = ["classical_unet"],  # noqa: B006  # never changed
    data_source: DataSource = "virtual",
    seeds: Annotated[
        Sequence[int],
        typer.Option(parser=parse_sizes, metavar="N,N,...", help="Seeds, one training a network each."),
    ] = (SEED,),
    overlay: Overlays = None,
    settings: TrainingSettings = {},  # noqa: B006  # never changed
    trust_bundle: TrustBundle = False,
) -> None:
    """Train the network of the segmentation bundle and others equally, and compare them by person (Pan 2024, Fig. 6).

    Same images, seeds, augmentations and steps. Writes networks.csv, pairs.csv (paired tests), people.csv,
    comparison.json, cases.png, people.png and one folder per training. An interrupted run continues.
    """
    check_folder(output, (), overwrite=True)
    networks, overlays = known_overlays(bundle, network, "--network"), known_overlays(bundle, overlay or [])
    from osteo_monai.experiments.network_comparison import compare_networks as compare
    from osteo_monai.reporting.numbers import printed_p

    with logger_level("osteo_monai", logging.INFO):
        result = compare(bundle, networks, output, data_source, overlays, seeds, settings, trust_bundle)
    for compared in result.networks:
        dice, sd, distance = compared.mean["dice"], compared.sd["dice"], compared.mean["hausdorff95_mm"]
        show(
            f"{compared.name}, {compared.weights:,} weights: Dice {dice:.4f} +- {sd:.4f}, Hausdorff {distance:.2f} mm, "
            f"{compared.empty} of {compared.images} images without a contour"
        )
    for (first, second, score), pair in result.pairs.items():
        if score == "dice":
            low, high = pair.difference.low, pair.difference.high
            show(
                f"Dice, {first} minus {second}, {pair.people} people: {pair.difference.value:+.4f} "
                f"({low:+.4f} to {high:+.4f}), Wilcoxon p {printed_p(pair.wilcoxon_p)}"
            )
    show(f"Tables: {output / 'networks.csv'}, {output / 'pairs.csv'}")
