"""Mail: a job of kind ``mail`` hands one letter to the mail server that the settings name."""

import base64
import smtplib
import socket
import ssl
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from functools import partial

from millpond.ground.errors import BusyError, ConflictError
from millpond.ground.settings import MailSettings
from millpond.jobs.actions import put
from millpond.jobs.port import Handler, Lease
from millpond.jobs.values import Job
from millpond.people.letters import Letter, Post
from millpond.people.vault import SecretBox
from millpond.storage.database import Transaction

MAIL_KIND = "mail"
TIMEOUT_SECONDS = 30.0
_TRIES = 20
"""With the queue's pauses, a letter is tried for about an hour."""
_PLACE = "mail"
_REFUSED = 500
"""From this answer on the mail server will not change its mind (RFC 5321, 4.2.1)."""


def open_post(settings: MailSettings, box: SecretBox) -> Post | None:
    """Give the one who takes letters; None where no mail server is set."""
    return partial(post_letter, box=box) if settings.host else None


def post_letter(tx: Transaction, letter: Letter, *, box: SecretBox) -> None:
    """Put a letter into the queue; it is sent when this transaction commits.

    Its text may hold a link that is good once: what administrators see of the job is sealed.
    """
    sealed = box.seal(_PLACE, letter.to, letter.text)
    facts = {
        "to": letter.to,
        "subject": letter.subject,
        "sealed": base64.b64encode(sealed).decode(),
    }
    put(tx, MAIL_KIND, facts, max_tries=_TRIES)


def make_mail(
    settings: MailSettings, box: SecretBox, *, trust: ssl.SSLContext | None = None
) -> Handler:
    """Make the handler that sends letters.

    Args:
        settings: the mail server.
        box: opens what ``post_letter`` has sealed.
        trust: whose certificates are good; the machine's authorities when left out.
    """

    def send(lease: Lease) -> None:
        send_letter(settings, message_of(settings, box, lease.job), trust=trust)

    return send


def message_of(settings: MailSettings, box: SecretBox, job: Job) -> EmailMessage:
    """Write the message of a job.

    Raises:
        ConflictError: an address is none, or the letter cannot be opened with this
            installation's key.
    """
    to = str(job.facts["to"])
    message = EmailMessage()
    try:
        # Read as one address: a list of them, or a header of its own, is refused.
        message["To"] = Address(addr_spec=to)
        message["From"] = Address("Millpond", addr_spec=settings.sender)
        message["Subject"] = str(job.facts["subject"])
    except (MessageError, ValueError, IndexError) as fault:
        raise ConflictError(
            f"The letter to {to!r} cannot be addressed: {fault}.",
            next_step="Correct the address of that account, or `mail.sender`; then do it again.",
        ) from None
    message["Date"] = format_datetime(job.put_at)
    # The same at each try, so that a letter that was sent twice is shown once.
    message["Message-ID"] = f"<{job.id}@{settings.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(box.open(_PLACE, to, base64.b64decode(str(job.facts["sealed"]))))
    return message


def send_letter(
    settings: MailSettings, message: EmailMessage, *, trust: ssl.SSLContext | None = None
) -> None:
    """Hand a message to the mail server, which answers for it from then on.

    Raises:
        BusyError: the mail server is not to be reached, or asks to come again.
        ConflictError: it will not take this message, whatever comes.
    """
    place = f"{settings.host} port {settings.port}"
    try:
        with _connect(settings, trust or ssl.create_default_context()) as server:
            if settings.user:
                server.login(settings.user, settings.password)
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as fault:
        code, said = next(iter(fault.recipients.values()))
        raise _refused(place, code, said) from None
    except smtplib.SMTPResponseException as fault:
        raise _refused(place, fault.smtp_code, fault.smtp_error) from None
    except ssl.SSLCertVerificationError as fault:
        raise BusyError(
            f"The mail server {place} shows a certificate that is not trusted:"
            f" {fault.verify_message}.",
            next_step="Mend its certificate, or let this machine trust who has signed it.",
        ) from None
    except smtplib.SMTPNotSupportedError as fault:
        raise ConflictError(
            f"The mail server {place} cannot do what the settings ask for: {fault}",
            next_step="Correct `mail.tls`, `mail.user` or `mail.port`; then requeue the job.",
        ) from None
    except (OSError, smtplib.SMTPException, socket.gaierror) as fault:
        raise BusyError(
            f"The mail server {place} cannot be reached: {fault}.",
            next_step="Look at `mail.host` and `mail.port`, and whether it runs.",
        ) from None


def _connect(settings: MailSettings, trust: ssl.SSLContext) -> smtplib.SMTP:
    if settings.tls == "tls":
        return smtplib.SMTP_SSL(
            settings.host, settings.port, timeout=TIMEOUT_SECONDS, context=trust
        )
    server = smtplib.SMTP(settings.host, settings.port, timeout=TIMEOUT_SECONDS)
    if settings.tls == "starttls":
        try:
            server.starttls(context=trust)
        except BaseException:
            server.close()
            raise
    return server


def _refused(place: str, code: int, said: bytes | str) -> BusyError | ConflictError:
    words = said.decode(errors="replace") if isinstance(said, bytes) else said
    message = f"The mail server {place} answered {code}: {' '.join(words.split())[:300]}"
    if code >= _REFUSED:
        return ConflictError(
            message, next_step="Correct the address or the `[mail]` settings; then requeue the job."
        )
    return BusyError(message, next_step="It is tried again by itself.")
