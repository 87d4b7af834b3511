"""Cards of the bundles: sections of the zoo's template, and every command of their code blocks run at small size."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fire.parser import DefaultParseValue
from monai import bundle as monai_bundle

from osteo_monai import cli
from osteo_monai.bundle import CheckedWorkflow

from .conftest import (
    BUNDLES,
    CHEST,
    CLASSIFICATION,
    COLUMN,
    DENSITY,
    LOCALIZATION,
    LUMBAR,
    NAMES,
    SEGMENTATION,
    STEP,
    TEST,
)

SECTIONS = [
    *("Authors", "Tags", "Model Description", "Data", "Preprocessing", "Performance", "Additional Usage Steps"),
    *("Installation", "Commands", "Export formats", "System Configuration", "Limitations", "References", "License"),
]
"""Headings of MONAI's template ``docs/readme_template.md``, and own ones, in order."""
ONE_STEP = {
    **{name: STEP[name] | {"batch_size": 12} for name in (DENSITY, CLASSIFICATION, CHEST, LUMBAR)},
    **{name: STEP[name] | {"batch_size": 1} for name in (SEGMENTATION, LOCALIZATION, COLUMN)},
}
SHORTER = {
    "--sizes 50,100,200,300,500,1096": "--sizes 2",
    "checkpoint_epoch=40.pt": "checkpoint_epoch=1.pt",
    "--folds 5": "--folds 2",
}
"""Words of a card, and what the test runs in place of them."""
ELSEWHERE = ("torchrun", "osteo-monai bundle onnx", "osteo-monai risk calibrate")
"""Commands that other tests run; a calibration needs a network that is better than chance."""


def card(name: str) -> str:
    return (BUNDLES / name / "docs" / "README.md").read_text(encoding="utf-8")


def commands(name: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", card(name), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_the_sections_of_the_template(name: str) -> None:
    found = re.findall(r"^#{3,4} \*\*(.+)\*\*$|^## \*\*(.+)\*\*$", card(name), re.MULTILINE)
    headings = [first or second for first, second in found]
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS
    assert "osteo_monai contributors" in card(name)
    assert "Research use only" in card(name)


def test_cards_share_the_text_about_installation() -> None:
    texts = {card(name).partition("**Installation**")[2].partition("#### **Commands**")[0] for name in NAMES}
    (text,) = texts
    version = json.loads((BUNDLES / CHEST / "configs" / "metadata.json").read_text())["required_packages_version"]
    assert f"`osteo_monai` {version['osteo_monai']}" in text


@pytest.mark.parametrize("name", NAMES)
def test_performance_has_the_figures_of_the_metadata(name: str) -> None:
    """A card may round a figure, or give it in per cent."""
    metrics = json.loads((BUNDLES / name / "configs" / "metadata.json").read_text())["eval_metrics"]
    section = card(name).partition("## **Performance**")[2].partition("\n## ")[0]
    shown = {float(number) for number in re.findall(r"-?\d+\.?\d*", section.replace("(", " "))}
    shown |= {number / 100 for number in shown}
    digits = {0, 1, 2, 3}
    assert metrics
    missing = {key: value for key, value in metrics.items() if not shown & {round(value, n) for n in digits - {0}}}
    # a mean over classes is given by its parts
    missing.pop("val_mean_auc", None)
    assert missing == {}


@pytest.fixture
def folder(name: str, tmp_path: Path, cohorts: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle, and the one before it, in a folder with the files that its card names."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for bundle in {name, LOCALIZATION} if name == COLUMN else {name}:
        ignored = shutil.ignore_patterns("eval", "inference")
        shutil.copytree(BUNDLES / bundle, tmp_path / "bundles" / bundle, ignore=ignored)
    folder = tmp_path / "bundles" / name
    source = cohorts[DENSITY].parent
    for target, file in {
        "SCAN.nii.gz": "test_0.nii.gz",
        "LABELS.nii.gz": "test_0_labels.nii.gz",
        "CHEST.png": "test_0_chest_frontal.png",
        "AP.png": "test_0_lumbar_ap.png",
    }.items():
        shutil.copy(source / file, folder / target)
    if name in cohorts:
        (folder / "MANIFEST.json").write_text(cohorts[name].read_text())
        for path in (path for path in source.iterdir() if path.suffix in (".gz", ".png")):
            (folder / path.name).symlink_to(path)
    hu = np.random.default_rng(0).normal(0, 100, (90, 70, 64)).astype(np.int16)
    hu[:2] = -1000
    hu[38:52, 30:44] += 300
    nib.save(nib.Nifti1Image(hu, np.diag([-4.0, -4.0, 4.0, 1.0])), tmp_path / "scan.nii.gz")
    monkeypatch.setenv("SCAN", str(tmp_path / "scan.nii.gz"))
    return folder


def small(name: str, config: str) -> dict[str, Any]:
    """Return the settings that make a run of a config take seconds."""
    if "train" in config:
        return ONE_STEP[name] | {"epochs": 1, "amp": False}
    if "evaluate" in config:
        tests = {key: value for key, value in TEST[name].items() if key != "splits"}
        return tests | {"amp": False}
    return {"amp": False} | ({"check_images": False} if name in (CHEST, LUMBAR) else {})


def options(arguments: list[str]) -> dict[str, Any]:
    names = [word.removeprefix("--") for word in arguments[::2]]
    return dict(zip(names, map(DefaultParseValue, arguments[1::2]), strict=True))


def run_monai(name: str, words: list[str]) -> None:
    verb, *rest = words
    if verb == "ckpt_export":
        monai_bundle.ckpt_export(net_id=rest[0], **options(rest[1:]))
        return
    settings = options(rest)
    monai_bundle.run(**(small(name, str(settings["config_file"])) | settings))


def run_own(name: str, words: list[str]) -> int:
    with_settings = ("radiograph cross-validate", "bundle train-sizes", "bundle compare-networks")
    if " ".join(words[:2]) in with_settings:
        settings = small(name, "train") | (TEST[name] if name == SEGMENTATION else {})
        words = [*words, "--settings", json.dumps(settings), "--trust-bundle"]
    return cli.run(words)


def run_one(name: str, command: str) -> None:
    for text, shorter in SHORTER.items():
        command = command.replace(text, shorter)
    if found := re.fullmatch(r"\(cd (\S+) && (.*)\)", command):
        with chdir(found[1]):
            run_one(LOCALIZATION, found[2])
        return
    words = [re.sub(r"^\$(\w+)$", lambda variable: os.environ[variable[1]], word) for word in shlex.split(command)]
    if command.startswith(ELSEWHERE):
        if words[0] == "torchrun":
            settings = options(words[words.index("run") + 1 :])
            files = settings.pop("config_file")
            CheckedWorkflow(files, logging_file=False, **settings)
        return
    if words[:3] == ["python", "-m", "monai.bundle"]:
        run_monai(name, words[3:])
    else:
        assert words[0] == "osteo-monai", f"{command} is no command of MONAI or of this project"
        assert run_own(name, words[1:]) == 0, command


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_a_card_runs(name: str, folder: Path) -> None:
    found = commands(name)
    text = "\n".join(found)
    assert {"train.json", "evaluate.json", "inference.json"} <= set(re.findall(r"\w+\.json", text))
    assert "ckpt_export" in text
    assert "osteo-monai bundle onnx" in text
    with chdir(folder):
        for command in found:
            run_one(name, command)
    assert (folder / "models" / "model.ts").is_file()
