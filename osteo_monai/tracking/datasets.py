"""Data sets as inputs of runs: the name of a manifest or generator and a digest, without paths."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from osteo_monai.tracking.runs import TrackedRun
from osteo_monai.utils.files import file_sha256
from osteo_monai.utils.inputs import read_input

__all__ = ["DataFacts", "data_facts", "dataset_links", "log_data"]

_DIGITS = 16
"""Of a digest; the database stores 36 of the 64 digits of a SHA-256, which is a tag of the source."""


@dataclass(frozen=True)
class DataFacts:
    """What identifies a data set.

    Attributes:
        name: of the manifest, or of the class that generates the items.
        sha256: of the manifest, or of the description of the generator.
        items: number of items that are used; ``None`` if unknown.
        description: of the generator; empty for a manifest.
    """

    name: str
    sha256: str
    items: int | None = None
    description: str = ""


def data_facts(source: str, dataset: Any = None) -> DataFacts:
    """Return the facts of a data set.

    Args:
        source: path of a data manifest, or the name of another source, such as ``virtual``.
        dataset: data set of MONAI, whose ``data`` generates or lists the items.
    """
    items = _length(dataset)
    if source and Path(source).is_file():
        return DataFacts(_manifest_name(source), file_sha256(source), items)
    from osteo_monai.tracking.description import describe  # MONAI, which commands that read a manifest do not need

    data = getattr(dataset, "data", None)
    is_list = isinstance(data, list | tuple)
    content = json.dumps(data, default=str) if is_list else describe(data)
    steps = getattr(getattr(dataset, "transform", None), "transforms", ())
    first = describe(steps[0]) if steps else ""  # it may paint the items from their numbers
    description = first if is_list else content
    name = source or type(data).__name__
    parts = [name, metadata.version("osteo_monai"), content, first]
    return DataFacts(name, hashlib.sha256("\n".join(parts).encode()).hexdigest(), items, description[:500])


def log_data(run: TrackedRun, facts: DataFacts, use: str) -> None:
    """Log a data set as an input of a run.

    Args:
        run: to log to.
        facts: of the data set.
        use: ``training``, ``validation`` or ``test``; part of the name, since a run has each name and digest once.
    """
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tags = {"sha256": facts.sha256, "description": facts.description}
    source = CodeDatasetSource({key: value for key, value in tags.items() if value})
    profile = None if facts.items is None else json.dumps({"num_rows": facts.items})
    kind, name, digest = source._get_source_type(), dataset_name(facts, use), facts.sha256[:_DIGITS]
    data = Dataset(name, digest, kind, json.dumps(source.to_dict()), profile=profile)
    run.client.log_inputs(run.run_id, [DatasetInput(data, [InputTag("mlflow.data.context", use)])])


def dataset_name(facts: DataFacts, use: str) -> str:
    """Return the name of a data set in MLflow."""
    return f"{facts.name}, {use}"


def dataset_links(facts: DataFacts, use: str) -> dict[str, str]:
    """Return the links from metrics to a data set, see ``TrackedRun.log_metrics``."""
    return {"dataset_name": dataset_name(facts, use), "dataset_digest": facts.sha256[:_DIGITS]}


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:
        return None


def _manifest_name(path: str) -> str:
    """Return the name inside a manifest, not that of the file."""
    try:
        content = json.loads(read_input(path))
    except ValueError:
        return "manifest"
    name = content.get("name") if isinstance(content, Mapping) else None
    return name if isinstance(name, str) and name else "manifest"
