"""Archives and folders of a static zoo, and bundles fetched from them through a local server."""

import functools
import http.server
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.apps.utils import download_url
from monai.bundle import download, download_large_files, load

from osteo_monai import cli
from osteo_monai.bundle import (
    differences,
    fetch_bundle,
    find_bundle,
    load_bundle,
    pack_bundles,
    pinned_files,
    publishing_problems,
)
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.files import file_sha256

BUNDLES = Path(__file__).parents[2] / "bundles"
NAMES = sorted(file.parents[1].name for file in BUNDLES.glob("*/configs/metadata.json"))
NAME = "vertebral_column_ct"
VERSION = json.loads((BUNDLES / NAME / "configs" / "metadata.json").read_text())["version"]
ARCHIVE = f"{NAME}_v{VERSION}"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # of the base class
        pass


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A zoo of one bundle in a folder, and its address."""
    folder = tmp_path_factory.mktemp("zoo")
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    pack_bundles([BUNDLES / NAME], folder, url)
    yield folder, url
    server.shutdown()
    server.server_close()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A bundle to be changed."""
    folder = tmp_path / "sources" / NAME
    shutil.copytree(BUNDLES / NAME, folder, ignore=shutil.ignore_patterns("eval", "inference"))
    return folder


# --- pack ---------------------------------------------------------------------------------------------------------


def test_an_archive_has_the_files_of_the_bundle(zoo: tuple[Path, str]) -> None:
    with zipfile.ZipFile(zoo[0] / f"{ARCHIVE}.zip") as archive:
        names = set(archive.namelist())
        assert archive.testzip() is None
    needed = {"LICENSE", "docs/README.md", *pinned_files(NAME)}
    assert names == {f"{NAME}/{part}" for part in needed}


def test_equal_bundles_give_equal_bytes(copy: Path, zoo: tuple[Path, str], tmp_path: Path) -> None:
    """Times, rights and leftovers of runs do not count."""
    for part in ("eval/config.json", "inference/a.csv", "models/model.ts", "configs/__pycache__/a.pyc", ".hidden"):
        (copy / part).parent.mkdir(exist_ok=True)
        (copy / part).touch()
    (copy / "LICENSE").chmod(0o600)
    (archive,) = pack_bundles([copy], tmp_path / "again")
    assert archive.read_bytes() == (zoo[0] / archive.name).read_bytes()


def test_the_index_has_source_and_checksums(zoo: tuple[Path, str], copy: Path) -> None:
    folder, url = zoo
    info = json.loads((folder / "models" / "model_info.json").read_text())
    entry = info[ARCHIVE]
    assert entry["source"] == f"{url}/{ARCHIVE}.zip"
    assert entry["sha256"] == file_sha256(folder / f"{ARCHIVE}.zip")
    # MONAI checks the SHA-1
    download_url(entry["source"], copy.parent / "a.zip", hash_val=entry["checksum"], hash_type="sha1", progress=False)


def test_the_index_keeps_other_archives(copy: Path, tmp_path: Path) -> None:
    pack_bundles([copy], tmp_path / "zoo")
    metadata = copy / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    content["version"], content["changelog"]["9.0.0"] = "9.0.0", "a test"
    metadata.write_text(json.dumps(content))
    pack_bundles([copy], tmp_path / "zoo")
    assert set(json.loads((tmp_path / "zoo" / "models" / "model_info.json").read_text())) == {
        ARCHIVE,
        f"{NAME}_v9.0.0",
    }


def test_a_hugging_face_folder_has_the_card_with_metadata(zoo: tuple[Path, str]) -> None:
    folder = zoo[0] / "huggingface" / NAME
    assert differences(folder) == []
    head, _, card = (folder / "README.md").read_text(encoding="utf-8").removeprefix("---\n").partition("---\n\n")
    assert "library_name: monai\nlicense: apache-2.0\n" in head
    assert "- monai\n- medical\n" in head
    assert card == (BUNDLES / NAME / "docs" / "README.md").read_text(encoding="utf-8")


def test_large_files_are_linked_with_their_checksum(zoo: tuple[Path, str]) -> None:
    folder, url = zoo
    pack_bundles([BUNDLES / NAME], folder / "large", f"{url}/large", large_bytes=2**20)
    contribution = folder / "large" / "models" / NAME
    assert not (contribution / "models" / "model.pt").exists()
    download_large_files(str(contribution))
    assert differences(contribution) == []
    with zipfile.ZipFile(folder / "large" / f"{ARCHIVE}.zip") as archive:
        assert f"{NAME}/models/model.pt" in archive.namelist()
    assert not (folder / "models" / NAME / "large_files.yml").exists()
    assert not any((folder / "large_files").glob("*"))


