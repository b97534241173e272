"""What an S3 service means when it refuses: which key, clock, right or setting has to be mended."""

import re

from millpond.ground.errors import BusyError

_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_SILENT = {"400", "403"}

_DOES_NOT_ANSWER = (
    "The object store does not answer as it should.",
    "Try again; if it goes on, have an administrator check it: the server's log has its words.",
)
_KEYS = (
    "The object store refuses our signature: access key and secret do not belong together there.",
    "Have an administrator check objects.access_key_id and objects.secret_access_key.",
)
_CLOCK = (
    "The object store refuses our requests: its clock and this machine's are too far apart.",
    "Have an administrator set this machine's clock (`timedatectl set-ntp true`), or the store's.",
)
_ENDED = (
    "The object store refuses our keys: they were given for a time that is over.",
    "Have an administrator set objects.access_key_id and objects.secret_access_key anew.",
)
_RIGHTS = (
    "The object store does not allow our access key to do this.",
    "Have an administrator allow it to list the bucket, and to read, write and delete in it.",
)
_BUCKET = (
    "The object store has no bucket of the name that the settings give.",
    "Have an administrator make the bucket, or set objects.bucket to one that is there.",
)
_REGION = (
    "The object store is in another region than the settings say.",
    "Have an administrator set objects.region to that of the bucket.",
)
_BYTES = (
    "The object store received other bytes than were sent, and kept nothing.",
    "Try again; if it goes on, have an administrator check the network and the proxies on the way.",
)
_MEANINGS = {
    "SignatureDoesNotMatch": _KEYS,
    "InvalidAccessKeyId": _KEYS,
    "RequestTimeTooSkewed": _CLOCK,
    "ExpiredToken": _ENDED,
    "InvalidToken": _ENDED,
    "AccessDenied": _RIGHTS,
    "NoSuchBucket": _BUCKET,
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "BadDigest": _BYTES,
    "XAmzContentSHA256Mismatch": _BYTES,
}


def explain(fault: Exception) -> BusyError:
    """Say what is wrong, without an address, a key or the name of the bucket."""
    message, next_step = _MEANINGS.get(_code(fault), _DOES_NOT_ANSWER)
    return BusyError(message, next_step=next_step, retry_after_seconds=5.0)


def reason_of(fault: Exception) -> str:
    """Give the service's own words, for the log."""
    return str(fault).partition("\n\nDebug source")[0][:2000]


def lacks_bucket(fault: Exception) -> bool:
    """Tell whether it is the bucket that is not there, rather than an object in it."""
    return _code(fault) == "NoSuchBucket"


def is_silent(fault: Exception) -> bool:
    """Tell whether a refusal gives no reason, as one of HEAD, whose answer has no body."""
    status = _STATUS.search(str(fault))
    return status is not None and status[1] in _SILENT and not _code(fault)


def _code(fault: Exception) -> str:
    found = _CODE.search(str(fault))
    return found[1] if found else ""
