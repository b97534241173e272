"""Values of the activity log."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

SITE_CHAIN = "site"
"""The chain of everything that belongs to no project."""


@dataclass(frozen=True)
class Entry:
    """One change by someone, as it stands in its chain.

    Attributes:
        chain: the project's id, or ``site``.
        number: place in the chain, from 1, without gaps.
        at: when, by the database's clock.
        actor_id: id of who did it.
        actor_name: their name at that time.
        verb: past tense, for example ``dataset.version.added``.
        target: what it was done to, for example ``dataset/reviews@3``.
        before_digest: sha256 of the canonical JSON of the state before; None when there was none.
        after_digest: the same of the state after.
        request_id: the request it came with; empty for Millpond's own work.
        previous_hash: hash of the entry before, or the sha256 of the chain's id for the first.
        hash: sha256 of the canonical JSON of all the above.
    """

    chain: str
    number: int
    at: datetime
    actor_id: str
    actor_name: str
    verb: str
    target: str
    before_digest: str | None
    after_digest: str | None
    request_id: str
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class EntryFilter:
    """Which entries are wanted; empty is any. A verb or target may end in a star.

    Attributes:
        verb: for example ``dataset.*``.
        actor: the name of who did it.
        target: for example ``dataset/reviews@3`` or ``run/*``.
        since: the earliest time.
        until: before this time.
        text: what the verb, the target or the name of who did it holds, in small or capitals.
    """

    verb: str = ""
    actor: str = ""
    target: str = ""
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""


@dataclass(frozen=True)
class Head:
    """The newest entry of a chain, and what the newest seal holds of it."""

    chain: str
    number: int
    hash: str
    sealed_number: int = 0
    sealed_hash: str = ""


@dataclass(frozen=True)
class ProjectRef:
    """What the log must know of a project."""

    id: str
    name: str


@dataclass(frozen=True)
class PublicKey:
    """A key that seals can be checked with.

    Attributes:
        key_id: first 16 hexadecimal digits of the sha256 of the public key's 32 bytes.
        public_key: the 32 bytes of the Ed25519 public key, in base64.
        made_at: when this installation first sealed with it.
    """

    key_id: str
    public_key: str
    made_at: datetime


@dataclass(frozen=True)
class Seal:
    """A signed root over the heads of all chains.

    Attributes:
        number: place among the seals, from 1.
        at: when, by the database's clock.
        key_id: the key that signed it.
        tree_size: how many chains had a head.
        root: root of the Merkle tree of the heads, in hexadecimal.
        previous: digest of the seal before, empty for the first.
        signature: Ed25519 over the canonical payload, in base64.
        is_complete: whether it was handed out as a checkpoint: it keeps a proof for every chain.
    """

    number: int
    at: datetime
    key_id: str
    tree_size: int
    root: str
    previous: str
    signature: str
    is_complete: bool


@dataclass(frozen=True)
class SealedHead:
    """The head that one chain had in one seal, with its proof of being under the seal's root."""

    chain: str
    seal_number: int
    number: int
    hash: str
    leaf_index: int
    path: list[str]


@dataclass(frozen=True)
class EntryProof:
    """An entry, and where it stands in the record.

    Attributes:
        entry: the entry.
        canonical: the text whose sha256 is its hash.
        is_whole: whether the entry, as it stands in the database, still has that hash.
        newest: number of the chain's newest entry.
        seal: the first seal that covers the entry; None until one is made.
        head: the entry that the chain ended with when that seal was made, with its path to the
            seal's root.
    """

    entry: Entry
    canonical: str
    is_whole: bool
    newest: int
    seal: Seal | None
    head: SealedHead | None


@dataclass(frozen=True)
class PublicKeys:
    """All keys that seals of this installation can be checked with, newest first."""

    keys: list[PublicKey]


@dataclass(frozen=True)
class Checkpoint:
    """What to keep elsewhere, so that nobody can cut off or rewrite the record unseen.

    Attributes:
        format: name and version of this form.
        seal: what was signed: number, time, key, tree size, root, digest of the seal before.
        signature: Ed25519 over the seal's canonical JSON, in base64.
    """

    format: str
    seal: dict[str, Any]
    signature: str


@dataclass(frozen=True)
class Export:
    """What an export holds, fixed when it begins: later changes do not show in it.

    Attributes:
        chain: the project's id, or ``site``.
        entries: how many entries, from the first.
        last_seal: number of the newest seal in it.
        header: its signed first line.
    """

    chain: str
    entries: int
    last_seal: int
    header: bytes