def test_large_files_need_an_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="base_url must be set for files above 10 bytes"):
        pack_bundles([BUNDLES / NAME], tmp_path, large_bytes=10)


def test_a_bundle_that_is_not_complete_is_not_packed(copy: Path, tmp_path: Path) -> None:
    (copy / "LICENSE").unlink()
    with pytest.raises(ConfigError, match="vertebral_column_ct: LICENSE is missing"):
        pack_bundles([copy], tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_can_be_published(name: str) -> None:
    assert publishing_problems(BUNDLES / name) == []


def test_problems_of_publishing(copy: Path) -> None:
    metadata = json.loads((copy / "configs" / "metadata.json").read_text())
    del metadata["task"]
    (copy / "configs" / "metadata.json").write_text(json.dumps(metadata | {"version": "7"}))
    (copy / "docs" / "README.md").write_text("[a](../../../docs/a.md) [b](https://monai.io) [c](README.md) [d](#use)")
    folder = copy.rename(copy.with_name("Column-CT"))
    assert publishing_problems(folder) == [
        "the name must have small letters, digits and underscores, got 'Column-CT'",
        "metadata.json has no 'task'",
        "the changelog has no version '7'",
        "the card links to '../../../docs/a.md', which is not in the bundle",
    ]


# --- fetch --------------------------------------------------------------------------------------------------------


def test_monai_downloads_and_loads_an_archive(zoo: tuple[Path, str], tmp_path: Path) -> None:
    download(name=NAME, bundle_dir=str(tmp_path), url=f"{zoo[1]}/{ARCHIVE}.zip", progress=False)
    assert differences(tmp_path / NAME) == []
    assert isinstance(load(NAME, bundle_dir=tmp_path, device="cpu"), torch.nn.Module)


SOURCES = {
    "zoo": "{url}",
    "archive address": "{url}/" + f"{ARCHIVE}.zip",
    "repository": "{url}/huggingface/" + NAME,
    "zoo folder": "{zoo}",
    "archive": "{zoo}/" + f"{ARCHIVE}.zip",
    "folder of the bundle": "{zoo}/huggingface/" + NAME,
    "folder of bundles": "{zoo}/huggingface",
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_bundle_is_fetched_and_found(
    source: str, zoo: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTEO_BUNDLES", str(tmp_path))
    folder = fetch_bundle(NAME, source.format(zoo=zoo[0], url=zoo[1]))
    assert folder == tmp_path / NAME == find_bundle(NAME)
    assert load_bundle(NAME).pinned
    assert (folder / "LICENSE").is_file()
    assert not list(tmp_path.glob(".*"))


def test_a_snapshot_of_a_cache_is_fetched(zoo: tuple[Path, str], tmp_path: Path) -> None:
    """A Hugging Face cache has links to files, in a folder that is named by a checksum."""
    snapshot = tmp_path / "snapshots" / "0f3c"
    for file in (path for path in (zoo[0] / "huggingface" / NAME).rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(zoo[0] / "huggingface" / NAME)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    folder = fetch_bundle(NAME, str(snapshot), tmp_path / "installed")
    assert differences(folder) == []
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_an_installed_bundle_is_replaced_on_request_only(zoo: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "old").touch()
    with pytest.raises(ConfigError, match="overwrite must be set to replace a bundle"):
        fetch_bundle(NAME, str(zoo[0]), tmp_path)
    folder = fetch_bundle(NAME, str(zoo[0]), tmp_path, overwrite=True)
    assert not (folder / "old").exists()


def test_a_changed_bundle_is_fetched_with_trust_only(copy: Path, tmp_path: Path) -> None:
    config = json.loads((copy / "configs" / "inference.json").read_text())
    (copy / "configs" / "inference.json").write_text(json.dumps(config | {"checkpoint": "$1 + 1"}))
    with pytest.raises(ConfigError, match=r"got 'vertebral_column_ct': configs/inference\.json is changed") as caught:
        fetch_bundle(NAME, str(copy), tmp_path / "installed")
    assert "$1 + 1" in str(caught.value)
    assert not (tmp_path / "installed").exists()
    folder = fetch_bundle(NAME, str(copy), tmp_path / "installed", trust=True)
    assert differences(folder) == ["configs/inference.json is changed"]


def test_wrong_sources_are_one_sentence(zoo: tuple[Path, str], copy: Path, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    (copy / "models" / "model.pt").unlink()
    shutil.copytree(zoo[0], tmp_path / "damaged", ignore=shutil.ignore_patterns("huggingface", "large*", NAME))
    with (tmp_path / "damaged" / f"{ARCHIVE}.zip").open("ab") as file:
        file.write(b"more")
    info = json.loads((zoo[0] / "models" / "model_info.json").read_text())
    info[ARCHIVE]["source"] = f"{ARCHIVE}.zip"
    (tmp_path / "damaged" / "models" / "model_info.json").write_text(json.dumps(info))
    info[ARCHIVE]["source"] = (zoo[0] / f"{ARCHIVE}.zip").as_uri()
    (tmp_path / "foreign" / "models").mkdir(parents=True)
    (tmp_path / "foreign" / "models" / "model_info.json").write_text(json.dumps(info))
    endless = {ARCHIVE: {"source": f"{zoo[1]}/endless"}}
    (zoo[0] / "endless" / "models").mkdir(parents=True)
    (zoo[0] / "endless" / "models" / "model_info.json").write_text(json.dumps(endless))
    for name, source, sentence in (
        (NAME, "gone", "source must be an address, or a folder or zip archive with vertebral_column_ct, got 'gone'"),
        (NAME, str(tmp_path / "a.zip"), "source must be a zip archive of a bundle, got an archive that is damaged"),
        (NAME, str(copy), "source must hold every file of the bundle, got models/model.pt is missing"),
        (NAME, str(tmp_path / "damaged"), "archive must have the SHA-256 of its index"),
        (NAME, f"{zoo[1]}/gone.zip", "gone.zip', got HTTP status 404"),
        (NAME, f"{zoo[1]}/gone", "gone/configs/common.json', got HTTP status 404"),
        (NAME, "http://127.0.0.1:9/", "source must be reachable, got 'http://127.0.0.1:9/models/model_info.json'"),
        (NAME, str(tmp_path / "foreign"), "addresses that begin with http or https, got 'file:"),
        (NAME, f"{zoo[1]}/endless", "source must have zip archives in its index, got"),
        ("other_bundle", zoo[1], "source must hold the bundle other_bundle, got 1 other archives"),
        ("other_bundle", str(zoo[0] / f"{ARCHIVE}.zip"), "source must hold the folder other_bundle"),
    ):
        with pytest.raises(UnusableInputError) as caught:
            fetch_bundle(name, source, tmp_path / "installed")
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="bundle must be a name of letters, digits and underscores"):
        fetch_bundle("../evil", zoo[1], tmp_path / "installed")
    assert not (tmp_path / "installed").exists()


def test_a_changed_file_of_a_repository_is_refused(zoo: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(zoo[0] / "huggingface" / NAME, zoo[0] / "changed" / NAME)
    with (zoo[0] / "changed" / NAME / "models" / "model.pt").open("ab") as file:
        file.write(b"0")
    with pytest.raises(UnusableInputError, match="source must hold the files of this release, got another one"):
        fetch_bundle(NAME, f"{zoo[1]}/changed/{NAME}", tmp_path / "installed")


# --- command line -------------------------------------------------------------------------------------------------


def test_commands(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTEO_BUNDLES", str(tmp_path / "installed"))
    wheel = tmp_path / "osteo_monai-0.2.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    assert cli.run(["bundle", "pack", str(copy), "-o", str(tmp_path / "zoo"), "--wheel", str(wheel)]) == 0
    assert (tmp_path / "zoo" / wheel.name).read_bytes() == b"a wheel"
    assert cli.run(["bundle", "fetch", NAME, "--source", str(tmp_path / "zoo")]) == 0
    assert cli.run(["bundle", "verify", NAME]) == 0
    assert f"{NAME}: as in this release" in capsys.readouterr().out
    inference = tmp_path / "installed" / NAME / "configs" / "inference.json"
    code = {"imports": ["$import os as o"], "checkpoint": {"_target_": "o.system"}}
    inference.write_text(json.dumps(json.loads(inference.read_text()) | code))
    assert cli.run(["bundle", "verify", NAME]) == 2
    output = capsys.readouterr()
    assert "configs/inference.json is changed" in output.out
    assert "configs/inference.json: $import os as o" in output.out
    assert "configs/inference.json: _target_ o.system" in output.out
    assert "bundles must have the files of this release, got 1 that differ" in output.err
    assert cli.run(["bundle", "fetch", NAME, "--source", str(tmp_path / "zoo")]) == 2
    assert cli.run(["bundle", "fetch", NAME, "--source", str(tmp_path / "zoo"), "--overwrite"]) == 0
    assert cli.run(["bundle", "verify"]) == 0
    assert capsys.readouterr().out.count(": as in this release") == len(NAMES)
