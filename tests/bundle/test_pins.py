"""Files of a bundle against those of the release, and the code that a bundle holds, without running it."""

import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from osteo_monai.bundle import (
    BUNDLES_VARIABLE,
    check_trusted,
    differences,
    export_onnx,
    foreign_code,
    load_bundle,
    make_pins,
    pinned_files,
    pinned_names,
    run_bundle,
)
from osteo_monai.errors import ConfigError, ModelMissingError
from osteo_monai.screening import RadiographModels, load_models

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "bundles"
NAME, CHEST = "vertebral_column_ct", "osteoporosis_classification_chest_xray"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A bundle of this release outside the source tree, to be changed."""
    folder = tmp_path / "zoo" / NAME
    shutil.copytree(BUNDLES / NAME, folder, ignore=shutil.ignore_patterns("eval", "inference"))
    return folder


def change(folder: Path, file: str, **settings: Any) -> None:
    path = folder / "configs" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_the_pins_are_those_of_the_bundles() -> None:
    """Run tools/pin_bundles.py after a change of configs or weights."""
    folders = [file.parents[1] for file in BUNDLES.glob("*/configs/metadata.json")]
    stored = json.loads((ROOT / "osteo_monai" / "bundle" / "pins.json").read_text(encoding="utf-8"))
    assert make_pins(folders) == stored
    assert pinned_names() == sorted(folder.name for folder in folders)
    assert len(folders) == 7


def test_every_weights_file_is_pinned() -> None:
    weights = {str(file.relative_to(BUNDLES)) for file in BUNDLES.glob("*/models/*.pt")}
    assert weights == {f"{name}/{part}" for name in pinned_names() for part in pinned_files(name) if ".pt" in part}


def test_an_unchanged_copy_is_pinned(copy: Path) -> None:
    assert differences(copy) == []
    assert check_trusted(copy)
    assert load_bundle(copy).pinned
    renamed = copy.rename(copy.with_name("snapshot"))
    assert check_trusted(renamed)


def test_exports_and_output_of_runs_do_not_count(copy: Path) -> None:
    """They are not read, and a card writes them."""
    for part in ("models/model.ts", "models/model.onnx", "eval/config.json", "inference/a.csv", "docs/b.md", ".git/c"):
        (copy / part).parent.mkdir(exist_ok=True)
        (copy / part).touch()
    assert differences(copy) == []


def test_a_cache_of_links_to_files_is_pinned(copy: Path, tmp_path: Path) -> None:
    """A Hugging Face cache has this form."""
    for number, file in enumerate(path for path in sorted(copy.rglob("*")) if path.is_file()):
        blob = tmp_path / f"blob_{number}"
        file.rename(blob)
        file.symlink_to(blob)
    assert check_trusted(copy)


MARKER = "open({!r}, 'w').close()"

Attack = Callable[[Path, str], Any]


def _linked_configs(folder: Path, code: str) -> None:
    elsewhere = folder.parent / "elsewhere"
    shutil.move(folder / "configs", elsewhere)
    config = json.loads((elsewhere / "inference.json").read_text()) | {"checkpoint": f"${code}"}
    (elsewhere / "inference.json").write_text(json.dumps(config))
    (folder / "configs").symlink_to(elsewhere)


def _scripts(folder: Path, code: str) -> None:
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").write_text(code)
    change(folder, "inference.json", imports=["$import scripts"])


def _initial_module(folder: Path, code: str) -> None:
    (folder / "__init__.py").write_text(code)


def _through_imports(folder: Path, code: str) -> None:
    change(folder, "inference.json", imports=["$import os as tools"], checkpoint={"_target_": "tools.system"})


def _macro(folder: Path, code: str) -> None:
    (folder.parent / "other.json").write_text(json.dumps({"a": f"${code}"}))
    change(folder, "inference.json", checkpoint=f"%{folder.parent / 'other.json'}#a")


def _yaml(folder: Path, code: str) -> None:
    (folder / "configs" / "other.yaml").write_text(f"a: ${code}")


ATTACKS: dict[str, tuple[Attack, str]] = {
    "expression": (lambda f, code: change(f, "inference.json", checkpoint=f"${code}"), "inference.json: $open("),
    "metadata": (lambda f, code: change(f, "metadata.json", version=f"${code}"), "metadata.json: $open("),
    "overlay": (lambda f, code: change(f, "train.json", seed=f"${code}"), "train.json: $open("),
    "target": (
        lambda f, code: change(f, "inference.json", checkpoint={"_target_": "os.system", "command": "true"}),
        "inference.json: _target_ os.system",
    ),
    "nested target": (
        lambda f, code: change(f, "inference.json", **{"network_def#_target_": "os.system"}),
        "inference.json: _target_ os.system",
    ),
    "imports": (_through_imports, "inference.json: $import os as tools"),
    "target of imports": (_through_imports, "inference.json: _target_ tools.system"),
    "macro": (_macro, "inference.json: %"),
    "yaml": (_yaml, "other.yaml: not examined"),
    "linked folder": (_linked_configs, "configs: link"),
    "scripts": (_scripts, "scripts/__init__.py: code"),
    "imports of scripts": (_scripts, "inference.json: $import scripts"),
    "initial module": (_initial_module, "__init__.py: code"),
}


@pytest.mark.parametrize(("attack", "listed"), ATTACKS.values(), ids=ATTACKS)
def test_code_that_is_not_pinned_is_listed_and_not_run(
    attack: Attack, listed: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    attack(copy, MARKER.format(str(tmp_path / "ran")))
    assert differences(copy)
    assert any(listed in line for line in foreign_code(copy))
    (tmp_path / "scan.nii.gz").touch()
    for run in (
        lambda: load_bundle(copy),
        lambda: run_bundle(copy, ["inference"], {"image": "scan.nii.gz"}),
        lambda: export_onnx(copy, tmp_path / "model.onnx"),
    ):
        with pytest.raises(ConfigError, match="must be one that this release pins, or be trusted") as caught:
            run()
        assert listed in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_only_code_that_the_release_does_not_have_is_listed(copy: Path) -> None:
    change(copy, "inference.json", amp=False, seed="$1 + 1")
    assert foreign_code(copy) == ["configs/inference.json: $1 + 1"]


def test_trusted_code_is_listed_before_it_runs(
    copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr("builtins.ran", lambda: order.append("code"), raising=False)
    change(copy, "inference.json", checkpoint="$(ran(), @bundle_root + '/models/model.pt')[1]")

    class Listed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            order.append(record.getMessage())

    with caplog.at_level(logging.WARNING, "osteo_monai"):
        handler = Listed()
        logging.getLogger("osteo_monai").addHandler(handler)
        bundle = load_bundle(copy, trust=True)
        logging.getLogger("osteo_monai").removeHandler(handler)
    assert not bundle.pinned
    assert "configs/inference.json is changed" in order[0]
    assert "$(ran(), " in order[0]
    assert order[1] == "code"


def test_swapped_bundles_are_not_pinned(tmp_path: Path) -> None:
    """Code and weights of this release, under the name of another bundle."""
    shutil.copytree(BUNDLES / "vertebra_localization_ct", tmp_path / NAME)
    with pytest.raises(ConfigError, match=f"got '{NAME}': "):
        load_bundle(tmp_path / NAME)


def test_other_weights_need_trust(copy: Path) -> None:
    state = torch.load(copy / "models" / "model.pt", weights_only=True)
    torch.save({key: value * 2 for key, value in state.items()}, copy / "models" / "model.pt")
    with pytest.raises(ConfigError, match=r"got 'vertebral_column_ct': models/model\.pt is changed$"):
        load_bundle(copy)
    assert foreign_code(copy) == []
    assert not load_bundle(copy, trust=True).pinned


def test_an_added_calibration_needs_trust(copy: Path) -> None:
    (copy / "models" / "risk.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"models/risk\.json is added"):
        load_bundle(copy)


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [False, True])
def test_pickled_code_in_weights_is_never_run(zipped: bool, copy: Path, tmp_path: Path) -> None:
    weights, ran = copy / "models" / "model.pt", tmp_path / "ran"
    if zipped:
        torch.save(_Code(ran), weights)
    else:
        weights.write_bytes(pickle.dumps(_Code(ran)))
    for run in (lambda: load_bundle(copy, trust=True), lambda: export_onnx(copy, tmp_path / "m.onnx", trust=True)):
        with pytest.raises(ConfigError, match=r"checkpoint must be a state dict saved by PyTorch, got 'model\.pt'"):
            run()
    assert not ran.exists()


def test_missing_weights_are_missing_and_not_untrusted(copy: Path) -> None:
    (copy / "models" / "model.pt").unlink()
    with pytest.raises(ModelMissingError, match="osteo-monai bundle fetch vertebral_column_ct --source URL"):
        load_bundle(copy)


def test_the_source_tree_is_as_trusted_as_the_package(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(copy, "inference.json", amp=False)
    monkeypatch.setattr("osteo_monai.bundle.pins.SOURCE_BUNDLES", copy.parent)
    assert not check_trusted(copy)


def test_no_line_of_the_list_can_pretend_to_be_another(copy: Path) -> None:
    change(copy, "inference.json", checkpoint="$1\n  - nothing else\x1b[2K")
    assert foreign_code(copy) == ["configs/inference.json: $1 - nothing else [2K"]


def test_screening_refuses_bundles_that_are_not_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vertebra_localization_ct", CHEST):
        shutil.copytree(BUNDLES / name, tmp_path / name)
        change(tmp_path / name, "inference.json", checkpoint=f"${MARKER.format(str(tmp_path / 'ran'))}")
    monkeypatch.setenv(BUNDLES_VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match="got 'vertebra_localization_ct'"):
        load_models("cpu")
    with pytest.raises(ConfigError, match=f"got '{CHEST}'"):
        RadiographModels("cpu")
    assert "ran" not in os.listdir(tmp_path)


def test_configs_outside_of_the_bundle_are_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"checkpoint": f"${MARKER.format(str(tmp_path / 'ran'))}"}))
    for name in (str(tmp_path / "other"), "../../../other"):
        for run in (
            lambda name=name: load_bundle(copy, overlays=[name]),
            lambda name=name: run_bundle(copy, ["inference", name]),
            lambda name=name: export_onnx(copy, tmp_path / "model.onnx", [name]),
        ):
            with pytest.raises(ConfigError, match="configs must be names of configs of the bundle, got"):
                run()
    assert not (tmp_path / "ran").exists()
