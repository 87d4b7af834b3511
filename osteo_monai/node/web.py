"""DICOMweb sessions: certificates, credentials, time limits, no proxies."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from requests.adapters import HTTPAdapter

from osteo_monai.errors import UnusableInputError
from osteo_monai.node.config import WebServer, credentials

__all__ = ["WebError", "web_client"]


class WebError(UnusableInputError):
    """A DICOMweb service did not answer as it should; the message has no identifier.

    Args:
        message: one sentence.
        status: HTTP status, 0 without an answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self._arguments = (message, status)


class _Adapter(HTTPAdapter):
    """Adapter with a time limit for each read, which requests does not set by default."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        super().__init__()

    def send(self, *arguments: Any, **keywords: Any) -> requests.Response:
        keywords["timeout"] = (min(10.0, self._seconds), self._seconds)
        return super().send(*arguments, **keywords)


def web_client(server: WebServer) -> DICOMwebClient:
    """Return a client of a DICOMweb service.

    Raises:
        ConfigError: an environment variable with credentials is not set.
    """
    session = requests.Session()
    session.trust_env = False  # no proxy and no .netrc of the environment
    session.mount("https://", _Adapter(server.seconds))
    session.mount("http://", _Adapter(server.seconds))
    if server.authorities is not None:
        session.verify = str(server.authorities)
    known = credentials(server)
    if "user" in known:
        session.auth = (known["user"], known["password"])
    if "token" in known:
        session.headers["Authorization"] = f"Bearer {known['token']}"
    client = DICOMwebClient(server.url, session=session)
    client.set_http_retry_params(retry=False)  # the queue retries
    return client


@contextmanager
def web_errors(url: str) -> Iterator[None]:
    """Turn errors of the client into :class:`WebError`: their text holds URLs with UIDs."""
    host = urlsplit(url).netloc
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise WebError(
            f"The DICOMweb service {host} must answer with success, got HTTP status {status}.", status
        ) from None
    except requests.ConnectionError as error:
        kind = "a TLS certificate that is not valid" if re.search("certificate", str(error), re.IGNORECASE) else "no"
        raise WebError(f"The DICOMweb service {host} must accept connections, got {kind} answer.") from None
    except requests.RequestException as error:
        raise WebError(f"The DICOMweb service {host} did not answer ({type(error).__name__}).") from None
    except WebError:
        raise
    # the client parses the answer, which may be anything
    except Exception as error:  # noqa: BLE001
        raise WebError(f"The answer of the DICOMweb service {host} cannot be read ({type(error).__name__}).") from None
