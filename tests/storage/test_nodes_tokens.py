"""Tokens and receipts: good for what they say, where they say, and nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from millpond.ground.clock import SetClock
from millpond.ground.errors import InvalidError, NotAllowedError
from millpond.machines.authority import Authority
from millpond.storage.nodes.receipts import ReceiptChecker, ReceiptSigner
from millpond.storage.nodes.tokens import Token, TokenChecker, TokenSigner, open_signer
from millpond.storage.nodes.values import Receipt

DIGEST, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def signer(tmp_path):
    return open_signer(tmp_path / "keys")


@pytest.fixture
def checker(signer, clock):
    return TokenChecker(signer.public, "n1", clock)


def token(clock, **changed):
    expires = int(clock.now().timestamp()) + 600
    return replace(Token("GET", DIGEST, 100, "n1", expires, 7), **changed)


def test_a_token_is_good_for_what_it_says(signer, checker, clock):
    given = token(clock)
    assert checker.check(signer.sign(given), "GET", DIGEST) == given
    assert checker.check(f"Millpond {signer.sign(given)}", "GET", DIGEST) == given
    anything = token(clock, digest="*")
    assert checker.check(signer.sign(anything), "GET", OTHER) == anything


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"node": "n2"}, "for the node 'n2'"),
        ({"method": "PUT"}, "allows PUT, not GET"),
        ({"digest": OTHER}, "another object"),
        ({"expires": 0}, "expired"),
    ],
)
def test_a_token_for_something_else_is_refused(signer, checker, clock, changed, said):
    with pytest.raises(NotAllowedError, match=said):
        checker.check(signer.sign(token(clock, **changed)), "GET", DIGEST)


def test_a_token_expires_and_clocks_may_differ_by_a_minute(signer, checker, clock):
    text = signer.sign(token(clock))
    clock.move(659)
    checker.check(text, "GET", DIGEST)
    clock.move(1)
    with pytest.raises(NotAllowedError, match="expired"):
        checker.check(text, "GET", DIGEST)


def test_a_tampered_or_foreign_token_is_refused(signer, checker, clock):
    text = signer.sign(token(clock))
    said, signature = text.split(".")
    more = signer.sign(token(clock, size_most=1 << 60)).split(".")[0]
    stranger = TokenSigner(Ed25519PrivateKey.generate()).sign(token(clock))
    wrong = [f"{more}.{signature}", f"{said}.{signature[:-4]}AAAA", said, "", "ä.ö", stranger]
    for each in wrong:
        with pytest.raises(NotAllowedError):
            checker.check(each, "GET", DIGEST)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path, signer):
    assert open_signer(tmp_path / "keys").public == signer.public
    assert (tmp_path / "keys" / "node-tokens.key").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority", datetime.now(UTC))


@pytest.fixture
def sign_as(tmp_path, authority):
    def make(node, authority=authority):
        folder = tmp_path / f"{node}-{authority.fingerprint[:6]}"
        identity = authority.open_identity(folder, "node", node, [], datetime.now(UTC))
        return ReceiptSigner(identity, node)

    return make


def test_a_receipt_is_the_nodes_own_word(authority, sign_as):
    receipt = sign_as("n1").sign([(DIGEST, 5), (OTHER, 6)])
    read = Receipt.from_json(receipt.to_json())
    assert read == receipt
    assert ReceiptChecker(authority.path).check(read) is read


def test_forged_receipts_are_refused(tmp_path, authority, sign_as):
    checker = ReceiptChecker(authority.path)
    receipt = sign_as("n1").sign([(DIGEST, 5)])
    other = sign_as("n2").sign([(DIGEST, 5)])
    foreign = Authority(tmp_path / "foreign", datetime.now(UTC))
    forged = {
        "other bytes": replace(receipt, objects=((OTHER, 5),)),
        "another size": replace(receipt, objects=((DIGEST, 6),)),
        "another hour": replace(receipt, at=receipt.at + 1),
        "another's name": replace(receipt, node="n2"),
        "another's certificate": replace(receipt, certificate=other.certificate),
        "name and certificate": replace(receipt, node="n2", certificate=other.certificate),
        "no signature": replace(receipt, signature=""),
        "no certificate": replace(receipt, certificate="PEM"),
        "another authority": sign_as("n1", foreign).sign([(DIGEST, 5)]),
    }
    for name, each in forged.items():
        with pytest.raises(InvalidError, match="is not good"):
            pytest.fail(f"{name}: {checker.check(each)}")


def test_a_node_cannot_sign_in_anothers_name(authority, sign_as):
    liar = sign_as("n1")
    liar.node = "n2"
    with pytest.raises(InvalidError, match="another's"):
        ReceiptChecker(authority.path).check(liar.sign([(DIGEST, 5)]))


def test_the_hosts_certificate_signs_no_receipts(authority, tmp_path):
    identity = authority.open_identity(tmp_path / "h", "host", "n1", [], datetime.now(UTC))
    with pytest.raises(InvalidError, match="another's"):
        ReceiptChecker(authority.path).check(ReceiptSigner(identity, "n1").sign([(DIGEST, 5)]))


def test_revoked_and_expired_certificates_count_no_more(authority, sign_as):
    receipt = sign_as("n1").sign([(DIGEST, 5)])
    revoked = ReceiptChecker(authority.path, lambda serial: serial == serial.upper())
    with pytest.raises(InvalidError, match="revoked"):
        revoked.check(receipt)
    later = SetClock(datetime.now(UTC) + timedelta(days=500))
    with pytest.raises(InvalidError, match="expired"):
        ReceiptChecker(authority.path, clock=later).check(receipt)


@pytest.mark.parametrize(
    "given", [{}, {"node": "n", "objects": [1]}, {"node": "n", "objects": None}]
)
def test_what_is_no_receipt_is_told(given):
    with pytest.raises(ValueError, match=r"receipt|unpack|iter"):
        Receipt.from_json(given)
