"""A place in a bucket, the connection to it, and S3's errors in words that say what to do."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gwainet.errors import StorageError
from gwainet.params import split_s3

THREADS = 8  # transfers at a time: one connection of S3 gives some 50 MB/s, a machine takes more
_CONNECT_SECONDS, _READ_SECONDS = 10, 60  # botocore's own are 60 and 60: nobody waits a minute to learn of a typo


@dataclass(frozen=True)
class Remote:
    """An object of a bucket.

    Attributes:
        key: its name in the bucket.
        path: its name below the place that was listed, with forward slashes.
        bytes: its size.
        etag: S3's tag of its content, with its quotes: another content has another tag.
    """

    key: str
    path: str
    bytes: int
    etag: str


@dataclass(frozen=True)
class Bucket:
    """A place in a bucket, with a connection that threads may share.

    Attributes:
        url: `s3://bucket/prefix`.
        name: of the bucket.
        prefix: of all keys, without a slash at its end; may be empty.
        client: boto3's.
    """

    url: str
    name: str
    prefix: str
    client: Any = field(repr=False)

    def key(self, path: str) -> str:
        """The key of what lies at `path` below this place."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def list(self, path: str) -> Iterator[Remote]:
        """The object of this name, and all objects below it as a folder; in the order of their keys.

        Raises:
            StorageError: the bucket cannot be listed, or holds a key that is no path.
        """
        key = self.key(path)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=key)
        with explained(f"{self.url}: {path}"):
            for page in pages:
                for entry in page.get("Contents", ()):
                    found = entry["Key"]
                    if (found == key or found.startswith(f"{key}/")) and not found.endswith("/"):
                        below = found[len(self.key("")) :]
                        _check_path(below, f"s3://{self.name}/{found}")
                        yield Remote(found, below, entry["Size"], entry["ETag"])


def open_bucket(url: str) -> Bucket:
    """Connect to a place in a bucket; nothing is asked of it yet.

    Raises:
        StorageError: boto3's configuration is damaged.
    """
    import boto3
    from botocore.config import Config

    name, prefix = split_s3(url)
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=2 * THREADS,
        retries={"mode": "standard"},  # AWS_MAX_ATTEMPTS says how often
    )
    with explained(url):
        try:
            client = boto3.session.Session().client("s3", config=config)
        except ValueError as error:  # botocore's word for an endpoint that is no address
            raise StorageError(f"{url}: {_public(error)}: check AWS_ENDPOINT_URL") from None
        return Bucket(url, name, prefix, client)


def _check_path(path: str, key: str) -> None:
    """Refuse a key that would be written elsewhere than below its folder, or that no folder can hold."""
    if any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path or "\\" in path:
        raise StorageError(f"{key!r} is no path of a file: rename the object")


_WRONG_CREDENTIALS = (
    "the store refuses the credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary ones, "
    "AWS_SESSION_TOKEN, or AWS_PROFILE; and that AWS_ENDPOINT_URL is the store that they are for"
)
_NO_CREDENTIALS = (
    "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (on Kubeflow by "
    "a secret: `secrets` in cluster.yaml)"
)
_FORBIDDEN = (
    "the store knows the credentials but does not allow it: they need s3:ListBucket and s3:GetObject here, for "
    "checkpoints s3:PutObject and s3:DeleteObject too"
)
_NO_BUCKET = "there is no such bucket: correct its name, create it, or set AWS_ENDPOINT_URL to the store that has it"
_GONE = "there is no such object any more: run again"
CHANGED = "it has changed while it was read: run again, to take the new one whole"
_REGION = "the bucket is in another region: set AWS_REGION"
_BUSY = "the store has a fault or is busy: run again; what was fetched is kept"
_CODES = {
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidClientTokenId"),
        _WRONG_CREDENTIALS,
    ),
    **dict.fromkeys(("AccessDenied", "403", "Forbidden", "AllAccessDisabled"), _FORBIDDEN),
    "NoSuchBucket": _NO_BUCKET,
    **dict.fromkeys(("NoSuchKey", "404", "NotFound"), _GONE),
    **dict.fromkeys(("PreconditionFailed", "412"), CHANGED),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301"), _REGION),
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    **dict.fromkeys(("SlowDown", "ServiceUnavailable", "InternalError", "500", "503"), _BUSY),
    "InvalidBucketName": "that is no name of a bucket",
}


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what boto3 and the disk raise into one message about `place`.

    Raises:
        StorageError: the bucket refused something, does not answer, or the disk is full.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, Boto3Error, ClientError) as error:
        raise StorageError(f"{place}: {_what_is_wrong(error)}") from None
    except OSError as error:
        raise StorageError(_disk(place, error)) from None


def _what_is_wrong(error: Exception) -> str:
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    below = error.__context__
    if isinstance(error, Boto3Error) and isinstance(below, exceptions.ClientError | exceptions.BotoCoreError):
        error = below  # an upload's error is a sentence about this one
    if isinstance(error, exceptions.ClientError):
        answer = error.response.get("Error", {})
        code, said = str(answer.get("Code", "")), str(answer.get("Message") or "")
        advice = _CODES.get(code, "the store refused it")
        return f"{advice} ({error.operation_name}: {code}{f', {said}' if said and said != code else ''})"
    if isinstance(error, exceptions.NoCredentialsError):
        return _NO_CREDENTIALS
    if isinstance(error, exceptions.PartialCredentialsError):
        return f"{_NO_CREDENTIALS} ({error})"
    if isinstance(error, exceptions.SSLError):
        return f"the store's certificate is not trusted: set AWS_CA_BUNDLE to its authority's ({_public(error)})"
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError | exceptions.IncompleteReadError):
        return (
            "the store does not answer, or the connection breaks again and again: check the network and "
            f"AWS_ENDPOINT_URL, and run again; what was fetched is kept ({_public(error)})"
        )
    # a damaged ~/.aws/config, an unknown AWS_PROFILE, an endpoint that is no address, a login that has ended
    return f"{_public(error)}: check AWS_PROFILE, AWS_ENDPOINT_URL and ~/.aws, and log in again if you did"


def _public(error: Exception) -> str:
    """An error's words without the login that an address in it may hold."""
    return re.sub(r"//[^/@\s]*@", "//...@", str(error))


def _disk(place: str, error: OSError) -> str:
    where = error.filename if isinstance(error.filename, str | os.PathLike) else "the disk"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}: {Path(where)} is full: make room and run again; what was fetched is kept"
    return f"{place}: {Path(where)}: {error.strerror or error}"
