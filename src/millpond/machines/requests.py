"""What may be sent in about nodes."""

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from millpond.ground.errors import Fault, InvalidError
from millpond.machines.values import NodeFacts

_Name = Annotated[str, Field(max_length=80)]
_Text = Annotated[str, Field(max_length=300)]
_Words = Annotated[str, Field(max_length=500)]
_Labels = Annotated[dict[str, str], Field(max_length=50)]
_Slots = Annotated[int, Field(ge=0, le=4096)]
_Gpus = Annotated[int, Field(ge=-1, le=64)]
_User = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
_Port = Annotated[int, Field(ge=1, le=65535)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class JoinTokenRequest(_Request):
    """Give leave to join one machine."""

    name: _Name = ""
    slots_most: _Slots = 0
    labels: _Labels = {}


class Told(BaseModel):
    """What a machine tells; what a newer one adds is left out, so that it hears of its version."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class FactsTold(Told):
    """What a machine says of itself; ``machines.values.NodeFacts`` says what each is."""

    slots: float
    cores: float
    memory_bytes: int
    gpus: int = 0
    python: Annotated[str, Field(max_length=40)]
    isolated: bool = False
    reason: _Words = ""
    address: Annotated[str, Field(max_length=255)]
    data_port: Annotated[int, Field(ge=0, le=65535)] = 0
    worker_port: Annotated[int, Field(ge=0, le=65535)] = 0
    data_disk: _Words = ""
    system: _Words = ""

    def value(self) -> NodeFacts:
        """Give them as the rooms know them."""
        return NodeFacts(**self.model_dump())


class JoinRequest(Told):
    """Join, with a token that is good once."""

    token: Annotated[str, Field(min_length=1, max_length=200)]
    name: _Name
    csr: Annotated[str, Field(max_length=10_000)]
    version: Annotated[str, Field(max_length=40)]
    sent_at: AwareDatetime
    facts: FactsTold


class NodePatch(_Request):
    """Change what the installation says of a node; what is left out stays."""

    labels: _Labels | None = None
    slots_most: _Slots | None = None
    gpus_most: _Gpus | None = None
    price_per_hour: Annotated[float, Field(ge=0, le=1_000_000)] | None = None


class RevokeRequest(_Request):
    """Take a node's certificates no more; ``serial`` is one that it must have."""

    serial: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{0,64}$")] = ""
    reason: Annotated[str, Field(min_length=1, max_length=300)]


class AddNodeRequest(_Request):
    """Add a machine that stands somewhere; by SSH unless another source is named."""

    source: Annotated[str, Field(max_length=40)] = "ssh"
    address: Annotated[str, Field(max_length=255)] = ""
    user: _User = "root"
    port: _Port = 22
    key_file: _Text = ""
    data_disk: _Text = ""
    name: _Name = ""
    slots: _Slots = 0
    labels: _Labels = {}


class AddNodeForm(_Request):
    """The page's form to add a machine by SSH; labels stand one a line."""

    address: Annotated[str, Field(min_length=1, max_length=255)]
    user: _User = "root"
    port: _Port = 22
    key_file: _Text = ""
    data_disk: _Text = ""
    name: _Name = ""
    slots: _Slots = 0
    labels: Annotated[str, Field(max_length=3000)] = ""


class JoinTokenForm(_Request):
    """The page's form for leave to join."""

    name: _Name = ""
    slots_most: _Slots = 0


class NodeForm(_Request):
    """The page's form of what the installation says of a node."""

    labels: Annotated[str, Field(max_length=3000)] = ""
    slots_most: _Slots = 0
    gpus_most: _Gpus = -1
    price_per_hour: Annotated[float, Field(ge=0, le=1_000_000)] = 0


class RemoveForm(_Request):
    """The page's form to remove a node."""

    force: bool = False


def read_labels(text: str) -> dict[str, str]:
    """Read ``KEY=VALUE``, one a line.

    Raises:
        InvalidError: a line is not made so.
    """
    labels = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, equals, value = line.partition("=")
        if not (key and equals):
            raise InvalidError(
                "The labels cannot be read.",
                next_step="Write each on a line of its own as KEY=VALUE, such as room=cellar.",
                faults=[Fault("labels", f"{line[:80]!r} is not KEY=VALUE")],
            )
        labels[key.strip()] = value.strip()
    return labels
