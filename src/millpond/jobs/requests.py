"""What may be sent in about jobs."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ScheduleRequest(BaseModel):
    """What a schedule shall be from now on."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(description="The kind of job to put.")
    cron: str = Field(
        description="Minute, hour, day of month, month, day of week; with seconds first if six.",
        examples=["30 2 * * *"],
    )
    time_zone: str = Field(default="UTC", examples=["Europe/Berlin"])
    facts: dict[str, Any] = Field(default_factory=dict, description="The job's facts.")
    is_enabled: bool = True
    project_id: str | None = Field(default=None, pattern=r"^[a-z]+_[0-9a-z]+$", max_length=40)
    priority: int = 0
    max_tries: int = 3
