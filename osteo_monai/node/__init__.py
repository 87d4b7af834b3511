"""DICOM node: receives studies, screens them, sends the results to a PACS (extra ``pacs``; docs/pacs.md).

``queue`` is the durable state and ``spool`` its files; ``receiver`` (on ``transport``), ``delivery`` and ``follow``
each change one part of it; ``service`` runs them and the workers (``osteo_monai.batch``) that screen. What screens a
study is given by name, see ``processing``.
"""

from osteo_monai.node.config import NodeConfig, read_config
from osteo_monai.node.dicomweb import downloaded, is_remote, parse_remote
from osteo_monai.node.mercure import folders, run_module
from osteo_monai.node.processing import Processed
from osteo_monai.node.queue import Queue
from osteo_monai.node.service import QUEUE_FILE, Node, check_connections

__all__ = [
    "QUEUE_FILE",
    "Node",
    "NodeConfig",
    "Processed",
    "Queue",
    "check_connections",
    "downloaded",
    "folders",
    "is_remote",
    "parse_remote",
    "read_config",
    "run_module",
]
