"""What this host shows to others: the contexts of its listeners, kept fresh while it runs."""

import logging
import ssl
from datetime import datetime
from pathlib import Path

from millpond.ground.errors import MillpondError
from millpond.ground.findings import Finding
from millpond.ground.settings import Settings
from millpond.ground.tls import Identity
from millpond.machines.authority import Authority
from millpond.machines.trust import rules
from millpond.machines.trust.addresses import own_names
from millpond.machines.trust.given import check_given, load_into
from millpond.machines.trust.values import AuthorityShown, Way

log = logging.getLogger("millpond.machines")


class HostTls:
    """The host's certificates: its own authority's, and the one it was given, if any."""

    def __init__(self, settings: Settings, data: Path, way: Way, now: datetime) -> None:
        """Open the authority in ``DATA/keys``, and what the server listens with.

        Raises:
            InvalidError: the certificate that it was given cannot be used, or ``server.url``
                is another kind of address.
        """
        rules.check_url(settings.server, way)
        self.way: Way = way
        self.authority = Authority(data / "keys", now)
        self._settings, self._folder = settings, data / "cluster"
        self._identity: Identity | None = None
        self._own: list[ssl.SSLContext] = []
        server = settings.server
        self._given = Path(server.certificate), Path(server.certificate_key)
        self._given_at, self._given_until = 0.0, now
        self.context: ssl.SSLContext | None = None
        if way == "given":
            self._given_until = check_given(*self._given, server.url, now)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            load_into(self.context, *self._given)
            self._given_at = self._changed_at()
        elif way == "own":
            self.context = self._make_own(now, require_client=False)

    @property
    def shown(self) -> AuthorityShown:
        """The authority, as everybody may see it."""
        return AuthorityShown(self.authority.pem.decode(), self.authority.fingerprint)

    def identity(self, now: datetime) -> Identity:
        """Give the host's own certificate, ``DATA/cluster/host.crt``; made at the first call."""
        if self._identity is None:
            server, cluster = self._settings.server, self._settings.cluster
            hosts = rules.hosts_of(server, cluster, own_names())
            self._identity = self.authority.open_identity(self._folder, "host", "host", hosts, now)
        return self._identity

    def door_context(self, now: datetime) -> ssl.SSLContext:
        """Make the context of a listener that lets in only who has one of our certificates."""
        return self._make_own(now, require_client=True)

    def announced(self) -> dict[str, str]:
        """Say in what programs of this machine may trust; paths, for ``server.json``."""
        if self.way == "given":
            return {"certificate": str(self._given[0].absolute())}
        return {"authority": str(self.authority.path)} if self.way == "own" else {}

    def find(self, url: str, now: datetime) -> Finding:
        """Say how the server is reached at this address, and whether that goes on."""
        left = self._given_until - now
        return rules.finding_of(self.way, url, self.authority.fingerprint, left)

    def refresh(self, now: datetime) -> None:
        """Renew what is due, and take a given certificate up that has changed on the disk."""
        if self._own:
            self._identity = None
            identity = self.identity(now)
            for context in self._own:
                context.load_cert_chain(identity.certificate, identity.key)
        if self.way == "given" and self.context is not None:
            self._refresh_given(self.context, now)

    def _refresh_given(self, context: ssl.SSLContext, now: datetime) -> None:
        changed_at = self._changed_at()
        if changed_at == self._given_at:
            return
        try:
            self._given_until = check_given(*self._given, self._settings.server.url, now)
            load_into(context, *self._given)
        except (MillpondError, OSError) as fault:
            log.error("The changed certificate is not taken up: %s", fault)  # noqa: TRY400 - told.
            return
        self._given_at = changed_at
        log.info("The changed certificate is taken up")

    def _changed_at(self) -> float:
        try:
            return max(path.stat().st_mtime for path in self._given)
        except OSError:
            return 0.0

    def _make_own(self, now: datetime, *, require_client: bool) -> ssl.SSLContext:
        context = self.identity(now).server_context(require_client=require_client)
        self._own.append(context)
        return context
