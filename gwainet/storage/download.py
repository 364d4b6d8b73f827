"""Objects into files: in parts, in parallel, continued where it broke off, checked against the store's checksums.

An object on its way lies in a folder of its own, under a name made of its key and ETag: its bytes (`.partial`), and
which parts of them are there (`.parts`, a line each). A killed process loses the parts that were under way, no more.
"""

import base64
import hashlib
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from gwainet.errors import StorageError
from gwainet.progress import progress, say
from gwainet.storage.client import CHANGED, THREADS, Bucket, Remote, explained

PART = 8 * 2**20  # bytes: what is lost at most when a connection breaks for good
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before a part is tried again; botocore's own three attempts come before each
_CHUNK = 2**18
_MEGABYTE = 10**6
# MiB, of the parts that uploaders make: 8 is that of boto3 and the AWS command line, 5 rclone's, 16 MinIO's
_USUAL_PARTS = (8, 5, 16, 50, 64, 10, 32, 100, 128, 15, 20, 25, 256, 512, 1024, 2048, 4096, 5120)


def fetch(bucket: Bucket, remotes: Sequence[Remote], staging: Path) -> dict[str, Path]:
    """Bring objects into a staging folder; those that are there already are not brought again.

    Args:
        bucket: where they lie.
        remotes: the objects.
        staging: gets files under names of its own.

    Returns:
        The objects' paths -> complete and checked files, in `staging`.

    Raises:
        StorageError: an object has changed, is gone or damaged, the store does not answer, the disk is full. What was
            fetched stays in `staging` for the next attempt.
    """
    with explained(bucket.url):
        staging.mkdir(parents=True, exist_ok=True)
        downloads = [_Download(bucket, remote, staging) for remote in remotes]
        waiting = [download for download in downloads if not download.whole.exists()]
        left = sum(download.bytes_left() for download in waiting)
        total = sum(remote.bytes for remote in remotes)
        _check_space(left, staging, bucket.url)
        with progress(f"fetch {bucket.url}", _megabytes(total), "MB", _megabytes(total - left)) as ticker:
            done = total - left
            for count in _in_parallel(part for download in waiting for part in download.jobs()):
                ticker.advance(_megabytes(done + count) - _megabytes(done))
                done += count
    return {download.remote.path: download.whole for download in downloads}


def _check_space(needed: int, folder: Path, url: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{url}: {needed / 1e6:,.0f} MB are to be fetched, and the disk of {folder} has {free / 1e6:,.0f} MB free: "
            "make room, or let its folder be a link to another disk"
        )


