"""What nodes send to the door of themselves."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from millpond.machines.values import Heartbeat, NodeFacts, StoreState

_Text = Annotated[str, Field(max_length=500)]
_Key = Annotated[str, Field(max_length=400)]
_RUNNING_MOST = 10_000


class _Told(BaseModel):
    # What a newer node tells beside this is left out, so that it hears why it is refused.
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class FactsTold(_Told):
    """What a node says of itself; ``machines.values.NodeFacts`` says what each is."""

    slots: float
    cores: float
    memory_bytes: int
    gpus: int = 0
    python: Annotated[str, Field(max_length=40)]
    isolated: bool = False
    reason: _Text = ""
    address: Annotated[str, Field(max_length=255)]
    data_port: Annotated[int, Field(ge=0, le=65535)] = 0
    worker_port: Annotated[int, Field(ge=0, le=65535)] = 0
    data_disk: _Text = ""
    system: _Text = ""

    def value(self) -> NodeFacts:
        """Give them as the rooms know them."""
        return NodeFacts(**self.model_dump())


class StoreTold(_Told):
    """How a node's data disk is."""

    is_ok: bool = False
    reason: _Text = ""
    free_bytes: Annotated[int, Field(ge=0)] = 0
    total_bytes: Annotated[int, Field(ge=0)] = 0
    epoch: Annotated[str, Field(max_length=80)] = ""
    disk: Annotated[str, Field(max_length=80)] = ""
    set_aside: Annotated[int, Field(ge=0)] = 0


class HeartbeatTold(_Told):
    """A heartbeat."""

    version: Annotated[str, Field(max_length=40)]
    sent_at: AwareDatetime
    facts: FactsTold
    meters: dict[str, Any] = {}
    running: Annotated[list[_Key], Field(max_length=_RUNNING_MOST)] = []
    store: StoreTold | None = None

    def value(self) -> Heartbeat:
        """Give it as the rooms know it."""
        return Heartbeat(
            version=self.version,
            sent_at=self.sent_at,
            facts=self.facts.value(),
            meters=self.meters,
            running=tuple(self.running),
            store=StoreState(**self.store.model_dump()) if self.store else None,
        )


class RenewAsked(BaseModel):
    """A request for a new certificate."""

    model_config = ConfigDict(extra="forbid")

    csr: Annotated[str, Field(max_length=10_000)]
