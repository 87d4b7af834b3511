"""``osteo-monai virtual``: one virtual CT or radiograph, a cohort, or its projections."""

import shutil
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import OutputFolder, Overwrite, Workers, choice, parse_sex
from osteo_monai.cli.output import check_folder, progress, show
from osteo_monai.domain import Sex, View
from osteo_monai.utils.text import listed

if TYPE_CHECKING:
    from osteo_monai.virtual.person import Variant

__all__ = ["cohort", "ct", "projections", "radiograph"]

CT_FOLDERS = ("dicom", "truth")
RADIOGRAPH_FILES = (".dcm", ".png", "_bone.png", "_truth.json")
"""Ends of the names of the files of one radiograph, after its view."""
VIEWS = (View.CHEST_FRONTAL, View.LUMBAR_AP, View.LUMBAR_LATERAL)

_E = TypeVar("_E", bound=StrEnum)

_Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Random seed; equal seeds give equal patients.")]
_Sex = Annotated[
    Sex | None, typer.Option(parser=parse_sex, metavar="SEX", help="female or male.", show_default="random")
]
_Age = Annotated[float | None, typer.Option(metavar="YEARS", help="Age, 18 to 90.", show_default="random")]
_Density = Annotated[
    float | None,
    typer.Option(metavar="VALUE", help="Mean density of L1 and L2 in mg/cm3, 5 to 300.", show_default="random"),
]
_Variants = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Anatomical variant, such as wedge_fracture or lumbarised; repeatable."),
]


def ct(
    output: OutputFolder,
    seed: _Seed = 1,
    sex: _Sex = None,
    age: _Age = None,
    density: _Density = None,
    variant: _Variants = None,
    kvp: Annotated[float, typer.Option(min=70, max=150, metavar="KV", help="Tube voltage, 70 to 150.")] = 120.0,
    matrix: Annotated[int, typer.Option(min=64, max=1024, metavar="N", help="Rows and columns of a slice.")] = 512,
    overwrite: Overwrite = False,
) -> None:
    """Make one virtual chest CT as DICOM, with its ground truth and label map."""
    checks = OptionChecks()
    with checks.collect():
        check_folder(output, (), overwrite, folders=CT_FOLDERS)
    variants = _check(checks, seed, sex, age, density, variant)
    from osteo_monai.virtual.cohort import make_ct

    with progress("Making one virtual patient"):
        for name in CT_FOLDERS:  # slices of a longer scan must not stay
            shutil.rmtree(output / name, ignore_errors=True)
        folder = make_ct(
            output, seed, sex=sex, age_years=age, mean_density=density, variants=variants, kvp=kvp, matrix=matrix
        )
    show(f"Virtual study: {folder}")


def radiograph(
    output: OutputFolder,
    view: Annotated[
        View,
        typer.Option(parser=choice(*VIEWS), metavar="VIEW", help="chest_frontal, lumbar_ap or lumbar_lateral."),
    ] = View.CHEST_FRONTAL,
    seed: _Seed = 1,
    sex: _Sex = None,
    age: _Age = None,
    density: _Density = None,
    variant: _Variants = None,
    rows: Annotated[int, typer.Option(min=64, max=4096, metavar="N", help="Rows of the image.")] = 1024,
    overwrite: Overwrite = False,
) -> None:
    """Make one virtual radiograph as DICOM and PNG, with its ground truth and bone mask."""
    checks = OptionChecks()
    with checks.collect():
        check_folder(output, (f"{view}{end}" for end in RADIOGRAPH_FILES), overwrite)
    variants = _check(checks, seed, sex, age, density, variant)
    from osteo_monai.virtual.cohort import make_radiograph

    with progress("Making one virtual patient"):
        path = make_radiograph(
            output, seed, view=view, sex=sex, age_years=age, mean_density=density, variants=variants, rows=rows
        )
    show(f"Virtual radiograph: {path}")


def _check(
    checks: OptionChecks,
    seed: int,
    sex: Sex | None,
    age: float | None,
    density: float | None,
    names: Sequence[str] | None,
) -> "frozenset[Variant]":
    """Check the options of one person, report all problems, and return the variants."""
    from osteo_monai.virtual.person import Variant, draw_person

    variants: frozenset[Variant] = frozenset()
    with checks.collect():
        variants = frozenset(_member(name, Variant, "--variant") for name in names or ())
    if sex is not None or age is not None or density is not None or variants:
        # a person is a few random numbers; the anatomy, which takes time, is made later
        with checks.collect(age_years="--age", mean_density="--density", variants="--variant"):
            draw_person(seed, sex=sex, age_years=age, mean_density=density, variants=variants)
    checks.finish()
    return variants


def _member(name: str, kind: type[_E], option: str) -> _E:
    """Return a member of an enum that is too heavy to import for the parser of an option."""
    try:
        return kind(name)
    except ValueError:
        raise ValueError(f"{option} must be {listed(kind, 'or')}, got '{name}'") from None


def _recipe_file(text: str | Path) -> Path:
    from osteo_monai.virtual.recipe import RECIPES, find_recipe

    path = find_recipe(text)
    if path is None:
        names = listed(sorted(file.stem for file in RECIPES.glob("*.json")), "or")
        raise typer.BadParameter(f"must be an existing file, or {names}, got '{text}'")
    return path


_Recipe = Annotated[
    Path,
    typer.Argument(
        parser=_recipe_file,
        metavar="RECIPE",
        help="Cohort recipe: a JSON file or the name of one of this release.",
    ),
]


def cohort(
    recipe: _Recipe,
    output: OutputFolder,
    workers: Workers = 1,
) -> None:
    """Make a virtual cohort from a recipe, with its manifest; equal recipes give equal files on every machine.

    An interrupted cohort continues where it stopped when the same command is given again.
    """
    from osteo_monai.virtual.cohort import make_cohort

    _check_cohort(recipe, output)
    path = make_cohort(recipe, output, workers=workers)
    show(f"Manifest: {path}")


def projections(
    recipe: _Recipe,
    output: OutputFolder,
    rows: Annotated[int, typer.Option(min=64, max=2048, metavar="N", help="Rows and columns of a projection.")] = 288,
    subjects: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of people, the first of the recipe.", show_default="all"),
    ] = None,
    workers: Workers = 1,
) -> None:
    """Project the chests of a recipe's people once, for training with clinical_look.json of the chest bundle.

    An interrupted run continues where it stopped when the same command is given again.
    """
    from osteo_monai.virtual.projections import write_projections

    _check_cohort(recipe, output)
    path = write_projections(recipe, output, rows=rows, subjects=subjects, workers=workers)
    show(f"Manifest: {path}")


def _check_cohort(recipe: Path, output: Path) -> None:
    """Check the recipe and the folder of a cohort, and report all problems."""
    from osteo_monai.virtual.recipe import read_recipe

    checks = OptionChecks()
    with checks.collect():
        check_folder(output, (), overwrite=True)
    with checks.collect():
        if (output / "manifest.json").exists():
            raise ValueError(f"--output must be a folder without a manifest.json, got '{output}'")
    with checks.collect():
        read_recipe(recipe)
    checks.finish()
