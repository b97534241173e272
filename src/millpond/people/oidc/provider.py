"""One provider: its description and its keys, fetched and kept; codes redeemed, tokens read."""

from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

from millpond.ground.errors import BusyError, MillpondError
from millpond.ground.settings import ProviderSettings
from millpond.people.oidc import rules
from millpond.people.oidc.values import Ask, Back, Claims

_SECONDS, _BYTES_MOST, _SAID_MOST = 10.0, 1 << 20, 300
_DESCRIPTION_SECONDS = 3600.0
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class Provider:
    """A place to sign in through."""

    def __init__(self, name: str, settings: ProviderSettings, back: str) -> None:
        """Take what the settings say; nothing is fetched yet.

        Args:
            name: of the settings' table.
            settings: of this provider.
            back: the page of ours to which the provider sends people back.
        """
        self.name, self.settings, self._back = name, settings, back
        self.label = settings.label or name
        self._lock = Lock()
        self._description: dict[str, Any] | None = None
        self._described_at = 0.0
        self._keys: list[Any] | None = None

    def address(self, ask: Ask) -> str:
        """Give the address at the provider where somebody signs in.

        Raises:
            BusyError: it cannot be reached, or does not describe itself well.
        """
        page = str(self._describe()["authorization_endpoint"])
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._back,
            "scope": self.settings.scopes,
            "state": ask.state,
            "nonce": ask.nonce,
            "code_challenge": rules.challenge_of(ask.verifier),
            "code_challenge_method": "S256",
        }
        return page + ("&" if urlsplit(page).query else "?") + urlencode(asked)

    def redeem(self, back: Back, ask: Ask, now: datetime) -> Claims:
        """Give who somebody is whom the provider has sent back.

        Raises:
            NotAllowedError: the provider refuses, or its word does not hold.
            BusyError: it cannot be reached.
        """
        if back.error:
            words = (back.error_description or back.error)[:_SAID_MOST]
            raise rules.refused(f"it answers {_printable(words)!r}")
        if back.iss and back.iss != self.settings.issuer:
            raise rules.refused("another provider has answered")
        token = self._fetch_token(back.code, ask.verifier)
        facts = self._read_token(str(token.get("id_token", "")))
        rules.check_claims(
            facts,
            issuer=self.settings.issuer,
            client_id=self.settings.client_id,
            nonce=ask.nonce,
            now=now,
        )
        if "preferred_username" not in facts and "email" not in facts:
            facts = {**self._fetch_more(token, facts["sub"]), **facts}
        return rules.claims_of(facts)

    def _fetch_token(self, code: str, verifier: str) -> dict[str, Any]:
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "code_verifier": verifier,
        }
        known, auth = self._describe(), None
        own = (self.settings.client_id, self.settings.client_secret)
        ways = known.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if own[1] and "client_secret_basic" in ways:
            auth = httpx.BasicAuth(*(quote(each, safe="") for each in own))
        else:
            sent["client_id"] = own[0]
            sent |= {"client_secret": own[1]} if own[1] else {}
        found = self._ask("POST", known["token_endpoint"], data=sent, auth=auth)
        if "error" in found:
            words = str(found.get("error_description") or found["error"])[:_SAID_MOST]
            raise rules.refused(f"it answers {_printable(words)!r}")
        return found

    def _fetch_more(self, token: Mapping[str, Any], subject: str) -> dict[str, Any]:
        """Ask for what the token left out: names and addresses."""
        page = self._describe().get("userinfo_endpoint")
        if not isinstance(page, str):
            return {}
        headers = {"Authorization": f"Bearer {token.get('access_token', '')}"}
        found = self._ask("GET", page, headers=headers)
        if "error" not in found and found.get("sub") != subject:
            raise rules.refused("it speaks of two people")
        return found

    def _read_token(self, text: str) -> dict[str, Any]:
        """Check the signature; keys that are not known yet are fetched once."""
        # Loaded with the first sign-in of this kind: a tenth of a second that others need not pay.
        from joserfc import jws, jwt
        from joserfc.errors import JoseError

        try:
            header = jws.extract_compact(text.encode()).headers()
            if header.get("alg") not in rules.ALGORITHMS:
                raise rules.refused("it is not signed in a way that is safe")
            keys = self._find_keys(header.get("kid"))
            for key in keys:
                try:
                    return dict(jwt.decode(text, key, algorithms=[*rules.ALGORITHMS]).claims)
                except JoseError:
                    if key is keys[-1]:
                        raise
        except (JoseError, ValueError, LookupError, TypeError):
            raise rules.refused("its signature does not hold") from None
        raise rules.refused("it is signed with a key that the provider does not show")

    def _find_keys(self, name: object) -> list[Any]:
        """Give the keys of this name, all of them when a token names none."""
        from joserfc.jwk import KeySet

        def fitting() -> list[Any]:
            return [key for key in self._keys or () if name is None or key.kid == name]

        if self._keys is None or not fitting():
            found = self._ask("GET", self._describe()["jwks_uri"])
            public = [
                each
                for each in found.get("keys", [])
                if isinstance(each, dict)
                and each.get("kty") != "oct"
                and each.get("use", "sig") == "sig"
            ]
            with self._lock:
                self._keys = list(KeySet.import_key_set({"keys": public}))
        return fitting()

    def _describe(self) -> dict[str, Any]:
        """Give the provider's description of itself, fetched when it is needed first."""
        known = self._description
        if known is None or monotonic() - self._described_at > _DESCRIPTION_SECONDS:
            issuer = self.settings.issuer
            found = self._ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != issuer:
                raise self._busy("it says that it is another one")
            for name in _NEEDED:
                page = urlsplit(str(found.get(name, "")))
                if page.scheme != "https" and page.scheme != urlsplit(issuer).scheme:
                    raise self._busy(f"its {name} is no safe address")
            with self._lock:
                self._description, self._described_at = found, monotonic()
            return found
        return known

    def _ask(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        """Ask the provider for JSON; what it refuses comes back as its ``error``."""
        headers = {"Accept": "application/json", **more.pop("headers", {})}
        try:
            with (
                httpx.Client(timeout=_SECONDS) as http,
                http.stream(method, url, headers=headers, **more) as answer,
            ):
                body = b""
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > _BYTES_MOST:
                        raise self._busy("it answers without end")
                found = httpx.Response(answer.status_code, content=body).json()
        except (httpx.HTTPError, httpx.InvalidURL):
            raise self._busy("it cannot be reached") from None
        except ValueError:
            raise self._busy("it answers no JSON") from None
        if not isinstance(found, dict) or (answer.is_error and "error" not in found):
            raise self._busy(f"it answers with status {answer.status_code}")
        return found

    def _busy(self, why: str) -> MillpondError:
        return BusyError(
            f"{self.label} does not work: {why}.",
            next_step="Try again in a minute, or sign in another way; an administrator can check"
            f" the settings of [oidc.{self.name}].",
            retry_after_seconds=60,
        )


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
