"""Every setting by room, with its default, its bounds and its one line of help."""

from dataclasses import dataclass, field
from typing import Any

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_DAY = 86_400


def setting(
    default: Any,
    help_text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    is_secret: bool = False,
) -> Any:
    """Declare one setting: its default, its line of help, its bounds."""
    facts = {"help": help_text, "least": least, "most": most, "choices": choices}
    return field(default=default, repr=not is_secret, metadata={**facts, "is_secret": is_secret})


@dataclass(frozen=True)
class ServerSettings:
    """Where the server listens and what it accepts."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 for every network.")
    port: int = setting(8787, "Port to listen on; 0 takes a free one.", least=0, most=65535)
    url: str = setting("", "Address that others reach it by; empty: made of host and port.")
    data_folder: str = setting("", "Folder of all data; empty: the user's data directory.")
    body_bytes: int = setting(32 * _MIB, "Most bytes in a request's body.", least=64 * _KIB)
    stop_seconds: float = setting(
        20.0, "Time that requests and jobs get when the server stops.", least=0, most=3600
    )
    connections: int = setting(400, "Connections at the same time.", least=8, most=65_535)
    idle_seconds: float = setting(
        30.0, "A connection without a request is closed after so long.", least=1, most=3600
    )
    header_seconds: float = setting(
        15.0, "Time for a request's headers to come.", least=1, most=600
    )
    trusted_proxies: str = setting(
        "",
        "Proxies whose X-Forwarded-For is believed: addresses or networks, comma-separated.",
    )
    certificate: str = setting(
        "", "TLS: file of the certificate, and of those above it; empty: made by our own authority."
    )
    certificate_key: str = setting("", "TLS: file of its private key.")
    tls: bool = setting(
        default=False,
        help_text="Speak TLS to this machine alone too; on a network it always does.",
    )
    insecure: bool = setting(
        default=False, help_text="Speak plain HTTP on a network: passwords can be read on the way."
    )
    accept_new_keys: bool = setting(
        default=False,
        help_text="Take the keys of this data folder although the database knows others.",
    )
    log_level: str = setting(
        "INFO", "Least level that is logged.", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )


@dataclass(frozen=True)
class DatabaseSettings:
    """Where facts are kept."""

    url: str = setting(
        "",
        "postgresql://USER:PASSWORD@HOST/NAME; empty: SQLite in the data folder.",
        is_secret=True,
    )
    pool_size: int = setting(20, "Connections kept open.", least=2, most=200)


@dataclass(frozen=True)
class ObjectsSettings:
    """Where bytes are kept."""

    kind: str = setting(
        "folder",
        "Where: a folder of the host, an S3 service, or the data disks of the nodes.",
        choices=("folder", "s3", "nodes"),
    )
    folder: str = setting("", "Folder of the objects; empty: `objects` in the data folder.")
    bucket: str = setting("", "S3: the bucket.")
    endpoint: str = setting("", "S3: address of the service; empty: Amazon's.")
    region: str = setting("us-east-1", "S3: the region.")
    access_key_id: str = setting("", "S3: the key's name; empty: the machine's role.")
    secret_access_key: str = setting("", "S3: the key.", is_secret=True)
    allow_http: bool = setting(default=False, help_text="S3: allow an endpoint without TLS.")
    prefix: str = setting("", "S3: keys begin with this, to share a bucket.")
    allow_one_copy: bool = setting(
        default=False,
        help_text="Nodes: take data also while only one node can hold it; it is shown as at risk.",
    )
    accept_restored: bool = setting(
        default=False,
        help_text="Take this store although the database knows another; nodes: delete what a"
        " database restored from an older backup does not know.",
    )
    cache_bytes: int = setting(
        2 * _GIB, "Nodes: most bytes of the host's own cache of what people fetch.", least=0
    )


@dataclass(frozen=True)
class PeopleSettings:
    """Signing in."""

    argon2_memory_kib: int = setting(
        64 * _KIB, "Memory, in KiB, of one password hash.", least=8 * _KIB, most=4 * _MIB
    )
    argon2_passes: int = setting(3, "Passes of one password hash.", least=1, most=20)
    hashes_at_once: int = setting(2, "Password hashes at the same time.", least=1, most=64)
    sign_up: str = setting(
        "invitation",
        "Who may make an account: anybody (open), who was invited, or nobody (closed).",
        choices=("open", "invitation", "closed"),
    )


@dataclass(frozen=True)
class MailSettings:
    """The server that takes letters; without it nothing is sent by mail."""

    host: str = setting("", "Mail server; empty: no mail is sent.")
    port: int = setting(587, "Its port.", least=1, most=65535)
    tls: str = setting(
        "starttls",
        "How the line is kept secret: starttls, tls from the start (port 465), or none.",
        choices=("starttls", "tls", "none"),
    )
    user: str = setting("", "Name to sign in with there; empty: without signing in.")
    password: str = setting("", "Password to sign in with there.", is_secret=True)
    sender: str = setting("", "Address that letters come from, such as millpond@lab.example.")


@dataclass(frozen=True)
class ProviderSettings:
    """A place whose accounts may be used here, by OpenID Connect."""

    issuer: str = setting("", "Address of the provider, as its own description spells it.")
    client_id: str = setting("", "Name that the provider knows this installation by.")
    client_secret: str = setting("", "Secret that goes with it.", is_secret=True)
    scopes: str = setting("openid profile email", "What is asked for, separated by spaces.")
    label: str = setting("", "What its button says; empty: the table's name.")
    sign_up: bool = setting(
        default=False, help_text="Let people without an account here make one by it."
    )


@dataclass(frozen=True)
class JobsSettings:
    """The queue of long work."""

    workers: int = setting(8, "Jobs at the same time on this server.", least=1, most=256)
    lease_seconds: float = setting(
        30.0, "A job whose server is silent for so long passes to another.", least=2, most=3600
    )
    poll_seconds: float = setting(
        1.0, "How often the queue is asked for work put by other servers.", least=0.05, most=60
    )


@dataclass(frozen=True)
class EngineSettings:
    """Where users' code runs, and how much of the machine it may take."""

    kind: str = setting(
        "local",
        "Where tasks run: on this machine, or through Dask on the nodes that have joined.",
        choices=("local", "dask"),
    )
    slots: int = setting(
        0,
        "Tasks at the same time on this machine; 0: its cores, or none when there are nodes.",
        least=0,
    )
    gpus: int = setting(
        -1, "Graphics processors of this machine that tasks may have; -1: all.", least=-1, most=64
    )
    allow_unisolated: bool = setting(
        default=False,
        help_text="Let several people run code where there is no sandbox: read the security page.",
    )
    idle_sandboxes: int = setting(8, "Warm sandboxes kept for the next task.", least=0, most=256)
    idle_seconds: float = setting(60.0, "How long an idle one is kept.", least=0, most=_DAY)
    scratch_folder: str = setting("", "Folder of running tasks; empty: in the data folder.")
    task_memory_bytes: int = setting(8 * _GIB, "Most memory of a task.", least=64 * _MIB)
    task_disk_bytes: int = setting(32 * _GIB, "Most disk of a task.", least=_MIB)
    task_processes: int = setting(512, "Most processes of a task.", least=8)
    task_seconds: float = setting(float(_DAY), "Longest time of a task.", least=1)


