"""Values of forgotten passwords."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class ResetLink:
    """A link that sets somebody's password, good once; the only time it is shown.

    Attributes:
        user: whose password it sets.
        link: the page that asks for the new one; whoever has it becomes that user.
        expires_at: from when it is refused.
    """

    user: str
    link: str = field(repr=False)
    expires_at: datetime
