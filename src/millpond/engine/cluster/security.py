"""TLS for Dask with our own identities."""

# mypy: allow-untyped-calls
# Dask has types for a part of its functions only.

import ssl
from typing import Any

from millpond.ground.tls import HOST_NAME, Identity, peer_of


class _HostSocket(ssl.SSLSocket):
    """A connection that ends at once when it is not the host that answers.

    The name in the certificate is checked as well, but the role is what counts: a node may have
    been given a certificate for more names than it should have.
    """

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        peer = peer_of(self.getpeercert())
        if peer is None or peer.role != "host":
            raise ssl.SSLCertVerificationError("the certificate there is not the host's")


def make_security(identity: Identity) -> Any:
    """Give Dask's ``Security`` that shows and trusts an identity; callers check the host's name.

    Dask is loaded here and not above, so that a server without nodes does not load it.
    """
    from distributed.security import Security

    class ClusterSecurity(Security):
        """Checks the name in the host's certificate: clients and workers call nobody else."""

        def get_connection_args(self, role: str) -> dict[str, Any]:
            found: dict[str, Any] = super().get_connection_args(role)
            if role != "scheduler":
                found["ssl_context"].check_hostname = True
                found["ssl_context"].sslsocket_class = _HostSocket
                found["server_hostname"] = HOST_NAME
            return found

    files = {
        f"tls_{role}_{kind}": str(path)
        for role in ("client", "scheduler", "worker")
        for kind, path in (("cert", identity.certificate), ("key", identity.key))
    }
    return ClusterSecurity(require_encryption=True, tls_ca_file=str(identity.authority), **files)