@dataclass(frozen=True)
class ClusterSettings:
    """The nodes: how they reach the host, when one counts as lost, and when it takes no more."""

    address: str = setting("", "Name or address by which nodes reach this host; empty: its first.")
    scheduler_port: int = setting(8786, "Port of the scheduler.", least=1, most=65535)
    door_port: int = setting(
        8785,
        "Port of the door that only nodes come in by; 0 takes a free one.",
        least=0,
        most=65535,
    )
    door_host: str = setting(
        "",
        "Address that the door listens on, and at which the scheduler is found, such as one of an"
        " inner network; empty: every network, or loopback where the address is one of it.",
    )
    heartbeat_seconds: float = setting(5.0, "How often a node tells how it is.", least=0.1, most=60)
    suspect_seconds: float = setting(
        15.0, "A node that is silent for so long gets no new work.", least=0.5, most=600
    )
    lost_seconds: float = setting(
        60.0, "After so long its data is copied from the other nodes.", least=1, most=86_400
    )
    load_most: float = setting(
        2.0, "A node with a higher load per core takes no new task.", least=0.1, most=1000
    )
    free_memory_least: float = setting(
        0.05, "Nor one with a smaller share of its memory free.", least=0, most=0.9
    )
    free_disk_least: float = setting(
        0.10, "Nor one with a smaller share of a disk free.", least=0, most=0.9
    )


@dataclass(frozen=True)
class EnvironmentsSettings:
    """Building users' environments."""

    folder: str = setting("", "Folder of environments; empty: in the data folder.")
    allow_network: bool = setting(
        default=True, help_text="Ask the package index; without it, the cache alone."
    )
    index_url: str = setting("", "Package index; empty: what this machine is set up for.")
    python: str = setting("", "Interpreter of environments; empty: the best one found.")
    build_seconds: float = setting(1800.0, "Longest time of a build.", least=10, most=_DAY)
    builds_at_once: int = setting(2, "Builds at the same time.", least=1, most=64)
    cache_bytes: int = setting(
        10 * _GIB, "Most bytes of packages that are kept for nodes to fetch.", least=0
    )


@dataclass(frozen=True)
class LakeSettings:
    """What may be uploaded."""

    files: int = setting(200_000, "Most files of a version or in an archive.", least=1)
    total_bytes: int = setting(100 * _GIB, "Most bytes of a version, unpacked.", least=_MIB)
    file_bytes: int = setting(100 * _GIB, "Most bytes of one file.", least=_MIB)
    ratio: int = setting(200, "Most bytes unpacked for each byte of an archive.", least=2)
    pack_files: int = setting(5_000, "Most small files sent in one pack.", least=1)
    pack_bytes: int = setting(64 * _MIB, "Most bytes of one pack.", least=_MIB)
    open_uploads: int = setting(1_000, "Most unfinished uploads of one person.", least=1)
    unfinished_bytes: int = setting(
        400 * _GIB, "Most bytes of a project's unfinished uploads.", least=_MIB
    )
    upload_seconds: float = setting(
        7.0 * _DAY, "How long an upload waits for its next piece.", least=60
    )


@dataclass(frozen=True)
class PipelinesSettings:
    """Compiling and running pipelines."""

    compile_seconds: float = setting(60.0, "Longest time to read a pipeline.", least=1, most=3600)
    partitions: int = setting(10_000, "Most partitions of a step.", least=1, most=1_000_000)
    tries: int = setting(10, "Most tries of a task that a pipeline may ask for.", least=1)


@dataclass(frozen=True)
class AuditSettings:
    """The record."""

    seal_seconds: float = setting(60.0, "The record is sealed this often.", least=1, most=_DAY)
