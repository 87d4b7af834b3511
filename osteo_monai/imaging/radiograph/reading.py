"""Read and validate a radiograph from a path."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding, Severity, View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.dicom_headers import check_folder, looks_like_dicom, read_study_uid, unusable_if_damaged
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.imaging.radiograph.chest import fit_chest
from osteo_monai.imaging.radiograph.content import check_box, check_values, find_box
from osteo_monai.imaging.radiograph.dicom import read_dicom_radiograph
from osteo_monai.imaging.radiograph.edges import check_edges
from osteo_monai.imaging.radiograph.image import Layout, Radiograph, StoredRadiograph
from osteo_monai.imaging.radiograph.lumbar import fit_lumbar_view
from osteo_monai.imaging.radiograph.pictures import is_picture, read_picture
from osteo_monai.utils.inputs import walk_tree


def read_radiograph(path: Path, view: View | str | None = None, *, check: bool = True) -> Radiograph:
    """Read a radiograph from a DICOM file or folder (one study; a frontal chest is preferred), a PNG or a JPEG.

    Args:
        path: a file, or a folder with one study or one picture.
        view: required view (``chest_frontal``, ``lumbar_ap``, ...); other views are refused. Without it the view
            follows from the header, or from the pixels for frontal chests, or is ``unknown``.
        check: check the pixels: remove borders, check the exposure, detect the orientation of a chest. ``False`` is for
            images that were checked before or simulated: only the header is then used.

    Returns:
        Pixels in 0..1 with bone bright, upright, the person's right at the viewer's left; none of its findings is a
        refusal.

    Raises:
        UnusableInputError: nothing can be read: no such path, damaged data, neither DICOM nor PNG nor JPEG.
        ScanRefusedError: read, but not usable; its findings are the reasons.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import make_radiograph, read_radiograph
        >>> str(read_radiograph(make_radiograph(Path("radiograph"), rows=512)).view)
        'chest_frontal'
    """
    path = Path(path)
    try:
        wanted = View.UNKNOWN if view is None else View(view)
    except ValueError:
        raise ValueError(f"view must be one of {', '.join(View)}, got {view!r}") from None
    return check_radiograph(_read_stored(path, wanted), wanted, check=check, source=path.name)


def check_radiograph(
    stored: StoredRadiograph, wanted: View = View.UNKNOWN, *, check: bool = True, source: str = ""
) -> Radiograph:
    """Return the content of a file upright with bone bright: the second part of :func:`read_radiograph`.

    Raises:
        ScanRefusedError: as :func:`read_radiograph`.
    """
    declared = stored.view
    if stored.elsewhere and wanted is not View.UNKNOWN:
        message = f"The header states another body part ({stored.elsewhere})."
        raise ScanRefusedError(refusal("other_body_part", message))
    if View.UNKNOWN not in (wanted, declared) and wanted != declared:
        message = f"The view must be {_view_name(wanted)}, the header states {_view_name(declared)}."
        raise ScanRefusedError(refusal("other_view", message))
    findings = list(stored.findings)
    shown = declared if wanted is View.UNKNOWN else wanted
    rows, columns = stored.pixels.shape
    layout = Layout((rows, columns), (0, rows, 0, columns))
    if check:
        layout = replace(layout, box=find_box(stored.pixels))
        _refuse_if(findings, check_box(layout.shape, layout.box))
    if stored.turns or stored.mirrored:
        layout = layout.then(stored.turns, stored.mirrored)
        findings.append(info("turned_by_header", "The image was turned upright as stated in its header."))
    pixels = layout.apply(stored.pixels)
    if check:
        _refuse_if(findings, check_values(pixels))
        if shown in (View.LUMBAR_AP, View.LUMBAR_LATERAL):
            _refuse_if(findings, _check_lumbar(pixels, shown))
        layout, inverted, shown = _orient_chest(pixels, layout, shown, bool(stored.elsewhere), findings)
        if shown is not View.UNKNOWN:  # what is not recognised is not used
            _refuse_if(findings, check_edges(pixels))
        pixels = layout.apply(1 - stored.pixels if inverted else stored.pixels)
    spacing = stored.spacing_mm
    if spacing and layout.quarter_turns % 2:
        spacing = spacing[1], spacing[0]
    return Radiograph(
        pixels=np.ascontiguousarray(pixels, np.float32),
        spacing_mm=spacing,
        view=shown,
        facts=stored.facts,
        layout=layout,
        findings=tuple(findings),
        source=source,
    )


def _orient_chest(
    pixels: NDArray[np.float32], layout: Layout, shown: View, elsewhere: bool, findings: list[Finding]
) -> tuple[Layout, bool, View]:
    """Detect the orientation of a frontal chest; return the layout, whether to invert, and the view."""
    if shown not in (View.CHEST_FRONTAL, View.UNKNOWN) or elsewhere:
        return layout, False, shown
    chest = fit_chest(pixels)
    if not chest.recognised:
        if shown is View.CHEST_FRONTAL:
            message = "The picture is not recognised as a frontal chest radiograph."
            raise ScanRefusedError(refusal("not_a_chest", message), *findings)
        findings.append(warning("view_unknown", "The view of the picture is neither stated nor recognised."))
        return layout, False, shown
    if chest.turns:
        turn = {1: "a quarter turn counter-clockwise", 2: "half a turn", 3: "a quarter turn clockwise"}[chest.turns]
        findings.append(warning("turned", f"The chest was not upright: the picture was turned by {turn}."))
    elif chest.uncertain:
        findings.append(warning("orientation_uncertain", "The upright orientation of the chest is uncertain."))
    if chest.inverted:
        findings.append(warning("inverted", "Bone was dark: the grey scale of the picture was inverted."))
    if chest.mirrored:
        message = "The heart was on the right, so the picture was mirrored; if it was not mirrored before, "
        findings.append(warning("mirrored", message + "the heart is on the right (situs inversus)."))
    return layout.then(chest.turns, False).then(0, chest.mirrored), chest.inverted, View.CHEST_FRONTAL


def _check_lumbar(pixels: NDArray[np.float32], view: View) -> list[Finding]:
    """Return a refusal if the picture is not recognised as this lumbar view, upright with bone bright."""
    chest = fit_chest(pixels)
    if chest.recognised and chest.lead > 0:
        return [refusal("other_view", f"The view must be {_view_name(view)}, the picture shows a frontal chest.")]
    lumbar = fit_lumbar_view(pixels, view)
    if not lumbar.recognised:
        return [refusal("not_a_lumbar_spine", f"The picture is not recognised as a {_view_name(view)} radiograph.")]
    if lumbar.defect:
        message = f"The {_view_name(view)} radiograph must be upright with bone bright, but it {lumbar.defect}."
        return [refusal("not_upright", message)]
    if lumbar.maybe_upside_down:
        return [warning("orientation_uncertain", f"The {_view_name(view)} radiograph may be upside down.")]
    return []


def _read_stored(path: Path, wanted: View) -> StoredRadiograph:
    if not path.exists():
        raise UnusableInputError(f"There is no file or folder '{path}'.")
    with unusable_if_damaged("The input cannot be read"):
        if path.is_file():
            if is_picture(path):
                return read_picture(path)
            if looks_like_dicom(path):
                return read_dicom_radiograph([path], wanted)
            raise UnusableInputError("The file is neither DICOM nor PNG nor JPEG.")
        check_folder(path)
        files = [file for _, names in walk_tree(path) for file in names]
        if any(looks_like_dicom(file) for file in files):
            return read_dicom_radiograph(files, wanted)
        pictures = [file for file in files if is_picture(file)]
        if len(pictures) == 1:
            return read_picture(pictures[0])
        if pictures:
            raise UnusableInputError(f"The folder must contain one picture, got {len(pictures)}.")
        raise UnusableInputError("Nothing in the folder is DICOM, PNG or JPEG.")


def find_radiographs(path: Path) -> list[Path]:
    """List the paths for :func:`read_radiograph` in a folder tree.

    Each PNG and JPEG is one path. DICOM files are grouped by StudyInstanceUID: the path is the folder if it contains
    one study only, so that the view can be chosen; in a folder of several studies each file is one path.

    Raises:
        UnusableInputError: there is no such path, or nothing in it looks like DICOM, PNG or JPEG.
    """
    path = Path(path)
    if not path.exists():
        raise UnusableInputError(f"There is no file or folder '{path}'.")
    if path.is_file():
        return [path]
    paths: list[Path] = []
    for folder, files in walk_tree(path):
        paths += [file for file in files if is_picture(file)]
        studies: defaultdict[str, list[Path]] = defaultdict(list)
        for file in files:
            if not is_picture(file) and looks_like_dicom(file):
                studies[_study(file)].append(file)
        only = len(studies) == 1 and not any(child.is_dir() for child in folder.iterdir())
        paths += [folder] if only else [file for members in studies.values() for file in members]
    if not paths:
        raise UnusableInputError("Nothing in the folder is DICOM, PNG or JPEG.")
    return sorted(paths)


def _study(file: Path) -> str:
    try:
        return read_study_uid(file)
    except UnusableInputError:
        return ""


def _refuse_if(findings: list[Finding], new: list[Finding]) -> None:
    """Add new findings; raise if one of them is a refusal."""
    findings += new
    if any(f.severity is Severity.REFUSAL for f in new):
        raise ScanRefusedError(*findings)


def _view_name(view: View) -> str:
    return view.replace("_", " ").replace(" ap", " AP")
