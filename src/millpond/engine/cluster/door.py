"""A node's way to the host: calls to the door over mutual TLS, and patience while it is away."""

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx

from millpond.ground.errors import (
    BusyError,
    ConflictError,
    Fault,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
    TooLargeError,
)
from millpond.ground.tls import HOST_NAME, Identity

T = TypeVar("T")
Content = Callable[[], Iterable[bytes]]
"""Gives the pieces of a body; asked again for each try."""

IsOver = Callable[[], bool]
"""Tells whether nobody waits for it any more."""

_ROOT = "/door/v1/"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_CONNECT_SECONDS, _READ_SECONDS = 3.0, 60.0
_CONNECTIONS = 64
_KINDS: dict[int, type[MillpondError]] = {
    400: InvalidError,
    401: NotAllowedError,
    403: NotAllowedError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    422: InvalidError,
}


class HostAwayError(BusyError):
    """The host does not answer now, or says that it can't do it now: trying again may help."""


class HostBusyError(HostAwayError):
    """The host is there and says that it can't do it now: there is no room, or too few nodes."""


def _never() -> bool:
    return False


class Door:
    """Calls to the host's door. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        patience_seconds: float = 900.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Speak to ``url`` with a node's certificate.

        Args:
            url: of the door, such as ``https://host:8785``.
            identity: the node's certificate.
            patience_seconds: how long a call goes on while the host is away; tasks wait for it.
            pause: how to wait.
        """
        self.url = url.rstrip("/")
        self._identity, self._patience, self._pause = identity, patience_seconds, pause
        self._client = self._open()
        self.is_closed = False

    def _open(self) -> httpx.Client:
        return httpx.Client(
            verify=self._identity.client_context(),
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            trust_env=False,  # A proxy of the machine's must not come between.
        )

    def renew(self) -> None:
        """Use the certificate that now lies in the node's files."""
        old, self._client = self._client, self._open()
        old.close()

    def close(self) -> None:
        """Close the connections; whoever waits for the host waits no longer."""
        self.is_closed = True
        self._client.close()

    def post(self, name: str, facts: Any) -> Any:
        """Send JSON and read JSON, once.

        Raises:
            HostAwayError: the host does not answer, or is busy.
            MillpondError: what it says is wrong.
        """
        return self.send("POST", urljoin(_ROOT, name), json=facts).json()

    def ask(self, name: str, facts: Any, is_over: IsOver = _never) -> Any:
        """Send JSON and read JSON, as often as it takes while the host is away."""
        return self.patiently(lambda: self.post(name, facts), is_over)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request, with options as ``httpx.Client.request`` has them, and read all.

        Raises:
            HostAwayError: the host does not answer, or is busy.
            MillpondError: what it says is wrong.
        """
        try:
            answer = self._client.request(
                method, self.url + path, extensions={"sni_hostname": HOST_NAME}, **options
            )
        except (httpx.TransportError, RuntimeError) as fault:  # Closed by `renew`: once more.
            raise away(self.url, fault) from fault
        raise_fault(answer)
        return answer

    def stream(self, path: str, headers: Mapping[str, str] | None = None) -> Any:
        """Begin to fetch an address of the door; use it with ``with``."""
        return self._client.stream(
            "GET", self.url + path, headers=headers, extensions={"sni_hostname": HOST_NAME}
        )

    def patiently(self, call: Callable[[], T], is_over: IsOver = _never) -> T:
        """Call again, with growing pauses, while the host is away and somebody waits for it.

        Raises:
            HostAwayError: it was away for too long.
        """
        end = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return call()
            except HostAwayError:
                if self.is_closed or is_over() or time.monotonic() + pause > end:
                    raise
                self._pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)


def away(url: str, fault: Exception) -> MillpondError:
    """Say that somebody does not answer, or is not who they should be."""
    why = _distrust_in(fault)
    if why:
        return NotAllowedError(
            f"{url} and this machine do not trust each other's certificates: {why}.",
            next_step="Compare the clocks of both. If they are right, this machine belongs to"
            " another installation, or the host's keys are new: remove its folder and join it"
            " again, with a token from `millpond node token` on the host.",
            kind="authority",
        )
    return HostAwayError(
        f"{url} does not answer: {type(fault).__name__} {fault}".rstrip(": "),
        next_step="Check that it runs and that this machine reaches it.",
    )


def _distrust_in(fault: BaseException | None) -> str:
    """Give what a TLS library says of certificates that are not believed; empty if it is not so."""
    while fault is not None:
        if isinstance(fault, ssl.SSLCertVerificationError):
            return fault.verify_message or "it cannot be verified"
        if isinstance(fault, ssl.SSLError) and "ALERT" in (fault.reason or ""):
            words = str(fault.reason).replace("_", " ").lower()
            return words if "unknown ca" in words or "certificate" in words else ""
        fault = fault.__cause__ or fault.__context__
    return ""


def raise_fault(answer: httpx.Response) -> None:
    """Raise the error that an answer stands for, in the words it came with; the answer is read."""
    status = answer.status_code
    if status < HTTPStatus.BAD_REQUEST:
        return
    try:
        facts = answer.json()
    except ValueError:
        facts = {}
    facts = facts if isinstance(facts, dict) else {}
    message = str(facts.get("detail") or f"It answered {status}: {answer.text[:200]}")
    step = str(facts.get("next_step") or "Look into the log of the host.")
    kind = _KINDS.get(status)
    if kind is InvalidError:
        faults = [Fault(str(e["field"]), str(e["message"])) for e in facts.get("faults", ())]
        raise InvalidError(message, next_step=step, faults=faults)
    if kind is not None:
        raise kind(message, next_step=step, **dict(facts.get("facts") or {}))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:  # A defect: asking for long mends nothing.
        raise BusyError(message, next_step=step)
    if status == HTTPStatus.SERVICE_UNAVAILABLE and "detail" in facts:  # Our own word.
        raise HostBusyError(message, next_step=step)
    raise HostAwayError(message, next_step=step)
