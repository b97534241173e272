"""What nodes send to the door of themselves."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from millpond.machines.requests import FactsTold, Told
from millpond.machines.values import Heartbeat, StoreState

_Text = Annotated[str, Field(max_length=500)]
_Key = Annotated[str, Field(max_length=400)]
_RUNNING_MOST = 10_000


class StoreTold(Told):
    """How a node's data disk is."""

    is_ok: bool = False
    reason: _Text = ""
    free_bytes: Annotated[int, Field(ge=0)] = 0
    total_bytes: Annotated[int, Field(ge=0)] = 0
    epoch: Annotated[str, Field(max_length=80)] = ""
    disk: Annotated[str, Field(max_length=80)] = ""
    set_aside: Annotated[int, Field(ge=0)] = 0


class HeartbeatTold(Told):
    """A heartbeat."""

    version: Annotated[str, Field(max_length=40)]
    sent_at: AwareDatetime
    facts: FactsTold
    meters: Annotated[dict[str, Any], Field(default_factory=dict)]
    running: Annotated[list[_Key], Field(max_length=_RUNNING_MOST, default_factory=list)]
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
