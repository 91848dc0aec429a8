"""Uploads to S3 in parts: several at once, each with its sha256, and gone on with where another run stopped."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from neurocommand.errors import TransientStoreError
from neurocommand.stores.conditions import Written
from neurocommand.stores.interface import Advance
from neurocommand.stores.s3faults import code
from neurocommand.stores.transfer import VerifiedReader
from neurocommand.stores.uploads import Part, Purpose, Record

_PARTS = 9_000  # S3 takes 10,000 parts of one upload


def in_base64(digest: str) -> str:
    """Return a bare hex digest as S3 writes checksums."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def from_base64(checksum: str) -> str:
    """Return a checksum of S3 as a bare hex digest; empty when it is none."""
    try:
        return base64.b64decode(checksum, validate=True).hex()
    except ValueError:
        return ""


def part_size_for(size: int, wanted: int) -> int:
    """Return the size of the parts of an object, in bytes: the wanted one, or larger where they would be too many."""
    return max(wanted, -(-size // _PARTS))


@dataclass(frozen=True)
class Bucket:
    """Where uploads go: a boto3 client, which repeats a part that fails, and the bucket's name."""

    client: Any
    name: str


class Multipart:
    """One upload in parts.

    It is visible to nobody until ``complete``. An upload of the record is gone on with when it is for the same bytes in
    parts of the same size: a part is not sent again that the server lists with the size and the entity tag that it
    had when it was sent, and whose bytes in the file have the sha256 that they had then.

    Args:
        bucket: where to.
        purpose: what for.
        record: where another run finds this one's progress.
        metadata: what the object will state.
    """

    def __init__(self, bucket: Bucket, purpose: Purpose, record: Record, metadata: dict[str, str]) -> None:
        self.bucket = bucket
        self.purpose = purpose
        self.record = record
        self.metadata = metadata
        self.upload = ""
        self.sent: dict[int, Part] = {}
        self._known: dict[int, Part] = {}

    def begin(self) -> None:
        """Go on with the upload of the record, or begin a new one."""
        remembered = self.record.read()
        if remembered is not None:
            purpose, upload, parts = remembered
            if purpose == self.purpose and self._still_there(upload, parts):
                self.upload = upload
                return
            if (purpose.place, purpose.name) == (self.purpose.place, self.purpose.name):
                self._abort(upload)
        answer = self.bucket.client.create_multipart_upload(
            **self._object(), Metadata=self.metadata, ChecksumAlgorithm="SHA256"
        )
        self.upload = answer["UploadId"]
        self.record.begin(self.purpose, self.upload)

    def send(self, source: VerifiedReader, concurrency: int, advance: Advance) -> None:
        """Send what is not there yet, up to ``concurrency`` parts at once; memory holds one part more than that.

        Args:
            source: read in order to its end, where it compares the whole.
            concurrency: how many parts at once.
            advance: called by this thread with the number of bytes that the server has so far.
        """
        running: dict[Future[Part], int] = {}
        done = number = 0
        with ThreadPoolExecutor(concurrency, thread_name_prefix="part") as pool, _cancelling(running):
            while data := source.read(self.purpose.part_size):
                number += 1
                running[pool.submit(self._send_part, number, data)] = len(data)
                if len(running) >= concurrency:
                    done = self._collect(running, done, advance)
            while running:
                done = self._collect(running, done, advance)

    def complete(self, condition: dict[str, str]) -> Written:
        """Make the object of the parts; the checksum of such a one is that of its parts' checksums.

        Args:
            condition: what must still be so under the key, as arguments of boto3.
        """
        parts = [self.sent[number] for number in sorted(self.sent)]
        answer = self.bucket.client.complete_multipart_upload(
            **self._object(),
            UploadId=self.upload,
            MultipartUpload={
                "Parts": [
                    {"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": in_base64(part.sha256)}
                    for part in parts
                ]
            },
            **condition,
        )
        self.record.clear()
        together = hashlib.sha256(b"".join(bytes.fromhex(part.sha256) for part in parts)).hexdigest()
        return Written(answer.get("ETag", ""), in_base64(together))

    @contextlib.contextmanager
    def kept_or_removed(self) -> Iterator[None]:
        """Leave the upload to another run when that can go on with it, else remove it; a failed removal is no error.

        An interrupt and a fault that may pass leave it; what is wrong with the bytes or the store removes it.
        """
        try:
            yield
        except Exception as error:
            if not (self.record.lasts and isinstance(error, TransientStoreError)):
                self.remove()
            raise
        except BaseException:
            if not self.record.lasts:
                self.remove()
            raise

    def remove(self) -> None:
        """Take the parts away from the server, and forget them."""
        if self.upload:
            self._abort(self.upload)
        self.record.clear()

    def _object(self) -> dict[str, str]:
        return {"Bucket": self.bucket.name, "Key": self.purpose.name}

    def _still_there(self, upload: str, parts: tuple[Part, ...]) -> bool:
        """Ask for an upload's parts, and keep in mind those that the server has as they were sent."""
        from botocore.exceptions import ClientError

        remembered = {(part.number, part.etag.strip('"')): part for part in parts}
        try:
            pages = self.bucket.client.get_paginator("list_parts").paginate(**self._object(), UploadId=upload)
            listed = [entry for page in pages for entry in page.get("Parts", ())]
        except ClientError as error:
            if code(error) in ("NoSuchUpload", "404", "NoSuchKey", "NotImplemented", "501", "AccessDenied", "403"):
                return False
            raise
        for entry in listed:
            part = remembered.get((entry["PartNumber"], entry["ETag"].strip('"')))
            if part is not None and entry["Size"] == self._size_of(part.number):
                self._known[part.number] = part
        return True

    def _size_of(self, number: int) -> int:
        return min(self.purpose.part_size, self.purpose.size - (number - 1) * self.purpose.part_size)

    def _send_part(self, number: int, data: bytes) -> Part:
        sha256 = hashlib.sha256(data).hexdigest()
        known = self._known.get(number)
        if known is not None and known.sha256 == sha256:
            return known
        answer = self.bucket.client.upload_part(
            **self._object(),
            UploadId=self.upload,
            PartNumber=number,
            Body=data,
            # Ceph compares only where the algorithm is named as well.
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=in_base64(sha256),
        )
        part = Part(number, answer["ETag"], sha256)
        self.record.add(part)
        return part

    def _collect(self, running: dict[Future[Part], int], done: int, advance: Advance) -> int:
        """Wait for a part, and return how many bytes are there now; raises what went wrong with it."""
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            size = running.pop(future)
            part = future.result()
            self.sent[part.number] = part
            done += size
            advance(done)
        return done

    def _abort(self, upload: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        # What cannot be removed now is removed as stale by a later run, or by the bucket's owner.
        with contextlib.suppress(ClientError, BotoCoreError):
            self.bucket.client.abort_multipart_upload(**self._object(), UploadId=upload)


@contextlib.contextmanager
def _cancelling(running: dict[Future[Part], int]) -> Iterator[None]:
    """Begin no further part once something went wrong."""
    try:
        yield
    finally:
        for future in running:
            future.cancel()


def remove_stale(bucket: Bucket, name: str, stale_after: float, but: str) -> None:
    """Abort what killed runs began for a key: invisible, but it takes space. Ages are by the server's own clock.

    Args:
        bucket: where.
        name: the object's name there.
        stale_after: seconds after which another run's upload is taken for a killed run's.
        but: the id of an upload that goes on.
    """
    from botocore.exceptions import ClientError
    from botocore.utils import parse_timestamp

    # Not every server knows these calls, and not everybody may make them; then the bucket's owner cleans up.
    with contextlib.suppress(ClientError, ValueError):
        answer = bucket.client.list_multipart_uploads(Bucket=bucket.name, Prefix=name)
        stated = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        for upload in answer.get("Uploads", ()) if stated else ():
            age = (parse_timestamp(stated) - upload["Initiated"]).total_seconds()
            if upload["Key"] == name and age >= stale_after and upload["UploadId"] != but:
                bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=name, UploadId=upload["UploadId"])
