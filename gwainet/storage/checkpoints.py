"""A training's checkpoint in a bucket, so that it outlives the machine: `gwainet.training.checkpoint.Mirror`.

An object appears in a bucket whole or not at all, so a checkpoint there is always a complete one. Uploads run beside
the training, which never waits for one and never fails because of one; a checkpoint that a newer one overtakes while it
waits is not uploaded.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from gwainet.errors import StorageError
from gwainet.params import check_s3
from gwainet.progress import say
from gwainet.storage.client import THREADS, Bucket, explained, open_bucket
from gwainet.storage.download import fetch

VARIABLE = "GWAINET_CHECKPOINTS"  # s3://bucket/prefix; a variable, as where a checkpoint lies shapes no result
_SAVED = "saved-ns"  # the object's metadata: when the checkpoint was written, by its writer's clock


class BucketMirror:
    """Keeps `<folder>/<file>` of a training at `s3://bucket/prefix/<folder>/<file>`.

    Args:
        bucket: the place.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._uploads = ThreadPoolExecutor(1, "checkpoint")
        self._handover = threading.Lock()
        self._failing = False

    def pull(self, path: Path) -> None:
        """Bring the bucket's checkpoint if it is newer than the one at `path`, or there is none.

        Raises:
            StorageError: the bucket refuses or does not answer. To start afresh instead could lose days.
        """
        from filelock import FileLock

        key = self._key(path)
        found = next(self._bucket.list(key), None)
        if found is None:
            return
        with explained(f"{self._bucket.url}: {key}"):
            head = self._bucket.client.head_object(Bucket=self._bucket.name, Key=found.key)
            saved = int(head["Metadata"].get(_SAVED, 0))
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.parent / "lock"):  # a stage that was started twice must not mix two downloads
                if path.exists() and path.stat().st_mtime_ns >= saved:
                    return
                file = fetch(self._bucket, [found], path.parent / "fetch")[found.path]
                os.utime(file, ns=(saved, saved))
                file.replace(path)
        say(f"{self.place(path)}: this checkpoint is continued")

    def push(self, path: Path) -> None:
        """Upload the checkpoint at `path` as it is now, beside the training."""
        with self._handover, self._told(path):
            waiting = _waiting(path)
            waiting.unlink(missing_ok=True)
            try:
                os.link(path, waiting)  # the next checkpoint takes the name `path`, and leaves this one's bytes alone
            except OSError:  # a file system without links
                shutil.copy2(path, waiting)
        self._uploads.submit(self._upload, path)

    def remove(self, path: Path) -> None:
        """Forget the checkpoint: the training has finished."""
        self._uploads.shutdown(cancel_futures=True)
        self._uploads = ThreadPoolExecutor(1, "checkpoint")
        try:
            with explained(self.place(path)):
                self._bucket.client.delete_object(Bucket=self._bucket.name, Key=self._bucket.key(self._key(path)))
        except StorageError as error:
            say(f"{error}\nThe training has finished; this checkpoint of it is left over: delete it")

    def place(self, path: Path) -> str:
        """Where the checkpoint at `path` lies in the bucket."""
        return f"{self._bucket.url}/{self._key(path)}"

    def close(self) -> None:
        """Wait for the upload that is under way: the training ends, or is being ended."""
        self._uploads.shutdown()

    def _upload(self, path: Path) -> None:
        from boto3.s3.transfer import TransferConfig

        mine = path.with_name(f".{path.name}.upload")
        with self._handover:
            if not _waiting(path).exists():
                return  # an upload before this one took it: it was the newest already
            _waiting(path).replace(mine)
        extra = {"Metadata": {_SAVED: str(mine.stat().st_mtime_ns)}}
        config = TransferConfig(max_concurrency=THREADS)
        with self._told(path):
            key = self._bucket.key(self._key(path))
            self._bucket.client.upload_file(str(mine), self._bucket.name, key, ExtraArgs=extra, Config=config)
            if self._failing:
                say(f"{self.place(path)}: checkpoints are uploaded again")
            self._failing = False

    @contextmanager
    def _told(self, path: Path) -> Iterator[None]:
        """Tell the first of several failures in a row, and let the training go on."""
        try:
            with explained(self.place(path)):
                yield
        except StorageError as error:
            if not self._failing:
                say(f"{error}\nThe training goes on, and tries each new checkpoint; the bucket keeps what it has got")
            self._failing = True

    @staticmethod
    def _key(path: Path) -> str:
        return f"{path.parent.name}/{path.name}"


def _waiting(path: Path) -> Path:
    return path.with_name(f".{path.name}.next")


@contextmanager
def checkpoint_mirror() -> Iterator[BucketMirror | None]:
    """The bucket that GWAINET_CHECKPOINTS names; None where it names none.

    Raises:
        ParamsError: it is no `s3://bucket/prefix`.
        StorageError: boto3's configuration is damaged.
    """
    url = os.environ.get(VARIABLE)
    if not url:
        yield None
        return
    mirror = BucketMirror(open_bucket(check_s3(url, VARIABLE)))
    try:
        yield mirror
    finally:
        mirror.close()