def _megabytes(count: int) -> int:
    return -(-count // _MEGABYTE)


class _Download:
    """One object on its way."""

    def __init__(self, bucket: Bucket, remote: Remote, staging: Path) -> None:
        self.bucket, self.remote = bucket, remote
        text = f"{bucket.name}/{remote.key}\0{remote.etag}\0{remote.bytes}\0{PART}"
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        self.whole = staging / f"{name}.whole"
        self._partial, self._journal = staging / f"{name}.partial", staging / f"{name}.parts"
        self._lock = threading.Lock()

    def _there(self) -> set[int]:
        """Where the parts begin that are there already."""
        if not (self._partial.exists() and self._journal.exists()):
            return set()
        lines = self._journal.read_text(encoding="ascii").split("\n")[:-1]  # the last one may be cut short
        return {int(line) for line in lines if line.isdigit()}

    def bytes_left(self) -> int:
        """What is still to be fetched."""
        return self.remote.bytes - sum(min(PART, self.remote.bytes - start) for start in self._there())

    def jobs(self) -> Iterator[Callable[[threading.Event], int]]:
        """A job for each missing part, each giving the bytes that it brought; the last one ends the download."""
        self._waiting = (set(range(0, self.remote.bytes, PART)) or {0}) - self._there()
        if not self._waiting:
            yield lambda _: self._finish()
            return
        if not self._journal.exists():
            self._partial.unlink(missing_ok=True)
        self._partial.touch()
        for start in sorted(self._waiting):
            yield lambda stop, start=start: self._part(start, stop)  # type: ignore[misc]

    def _part(self, start: int, stop: threading.Event) -> int:
        end = min(start + PART, self.remote.bytes)
        with explained(f"s3://{self.bucket.name}/{self.remote.key}"):
            with self._partial.open("r+b") as file:
                self._stream(file.fileno(), start, end, stop)
            with self._lock:
                self._waiting.discard(start)
                last = not self._waiting
                with self._journal.open("a", encoding="ascii") as journal:
                    journal.write(f"{start}\n")
            if last:
                self._finish()
        return end - start

    def _stream(self, file: int, at: int, end: int, stop: threading.Event) -> None:
        """Write the bytes from `at` to `end` to their place; a broken connection is taken up where it broke."""
        from botocore.exceptions import ConnectionError as Unreachable
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        failures = 0
        while at < end:
            try:
                answer = self.bucket.client.get_object(
                    Bucket=self.bucket.name,
                    Key=self.remote.key,
                    Range=f"bytes={at}-{end - 1}",
                    IfMatch=self.remote.etag,
                )
                for chunk in answer["Body"].iter_chunks(_CHUNK):
                    if stop.is_set():
                        raise StorageError("stopped")  # another part has failed, and says why
                    os.pwrite(file, chunk, at)
                    at += len(chunk)
                    failures = 0
            except (Unreachable, HTTPClientError, IncompleteReadError):
                if failures == len(PAUSES) or stop.wait(PAUSES[failures]):
                    raise
                failures += 1

    def _finish(self) -> int:
        """Check the bytes; from then on the object is there."""
        if self._partial.stat().st_size != self.remote.bytes or not is_intact(self.bucket, self.remote, self._partial):
            self._partial.unlink()
            self._journal.unlink(missing_ok=True)
            raise StorageError(
                f"s3://{self.bucket.name}/{self.remote.key}: the bytes that came are not those of its checksum: run "
                "again; if it happens again, upload the object anew"
            )
        self._partial.replace(self.whole)
        self._journal.unlink(missing_ok=True)
        return 0


def _in_parallel(jobs: Iterable[Callable[[threading.Event], int]]) -> Iterator[int]:
    """Do jobs in threads, yield what each gives; the first error stops the others."""
    stop, queue = threading.Event(), iter(jobs)
    running: set[Future[int]] = set()
    with ThreadPoolExecutor(THREADS, "s3") as pool:
        try:
            while True:
                while len(running) < 2 * THREADS and (job := next(queue, None)):
                    running.add(pool.submit(job, stop))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


# --- checksums -------------------------------------------------------------------------------------------------------


def is_intact(bucket: Bucket, remote: Remote, file: Path) -> bool:
    """Whether a file holds an object's bytes, as far as the store tells.

    An ETag is the MD5 of the bytes, or of its parts' MD5s where it was uploaded in parts, unless the store encrypts
    with keys of its own. Then a checksum that was stored with the object counts; where there is none, the size alone,
    and the user is told so.

    Raises:
        StorageError: the store does not answer.
    """
    tag = remote.etag.strip('"').lower()
    if file.stat().st_size != remote.bytes:
        return False
    if "-" not in tag and tag == _digest(file, "md5").hex():
        return True
    with explained(f"s3://{bucket.name}/{remote.key}"):
        where = {"Bucket": bucket.name, "Key": remote.key}
        head = bucket.client.head_object(**where, ChecksumMode="ENABLED")
        first_part = bucket.client.head_object(**where, PartNumber=1) if "-" in tag else head
    if head["ETag"] != remote.etag:
        raise StorageError(f"s3://{bucket.name}/{remote.key}: {CHANGED}")
    stored = _stored_checksum(head)
    if stored is not None:
        kind, value = stored
        return value == base64.b64encode(_digest(file, kind)).decode()
    encrypted = head.get("ServerSideEncryption", "").startswith("aws:kms") or "SSECustomerAlgorithm" in head
    if not encrypted and "-" not in tag:
        return False
    if not encrypted:
        known = first_part.get("PartsCount", 0) > 0
        sizes = [first_part["ContentLength"]] if known else [size * 2**20 for size in _USUAL_PARTS]
        count = int(tag.rpartition("-")[2])
        if any(tag == _tag_of_parts(file, size) for size in sizes if -(-remote.bytes // size) == count):
            return True
        if known:
            return False
    say(f"s3://{bucket.name}/{remote.key}: the store gives no checksum that can be computed here; its size is right")
    return True


def _stored_checksum(head: dict[str, str]) -> tuple[str, str] | None:
    """Kind and value (base64) of a checksum over the whole object."""
    in_parts = "-" in head["ETag"]
    if head.get("ChecksumType", "COMPOSITE" if in_parts else "FULL_OBJECT") == "FULL_OBJECT":
        for kind in ("SHA256", "SHA1", "CRC32"):
            if value := head.get(f"Checksum{kind}"):
                return kind.lower(), value
    return None


def _digest(file: Path, kind: str) -> bytes:
    with file.open("rb") as stream:
        if kind != "crc32":
            return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).digest()
        crc = 0
        while chunk := stream.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
        return crc.to_bytes(4, "big")


def _tag_of_parts(file: Path, size: int) -> str:
    """The ETag of a file that was uploaded in parts of `size` bytes."""
    parts = []
    with file.open("rb") as stream:
        while part := stream.read(size):
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
