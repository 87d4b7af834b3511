"""Write a manifest of a public data set, its converted label maps, and the list of scans that are left out."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.progress import track

from osteo_monai.data.csv_tables import write_table
from osteo_monai.data.manifest import Header, Manifest, sentences, write_manifest
from osteo_monai.data.public.case import Case, Density, Found, LeftOut, PublicSet, Source
from osteo_monai.data.public.ctspine1k import CTSPINE1K
from osteo_monai.data.public.labels import read_centroids, read_grid, read_label, write_labels
from osteo_monai.data.public.spinopelvic import SPINOPELVIC
from osteo_monai.data.public.totalsegmentator import TOTALSEGMENTATOR
from osteo_monai.data.public.verse import VERSE
from osteo_monai.data.public.vertebral_bodies import VERTEBRAL_BODIES
from osteo_monai.data.record import Record
from osteo_monai.domain import MineralStandard
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.files import write_json

PUBLIC_SETS: Mapping[str, PublicSet] = {
    "verse": VERSE,
    "totalsegmentator": TOTALSEGMENTATOR,
    "ctspine1k": CTSPINE1K,
    "vertebral-bodies": VERTEBRAL_BODIES,
    "spinopelvic": SPINOPELVIC,
}
"""The sets by the name on the command line."""

__all__ = ["PUBLIC_SETS", "PublicImport", "PublicOptions", "PublicProducts", "import_public", "public_products"]

LOWEST_KVP, HIGHEST_KVP = 40.0, 200.0
"""Bounds of a tube voltage in kV, those of ``Record``."""

_SPLIT_ORDER = ("training", "validation", "test")


@dataclass(frozen=True)
class PublicOptions:
    """Input of :func:`import_public`.

    Attributes:
        name: a key of ``PUBLIC_SETS``.
        folder: the tree of the set; it is not changed.
        manifest: file to write; label maps and centroids are written beside it.
        tables: published tables that are apart from the tree.
        images: folders of the images of a set of labels.
        density: density of the tables that becomes ``bmd_mg_cm3``: with a phantom, without one, or that published
            with the set.
        standard: of the density published with the set, whose table does not state it.
        kvp: tube voltage in kV that is assumed for scans whose set does not state it; these are marked.
        cohort: name of the manifest (default: that of the set).
    """

    name: str
    folder: Path
    manifest: Path
    tables: Sequence[Path] = ()
    images: Sequence[Path] = ()
    density: Density = "phantom"
    standard: MineralStandard | None = None
    kvp: float | None = None
    cohort: str | None = None


@dataclass(frozen=True)
class PublicProducts:
    """Files and folders of an import, all beside the manifest and named after it."""

    manifest: Path
    exclusions: Path
    labels: Path
    centroids: Path


def public_products(manifest: Path) -> PublicProducts:
    """Return the files of a manifest: ``one.json`` has ``one.exclusions.csv``, ``one.labels`` and ``one.centroids``."""
    base = manifest.name.removesuffix(".json")
    exclusions, labels, centroids = (
        manifest.with_name(f"{base}.{e}") for e in ("exclusions.csv", "labels", "centroids")
    )
    return PublicProducts(manifest, exclusions, labels, centroids)


@dataclass(frozen=True)
class PublicImport:
    """Results of :func:`import_public`.

    Attributes:
        manifest: as written.
        sha256: of the file.
        converted: number of label maps that were written.
        left_out: scans that are not in the manifest, with the reason.
        notes: sentences for the user.
    """

    manifest: Manifest
    sha256: str
    converted: int
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def import_public(options: PublicOptions) -> PublicImport:
    """Write the manifest of a public data set in its official splits.

    A scan is left out, with the reason in ``NAME.exclusions.csv``, if its labels are known to be wrong, are missing,
    damaged or in another numbering, or do not have the grid of the image. Label maps that do not have the numbers of
    this project are converted into ``NAME.labels``; the others are used where they are.

    Raises:
        ConfigError: an option is invalid.
        UnusableInputError: the folder is not a tree of the set, a table cannot be read, or no scan can be used.
        ManifestError: the facts of the set contradict each other.
    """
    found, chosen = _find(options)
    products = public_products(options.manifest)
    left_out = list(found.left_out)
    cases = _without_leaks(found.cases, left_out)
    splits: dict[str, list[Record]] = defaultdict(list)
    converted = 0
    for case in track(cases, "Importing", len(cases)):
        try:
            record, written = _import_case(case, chosen, products, options.kvp)
        except UnusableInputError as error:
            left_out.append(LeftOut(case.subject, case.key, " ".join(str(error).split())))
            continue
        converted += written
        splits[case.split].append(record.moved(Path(), options.manifest.parent))
    if not splits:
        first = f", such as '{left_out[0].scan}': {left_out[0].reason.rstrip('.')}" if left_out else ""
        raise UnusableInputError(f"'{options.folder.name}' has no scan of {chosen.title} that can be used{first}.")
    count = sum(len(records) for records in splits.values())
    assumed = "" if options.kvp is None else f" {options.kvp:g} kV is assumed where the set states none."
    header = Header(
        name=options.cohort or options.name,
        description=f"{chosen.title} ({found.layout}): {count} of {count + len(left_out)} scans.{assumed}",
        virtual=False,
        licence=chosen.licence,
        source=chosen.source,
    )
    manifest = Manifest(header=header, splits={name: tuple(splits[name]) for name in _SPLIT_ORDER if name in splits})
    checksum = write_manifest(manifest, options.manifest)
    rows = sorted((item.subject, item.scan, item.reason) for item in left_out)
    write_table(products.exclusions, ("subject_id", "scan", "reason"), rows)
    return PublicImport(manifest, checksum, converted, tuple(left_out), found.notes)


def _find(options: PublicOptions) -> tuple[Found, PublicSet]:
    if options.name not in PUBLIC_SETS:
        raise ConfigError(f"name must be one of {', '.join(PUBLIC_SETS)}, got {options.name!r}")
    chosen, folder = PUBLIC_SETS[options.name], options.folder
    if not folder.is_dir():
        raise UnusableInputError(f"There is no folder '{folder.name}'.")
    if options.manifest.resolve().is_relative_to(folder.resolve()):
        raise ConfigError("--output must be outside the folder of the set, which is not changed")
    if options.tables and options.name not in ("verse", "ctspine1k"):
        raise ConfigError(f"--table must be given with verse or ctspine1k only, got {options.name}")
    if options.kvp is not None and not LOWEST_KVP <= options.kvp <= HIGHEST_KVP:
        raise ConfigError(f"--kvp must be from {LOWEST_KVP:g} to {HIGHEST_KVP:g}, got {options.kvp:g}")
    if options.images and options.name != "vertebral-bodies":
        raise ConfigError(f"--images must be given with vertebral-bodies only, got {options.name}")
    given = {table.name for table in options.tables}
    if not chosen.recognises(folder) and not (options.name == "ctspine1k" and "data_split.txt" in given):
        other = next((s.title for s in PUBLIC_SETS.values() if s is not chosen and s.recognises(folder)), None)
        received = f"got one of {other}" if other else "got another folder"
        raise UnusableInputError(
            f"'{folder.name}' must be a tree of {chosen.title}, {received}; expected {chosen.layout}."
        )
    source = Source(folder, tuple(options.tables), tuple(options.images), options.density, options.standard)
    return chosen.find(source), chosen


def _without_leaks(cases: Sequence[Case], left_out: list[LeftOut]) -> list[Case]:
    """Keep the scans of a person in the last of the official splits that has one: training, validation, test."""
    last: dict[str, str] = {}
    for case in cases:
        last[case.subject] = max(case.split, last.get(case.subject, case.split), key=_SPLIT_ORDER.index)
    kept = []
    for case in cases:
        if case.split == last[case.subject]:
            kept.append(case)
        else:
            left_out.append(LeftOut(case.subject, case.key, f"another scan of this person is in {last[case.subject]}"))
    return kept


def _import_case(case: Case, chosen: PublicSet, products: PublicProducts, kvp: float | None) -> tuple[Record, bool]:
    """Return the record of a scan with absolute paths, and whether a label map was written.

    Raises:
        UnusableInputError: with the reason why the scan cannot be used.
    """
    shape, affine = read_grid(case.image)
    numbers, as_stored = read_label(case.label, shape, affine)
    values: dict[str, Any] = dict(case.facts)
    if kvp is not None and "kvp" not in values:
        values |= {"kvp": kvp, "extra": {**values.get("extra", {}), "kvp_assumed": True}}
    if case.centroids is not None:
        centroids = products.centroids / f"{case.key}.json"
        points = read_centroids(case.centroids, shape, affine)
        if points:
            values["centroids"] = str(centroids.absolute())
    try:
        label = getattr(case.label, "path", None) if as_stored else products.labels / f"{case.key}.nii.gz"
        record = Record.model_validate(
            {
                **values,
                "image": str(case.image.absolute()),
                "label": str(Path(str(label)).absolute()),
                "label_kind": chosen.label_kind,
                "subject_id": case.subject,
            }
        )
    except ValidationError as error:
        raise UnusableInputError("; ".join(sentences("", error))) from None
    if not as_stored:
        write_labels(numbers, affine, products.labels / f"{case.key}.nii.gz")
    if "centroids" in values:
        write_json(products.centroids / f"{case.key}.json", points)
    return record, not as_stored
