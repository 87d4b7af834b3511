"""Small made-up trees of public data sets, as their documents describe them: shapes of a few voxels, no real values."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SHAPE = (8, 8, 24)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
"""RAS, 2 x 2 x 3 mm."""

LEVELS: tuple[str, ...] = ("T11", "T12", "L1", "L2", "L3", "L4")
"""From the head to the feet, 3 slices each with one between; the uppermost is not cut."""

VERSE: Mapping[str, int] = {**{f"T{n}": 7 + n for n in range(1, 13)}, **{f"L{n}": 19 + n for n in range(1, 7)}}
BODIES: Mapping[str, int] = {**{f"T{n}": n for n in range(1, 13)}, **{f"L{n}": 12 + n for n in range(1, 7)}}


def save(array: NDArray[Any], path: Path, directions: str = "RAS", affine: NDArray[np.float64] = AFFINE) -> None:
    """Write a NIfTI volume given in RAS with its axes along ``directions``, such as ``PIR`` in VerSe."""
    image = nib.Nifti1Image(array, affine)
    target = nib.orientations.axcodes2ornt(tuple(directions))
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), target))
    image.set_sform(image.affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def slices_of(position: int) -> slice:
    """Return the slices of the level at a position in ``LEVELS``."""
    top = SHAPE[2] - 1 - 4 * position
    return slice(top - 3, top)


def image(name: str) -> NDArray[np.int16]:
    """Return noise that is the same for one name and different for two."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(-100, 300, SHAPE).astype(np.int16)


def labels(numbers: Mapping[str, int] = VERSE, levels: tuple[str, ...] = LEVELS) -> NDArray[np.uint8]:
    array = np.zeros(SHAPE, np.uint8)
    for position, level in enumerate(levels):
        array[2:6, 1:5, slices_of(position)] = numbers[level]
    return array


def centre_mm(level: str) -> list[float]:
    """Return the centre of a level in RAS mm."""
    part = slices_of(LEVELS.index(level))
    return [7.0, 5.0, 3.0 * (part.start + part.stop - 1) / 2]


def centroids(levels: tuple[str, ...] = LEVELS, unit_mm: bool = False) -> list[dict[str, Any]]:
    """Return centroids in the directions P, I, R from the anterior, superior, left voxel."""
    entries: list[dict[str, Any]] = [] if unit_mm else [{"direction": ["P", "I", "R"]}]
    for level in levels:
        x, y, z = (value / step for value, step in zip(centre_mm(level), (2.0, 2.0, 3.0), strict=True))
        voxels = (SHAPE[1] - 1 - y, SHAPE[2] - 1 - z, x)
        scaled = tuple(v * step for v, step in zip(voxels, (2.0, 3.0, 2.0), strict=True)) if unit_mm else voxels
        entries.append({"label": VERSE[level], **dict(zip("XYZ", scaled, strict=True))})
    return entries


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def verse_scan(root: Path, split: str, subject: str, series: str = "") -> None:
    """Write a scan of the layout with rawdata and derivatives."""
    base = f"sub-{subject}" + (f"_split-{series}" if series else "")
    tree = root / f"dataset-verse19{split}"
    save(image(base), tree / "rawdata" / f"sub-{subject}" / f"{base}_ct.nii.gz", "PIR")
    below = tree / "derivatives" / f"sub-{subject}"
    save(labels().astype(np.float64), below / f"{base}_seg-vert_msk.nii.gz", "PIR")
    write_json(below / f"{base}_seg-subreg_ctd.json", centroids())


def verse(root: Path) -> Path:
    verse_scan(root, "training", "verse004")
    verse_scan(root, "validation", "verse404", "verse256")
    verse_scan(root, "validation", "verse404", "verse209")
    verse_scan(root, "test", "verse012")
    verse_scan(root, "test", "gl003")
    return root


def verse_challenge(root: Path) -> Path:
    """Write the layout of the challenge; series 241 and 273 are of one person."""
    for folder, name, tail in (
        ("01_training", "verse004", ""),
        ("01_training", "verse241", ""),
        ("03_test", "verse273", ""),
        ("02_validation", "verse521", "_CT-sag"),
    ):
        base = root / folder / name / f"{name}{tail}"
        save(image(name), Path(f"{base}.nii.gz"), "LPS" if tail else "PIR")
        save(labels(), Path(f"{base}_seg.nii.gz"), "LPS" if tail else "PIR")
        write_json(Path(f"{base}_iso-ctd.json"), centroids(unit_mm=True))
    return root


def verse_tables(folder: Path) -> tuple[Path, Path]:
    """Write the two published tables with the columns that are read; the values are made up."""
    folder.mkdir(parents=True, exist_ok=True)
    densities, people = folder / "verse19fem_AppendixA.csv", folder / "ryai190138_AppendixE1.csv"
    densities.write_text(
        "verse_ID,subject_ID,Contrast Enhancement,Sex,target_vertebra,BMD_assessment,Foreign Material,"
        "Phantomless Calibration BMD [mg/cc],Phantom Calibration BMD [mg/cc],R.Force 0.2% L1 [kN]\n"
        '4.0,4.0,ce-no,F,L2,"T12, L2, L3",False,71.5,90.25,1\n'
        '12.0,12.0,ce-pv,M,L2,"T11, L2",True,121.5,,1\n'
        '209.0,404.0,ce-no,M,T2,"T1, T2",False,171.0,180.0,1\n'
        '256.0,404.0,ce-no,M,L1,"T12, L1, L2, L3",False,120.0,130.0,1\n',
        encoding="utf-8",
    )
    people.write_text(
        "verse_ID,subject_ID,dataset,age_ct,CT_device,BMD,DXA T-value\n"
        "4,4,training,61.5,2,70.5,-2.6\n12,12,test secret,77,1,0,\n256,404,validation public,59.1,4,138.2,\n",
        encoding="utf-8",
    )
    return densities, people


