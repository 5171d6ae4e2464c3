"""What object stores refuse, in a line that says what to set; never what the library prints of a request.

Its messages hold pages of the request that failed. They are looked through for what is known; of others only
the words of the first line are shown, without addresses.
"""

from __future__ import annotations

import re

from ...errors import DataError, first_line
from .access import Access
from .remote_url import RemoteUrl

_ENVIRONMENT = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, --profile NAME, or --anonymous for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or --anonymous for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or --anonymous for a public container",
}
_METADATA_SERVICE = re.compile(
    r"169\.254\.169\.254|169\.254\.170\.2|metadata\.google|latest/(api|meta-data)|InstanceCredential|Imds"
    r"|WebIdentity",
    re.IGNORECASE,
)


class RemoteError(DataError):
    """An object store refused, or gave no answer: what and why, without the name of the log."""


def told_remotely(error: BaseException, url: RemoteUrl, access: Access, what: str = "") -> RemoteError:
    """The error of a request, in words. what : the object that it was about, below the URL"""
    if isinstance(error, RemoteError):
        return error
    of = f"'{what}': " if what else ""
    return RemoteError(of + _reason(error, url, access))


def is_missing_bucket(error: BaseException) -> bool:
    """Whether a service says that there is no such bucket."""
    return any(word in str(error) for word in ("NoSuchBucket", "ContainerNotFound", "bucket does not exist"))


def _reason(error: BaseException, url: RemoteUrl, access: Access) -> str:
    text, kind = str(error), type(error).__name__
    container = "container" if url.scheme == "az" else "bucket"
    credentials = _ENVIRONMENT[url.scheme]
    if access.anonymous:
        credentials = credentials.partition(", or --anonymous")[0]
    if is_missing_bucket(error):
        endpoint = ", and AWS_ENDPOINT_URL if that is set" if url.scheme == "s3" else ""
        return f"there is no {container} '{url.bucket}': mind its name{endpoint}"
    region = _region(text)
    if region is not None:
        told = f"is in {region}" if region else "is in another region"
        return f"the bucket {told}: set AWS_REGION" + (f"={region}" if region else "")
    for code, why in (
        ("InvalidAccessKeyId", "the access key is not known there"),
        ("SignatureDoesNotMatch", "the secret key does not fit the access key"),
        ("ExpiredToken", "the session token has expired: fetch a new one"),
        ("RequestTimeTooSkewed", "the clock of this machine is wrong"),
    ):
        if code in text:
            return f"access refused (403): {why}; credentials come from {credentials}"
    if kind == "PermissionDeniedError" or "403 Forbidden" in text:
        signed = "not signed (--anonymous)" if access.anonymous else "signed"
        return f"access refused (403) to a request that was {signed}: credentials come from {credentials}"
    if kind == "UnauthenticatedError" or "401 Unauthorized" in text:
        return f"access refused (401): credentials come from {credentials}"
    if "Account must be specified" in text:
        return "no account is named: set AZURE_STORAGE_ACCOUNT_NAME"
    status = re.search(r"status code: (\d{3})", text)
    tries = f" after {_tries(text)}" if _tries(text) else ""
    if status is None and _METADATA_SERVICE.search(text):
        return f"no credentials were found: set {credentials}"
    if status is not None and status[1].startswith("5"):
        return f"the service failed ({status[1]}){tries}: try again later"
    if status is not None:
        return f"the service refused the request ({status[1]}){tries}"
    if re.search(r"timed out|TimedOut|kind: Timeout|timeout: true", text):
        return f"no answer within {access.seconds:g} seconds{tries}: is the service reached from here?"
    if "BadScheme" in text or "URL scheme is not allowed" in text:
        return "the address of the service is http://, which is not allowed: give it with https://"
    if re.search(r"dns error|ConnectError|kind: Connect|Connection refused|error trying to connect", text):
        return f"the service cannot be reached{tries}: mind AWS_ENDPOINT_URL and the network"
    if re.search(
        r"IncompleteMessage|end of file before message|error decoding response body|kind: Body", text
    ):
        return f"an answer was cut short{tries}: try again"
    if isinstance(error, ImportError | ValueError) and not re.search(r"https?://", text):
        return _plain(text)
    return f"the request failed{tries}: {_plain(first_line(error))}"


def _region(text: str) -> str | None:
    """The region that a service says a bucket is in, "" where it only says that it is another; None else."""
    signs = (
        "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint", "301 Moved",
        "incorrectly configured region",
    )  # fmt: skip
    if not any(sign in text for sign in signs):
        return None
    found = re.search(r"(?:expecting '|<Region>|\bs3[.-](?=[a-z]+-[a-z]+-\d))([a-z0-9-]+)", text)
    return found[1] if found else ""


def _tries(text: str) -> str:
    found = re.search(r"after (\d+) retries", text)
    return f"{int(found[1]) + 1} tries" if found and int(found[1]) else ""


def _plain(text: str) -> str:
    """A line without addresses, whose queries may hold signatures, and not long."""
    words = re.sub(r"\b[a-z0-9+]+://\S+", "", first_line(ValueError(text)), flags=re.IGNORECASE)
    return " ".join(words.split())[:160]
