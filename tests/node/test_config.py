"""Settings of the node: one sentence for each mistake, and an example that is valid."""

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from osteo_monai.errors import ConfigError
from osteo_monai.node import NodeConfig, read_config
from osteo_monai.node.config import StowDestination, credentials, is_loopback

EXAMPLE = files("osteo_monai.node") / "templates" / "node.yaml"


def read(folder: Path, text: str) -> NodeConfig:
    path = folder / "node.yaml"
    path.write_text(text)
    return read_config(path)


def test_example_has_the_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, EXAMPLE.read_text(encoding="utf-8"))
    assert config == NodeConfig(folder=tmp_path / "node")


def test_example_is_valid_with_all_that_it_comments_out(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    text = text.replace("# - kind", "  - kind").replace("#   ", "    ").replace("destinations: []", "destinations:")
    text = text.replace("  # tls:", "  tls:").replace("  #   ", "    ").replace("# follow:", "follow:")
    config = read(tmp_path, text)
    assert [d.kind for d in config.destinations] == ["c-store", "stow"]
    assert config.follow is not None
    assert config.receiver is not None
    assert config.receiver.tls is not None


def test_every_setting_is_in_the_example() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")

    def names(model: object) -> set[str]:
        fields = getattr(model, "model_fields", {})
        return set(fields) | {n for f in fields.values() for n in names(f.annotation)}

    assert [name for name in sorted(names(NodeConfig)) if f"{name}:" not in text] == []


def test_deployed_example_is_the_shipped_one() -> None:
    deployed = Path(__file__).parents[2] / "deploy" / "node.yaml"
    assert deployed.read_text(encoding="utf-8") == EXAMPLE.read_text(encoding="utf-8")


OPEN = "receiver: {address: 0.0.0.0, calling_ae_titles: [CT1], peers: [10.0.0.0/8]}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("folder: a\nport: 3", "port is not a known setting"),
        ("receiver: {}", "folder is missing"),
        ("folder: a\nreceiver: {port: 70000}", r"receiver\.port must be less than or equal to 65535, got '70000'"),
        ("folder: a\nreceiver: {ae_title: THIS_TITLE_IS_LONG}", r"receiver\.ae_title must be an AE title of 1 to 16"),
        ("folder: a\nreceiver: {peers: [10.1.1.1/8]}", r"receiver\.peers\[1\] must be an IP address or a network"),
        ("folder: a\nreceiver: {address: 0.0.0.0}", "calling_ae_titles and peers must not be empty"),
        ("folder: a\nreceiver: null", "receiver or follow must be given"),
        ("folder: a\nstudies: {keep_images_hours: -1}", r"studies\.keep_images_hours must be greater than 0, got '-1'"),
        ("folder: a\nfolder: b", "line 2: each key must be given once, got 'folder' twice"),
        ("folder: [a", "must be a YAML file"),
        ("- a", "must hold settings as 'name: value'"),
        ("", "must hold settings as 'name: value'"),
        ("folder: a\ndestinations: [{kind: ftp, name: a}]", r"destinations\[1\]"),
        ("folder: a\ndestinations: [{kind: stow, name: a, url: 'ftp://x'}]", r"destinations\[1\]\.url must be a URL"),
        ("folder: a\ndestinations: [{kind: stow, name: a, url: 'https://x', user_variable: A}]", "given together"),
        (
            "folder: a\ndestinations:\n- {kind: stow, name: a, url: 'https://x'}\n- {kind: stow, name: a, url: 'https://y'}",
            "destinations must have different names, got a, a",
        ),
        (
            "folder: a\nreceiver: null\nfollow: {url: 'https://x'}\ndestinations:\n"
            "- {kind: c-store, name: a, ae_title: A, host: h, port: 1, commitment: true}",
            "commitment must be false without a receiver",
        ),
        ("folder: !!python/object/apply:os.system [id]", "must be a YAML file"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read(tmp_path, text)


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 2 mistakes:\n  - .*\n  - "):
        read(tmp_path, "receiver: {port: -1}")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CONFIG must be a readable file"):
        read_config(tmp_path / "missing.yaml")


def test_paths_do_not_depend_on_the_current_folder(tmp_path: Path) -> None:
    config = read(tmp_path, "folder: a\nreceiver: {tls: {certificate: c.pem, key: /k.pem, authorities: d/a.pem}}")
    assert config.receiver is not None
    assert config.receiver.tls is not None
    assert config.folder == tmp_path / "a"
    assert (config.receiver.tls.certificate, config.receiver.tls.key) == (tmp_path / "c.pem", Path("/k.pem"))


def test_receiver_that_others_reach_needs_both_lists(tmp_path: Path) -> None:
    assert read(tmp_path, "folder: a\n" + OPEN).receiver is not None
    with pytest.raises(ConfigError, match="must not be empty"):
        read(tmp_path, "folder: a\n" + OPEN.replace("[CT1]", "[]"))


def test_loopback() -> None:
    assert [is_loopback(a) for a in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "pacs")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_credentials_are_read_from_the_environment() -> None:
    server = StowDestination(kind="stow", name="a", url="https://x", user_variable="U", password_variable="P")
    assert credentials(server, {"U": "me", "P": "secret"}.get) == {"user": "me", "password": "secret"}
    with pytest.raises(ConfigError, match="the environment variable P must be set"):
        credentials(server, {"U": "me"}.get)


def test_example_is_plain_yaml() -> None:
    assert yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["folder"] == "node"
