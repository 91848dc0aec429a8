"""A store that is a bucket of an S3 server: Amazon's, Ceph's, Swift's."""

from __future__ import annotations

import base64
import contextlib
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

from neurocommand.errors import StoreError
from neurocommand.model import SHA256, Artifact, StoredObject
from neurocommand.stores.interface import KEY, Advance, Link, check_key
from neurocommand.stores.s3faults import code, normalised, status
from neurocommand.stores.transfer import GuardedReader, VerifiedReader, check_kept, receive

PART = 8 << 20
_PARTS = 9_000  # S3 takes 10,000 parts of one upload
_SHA256_FIELD = "sha256"


class S3Store:
    """Keep objects in a bucket, each with its sha256 as metadata (``x-amz-meta-sha256``).

    ``list`` states no sha256, since S3's listing has no metadata; ``stat`` does. Credentials, proxies and CA bundles
    come from boto3's own places. boto3 is loaded by the first call.

    Args:
        name: the store's name in messages.
        bucket: the bucket; it must exist.
        endpoint: address of a server that is not Amazon's; it is asked in path style.
        region: region of the bucket.
        prefix: what every key starts with in the bucket, such as ``images/``.
        profile: profile of boto3's configuration files.
        anonymous: send no credentials.
        writable: False refuses ``put`` and ``delete``.
        stale_after: seconds after which another run's unfinished upload of a key is taken for a killed run's.
    """

    listable = True
    lists_digests = False
    local = False

    def __init__(  # noqa: PLR0913
        self,
        name: str,
        bucket: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        prefix: str = "",
        profile: str | None = None,
        anonymous: bool = False,
        writable: bool = True,
        stale_after: float = 86_400.0,
    ) -> None:
        self.name = name
        self.bucket = bucket
        self.endpoint = endpoint
        self.region = region
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.profile = profile
        self.anonymous = anonymous
        self.writable = writable
        self.stale_after = stale_after
        self._opening = threading.Lock()
        self._opened: dict[int, Any] = {}
        self._bucket_seen = False

    def list(self) -> Iterator[StoredObject]:
        """Yield every object under the prefix, page by page; none with its sha256."""
        with self._normalised("cannot be listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix, Delimiter="/"
            )
            seen = [entry for page in pages for entry in self._entries(page)]
        for entry in seen:
            key = entry["Key"][len(self.prefix) :]
            if KEY.fullmatch(key):
                yield StoredObject(key, entry["Size"])

    def stat(self, key: str) -> StoredObject | None:
        """Ask with HEAD; the sha256 is the one in the metadata."""
        check_key(self.name, key)
        with self._normalised(f"cannot tell whether it holds {key}"):
            answer = self._absent_as_none("head_object", Key=self.prefix + key)
            if answer is None:
                self._check_bucket()
                return None
        return self._stated(key, answer)

    def put(self, key: str, path: Path, artifact: Artifact, advance: Advance) -> None:
        """Upload a file, in parts when it is big; the server shows it when the last part is there, and not before."""
        self._check_writable(key)
        with open(path, "rb") as source, self._normalised(f"cannot take {key}"):
            reader = VerifiedReader(source, path, artifact)
            if artifact.size <= PART:
                self._put_whole(key, reader, artifact, advance)
            else:
                self._remove_stale_uploads(key)
                self._put_parts(key, reader, artifact, advance)
        check_kept(self.name, key, artifact, self.stat(key))

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Stream an object to a file."""
        check_key(self.name, key)
        with self._normalised(f"cannot read {key}"):
            answer = self._absent_as_none("get_object", Key=self.prefix + key)
        if answer is None:
            raise StoreError(f"store {self.name}: holds no {key}")
        with closing(answer["Body"]) as body:
            reader = GuardedReader(self.name, body, lambda: self._normalised(f"{key} broke off"))
            return receive(reader, path, self._stated(key, answer), advance)

    def link(self, key: str) -> Link | None:
        """Return None: only ``get`` reads it."""
        return None

    def delete(self, key: str) -> None:
        """Remove an object; S3 answers the same for an absent one."""
        self._check_writable(key)
        with self._normalised(f"cannot remove {key}"):
            self._absent_as_none("delete_object", Key=self.prefix + key)

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        for client in self._opened.values():
            client.close()

    @property
    def _client(self) -> Any:
        """The client of questions, which asks once: to repeat is the business of RetryingStore."""
        return self._opened_for(attempts=1)

    def _opened_for(self, attempts: int) -> Any:
        with self._opening:
            if attempts not in self._opened:
                self._opened[attempts] = self._open(attempts)
            return self._opened[attempts]

    def _open(self, attempts: int) -> Any:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        settings: dict[str, Any] = {
            "connect_timeout": 10,
            "read_timeout": 60,
            # At least as many as threads that share the store, else urllib3 complains on standard error.
            "max_pool_connections": 32,
            "retries": {"mode": "standard", "total_max_attempts": attempts},
            # Ours is sha256, stated with each request; the library's own CRC breaks older servers.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        if self.endpoint:
            settings["s3"] = {"addressing_style": "path"}
        if self.anonymous:
            settings["signature_version"] = UNSIGNED
        try:
            session = boto3.Session(profile_name=self.profile, region_name=self.region)
            return session.client("s3", endpoint_url=self.endpoint, config=Config(**settings))
        except ValueError as error:
            raise StoreError(f"store {self.name}: {error}", "check its endpoint and region") from error

    def _put_whole(self, key: str, source: VerifiedReader, artifact: Artifact, advance: Advance) -> None:
        body = source.read(artifact.size + 1)
        source.read(1)
        self._client.put_object(
            Bucket=self.bucket,
            Key=self.prefix + key,
            Body=io.BytesIO(body),
            Metadata={_SHA256_FIELD: artifact.sha256},
            ChecksumSHA256=base64.b64encode(bytes.fromhex(artifact.sha256)).decode(),
        )
        advance(len(body))

    def _put_parts(self, key: str, source: VerifiedReader, artifact: Artifact, advance: Advance) -> None:
        from boto3.s3.transfer import TransferConfig

        done, counting = 0, threading.Lock()

        def count(sent: int) -> None:
            nonlocal done
            with counting:
                done += sent
                advance(done)

        part = max(PART, -(-artifact.size // _PARTS))
        # A part that fails is sent again by itself, not the whole object.
        self._opened_for(attempts=4).upload_fileobj(
            source,
            self.bucket,
            self.prefix + key,
            ExtraArgs={"Metadata": {_SHA256_FIELD: artifact.sha256}, "ChecksumAlgorithm": "SHA256"},
            Callback=count,
            Config=TransferConfig(multipart_threshold=part, multipart_chunksize=part, max_concurrency=4),
        )

    def _remove_stale_uploads(self, key: str) -> None:
        """Abort what killed runs began for a key: invisible, but it takes space. Ages are by the server's own clock."""
        from botocore.exceptions import ClientError
        from botocore.utils import parse_timestamp

        name = self.prefix + key
        # Not every server knows these calls, and not everybody may make them; then the bucket's owner cleans up.
        with contextlib.suppress(ClientError, ValueError):
            answer = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=name)
            stated = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            for upload in answer.get("Uploads", ()) if stated else ():
                age = (parse_timestamp(stated) - upload["Initiated"]).total_seconds()
                if upload["Key"] == name and age >= self.stale_after:
                    self._client.abort_multipart_upload(Bucket=self.bucket, Key=name, UploadId=upload["UploadId"])

    def _entries(self, page: dict[str, Any]) -> Sequence[dict[str, Any]]:
        """Return what a page lists; boto3 takes an empty answer for an empty listing, but a listing says if it ends."""
        if "IsTruncated" not in page:
            raise StoreError(f"store {self.name}: cannot be listed: its answer is no listing", "is its endpoint right?")
        return page.get("Contents", ())  # type: ignore[no-any-return]

    def _stated(self, key: str, answer: dict[str, Any]) -> StoredObject:
        """Return what an answer says about an object; some servers change the case of the metadata's names."""
        if "ContentLength" not in answer:
            raise StoreError(f"store {self.name}: does not state the size of {key}")
        metadata = {field.lower(): value.lower() for field, value in answer.get("Metadata", {}).items()}
        sha256 = metadata.get(_SHA256_FIELD, "")
        return StoredObject(key, answer["ContentLength"], sha256 if SHA256.fullmatch(sha256) else None)

    def _absent_as_none(self, call: str, **arguments: str) -> Any:
        from botocore.exceptions import ClientError

        try:
            return getattr(self._client, call)(Bucket=self.bucket, **arguments)
        except ClientError as error:
            if code(error) in ("NoSuchKey", "404", "NotFound"):
                return None
            raise

    def _check_bucket(self) -> None:
        """Make sure that 404 meant the object: HEAD answers the same for a bucket that is not there."""
        from botocore.exceptions import ClientError

        if self._bucket_seen:
            return
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if status(error) == 404:
                raise StoreError(f"store {self.name}: there is no bucket {self.bucket}", "create it first") from error
            # 403: it is there, but its list is not for us.
            if status(error) != 403:
                raise
        self._bucket_seen = True

    def _check_writable(self, key: str) -> None:
        check_key(self.name, key)
        if not self.writable:
            raise StoreError(f"store {self.name}: is read-only")

    def _normalised(self, what: str) -> AbstractContextManager[None]:
        return normalised(f"store {self.name}: {what}")