def totalsegmentator(root: Path) -> Path:
    """Write four scans; s0016 is one whose masks are known to be wrong."""
    rows = ["image_id;age;gender;institute;study_type;split;scanner_model;kvp"]
    for name, split in (("s0001", "train"), ("s0002", "val"), ("s0003", "test"), ("s0016", "test")):
        save(image(name), root / name / "ct.nii.gz")
        full = labels()
        for level in VERSE:
            save((full == VERSE[level]).astype(np.uint8), root / name / "segmentations" / f"vertebrae_{level}.nii.gz")
        rib = np.zeros(SHAPE, np.uint8)
        rib[7, 7, 4:20] = 1
        save(rib, root / name / "segmentations" / "rib_left_12.nii.gz")
        save(np.ones(SHAPE, np.uint8), root / name / "segmentations" / "liver.nii.gz")
        rows.append(f"{name};61;m;A;ct abdomen;{split};Device X;120")
    (root / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def ctspine1k(root: Path) -> Path:
    first, second, third = "1.3.6.1.4.1.9328.50.4.0001", "liver_110", "volume-covid19-A-0319_ct"
    for name in (first, second, third):
        save(image(name), root / "volumes" / f"{name}.nii.gz")
        cut = labels()
        cut[2:6, 1:5, -1] = VERSE["T10"]  # a vertebra that the upper border cuts
        save(cut, root / "labels" / f"{name}_seg.nii.gz")
    text = (
        f"trainset:\n{first}.nii.gz\n\ntest_public:\n{second}.nii.gz\n\ntest_private:\n"
        f"{third}.nii.gz{third}.nii.gz\nHN_P029.nii.gz\n"
    )
    (root / "data_split.txt").write_text(text, encoding="utf-8")
    (root / "Path.csv").write_text(f"{first}/01-01-2000-1-Abdomen-1/4.0-Coloprone  1.0  B30f-0.4.2\n", encoding="utf-8")
    return root


def vertebral_bodies(root: Path) -> Path:
    """Write labels of a scan of TotalSegmentator and of one of VerSe, whose images are in other trees."""
    save(labels(BODIES), root / "train" / "labelsTr" / "s0001.nii.gz")
    save(labels(BODIES), root / "test" / "labelsTs" / "sub-verse012.nii.gz", "PIR")
    save(labels(BODIES), root / "test" / "labelsTs" / "s0999.nii.gz")
    write_json(root / "train" / "dataset.json", {"labels": {"background": 0, **BODIES, "sacrum": 19, "T13": 21}})
    write_json(root / "suppl" / "splits_train-test.json", {"train": ["s0001"], "test": ["sub-verse012", "s0999"]})
    (root / "data.csv").write_text("id,set,fold\ns0001,training,0\n", encoding="utf-8")
    return root


def spinopelvic(root: Path) -> Path:
    """Write a release whose label scheme is not that of VerSe (the first one: L1 is 1, T12 is 31)."""
    scheme = {**{f"L{n}": n for n in range(1, 7)}, "sacrum": 7, **{f"T{n}": 19 + n for n in range(1, 13)}}
    records = []
    for token, config in (("0007", "fused"), ("0008", "spine_only"), ("0009", "pelvic_native")):
        save(image(token), root / "ct" / f"{token}_ct.nii.gz", "PIR")
        save(labels(scheme), root / "labels" / f"{token}_label.nii.gz", "PIR")
        records.append(
            {
                "token": token, "config": config, "ct_file": f"ct/{token}_ct.nii.gz",
                "label_file": f"labels/{token}_label.nii.gz", "age": 60, "sex": "F", "kvp": 120.0,
                "patient_weight": 70.5, "slice_thickness": 1.0, "convolution_kernel": "B30f", "position": "prone",
                "manufacturer": "SIEMENS", "manufacturer_model": "Sensation 16", "has_l6": False,
            }
        )  # fmt: skip
    write_json(root / "manifest.json", {"records": records})
    write_json(root / "dataset_labels.json", {"id_to_name": {str(n): name for name, n in scheme.items()}})
    write_json(root / "splits_5fold.json", {"test_tokens": ["0008"], "folds": []})
    return root


TREES: Mapping[str, tuple[str, Callable[[Path], Path]]] = {
    "verse": ("verse", verse),
    "verse challenge": ("verse", verse_challenge),
    "totalsegmentator": ("totalsegmentator", totalsegmentator),
    "ctspine1k": ("ctspine1k", ctspine1k),
    "vertebral bodies": ("vertebral-bodies", vertebral_bodies),
    "spinopelvic": ("spinopelvic", spinopelvic),
}
"""Name of the set and function that writes its tree, by layout."""
