"""Values of invitations."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Invitation:
    """Leave to make one account, or to join a project with the one that one has.

    Attributes:
        id: what to withdraw it by.
        project: the project that it leads into; empty for none.
        role: what one becomes there; empty without a project.
        email: the address for mail that the account begins with, if the maker knew it.
        made_by: who made it.
        made_at: when.
        expires_at: from when it is good no more.
    """

    id: str
    project: str
    role: str
    email: str | None
    made_by: str
    made_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class NewInvitation:
    """An invitation just made; the only time that its code is shown.

    Attributes:
        code: what somebody shows to be let in; good once.
        link: the page where they do.
        invitation: the rest.
    """

    code: str
    link: str
    invitation: Invitation


@dataclass(frozen=True)
class SignUpState:
    """Who may make an account here.

    Attributes:
        policy: ``open``, ``invitation`` or ``closed``.
        invitation: the one whose code was shown, if it is good.
    """

    policy: str
    invitation: Invitation | None
