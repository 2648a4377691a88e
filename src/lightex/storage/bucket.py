"""The objects of one place in S3: Amazon's, MinIO, Ceph or any other, by boto3."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightex.core.errors import ConfigError, StorageError, needing
from lightex.storage.objects import DIGEST, EXECUTABLE, SMALL, Object, Source, described, fetch_file
from lightex.storage.refusals import AwayError, in_words, status
from lightex.storage.store import Place

__all__ = ["AwayError", "Bucket", "ChangingError", "Object"]

_ATTEMPTS = 4  # of each request, with growing pauses between them
_BATCH = 1000  # objects that one request can delete


class ChangingError(StorageError):
    """A file that changes, or goes away, while it is being sent: it may be sent later."""


class Bucket:
    """The objects of a place. Keys are relative to its folder; one client serves all threads.

    Args:
        client: of boto3.
        name: of the bucket.
        folder: what all keys begin with, without slashes around it.
        endpoint: where it is; None: Amazon's.
    """

    def __init__(self, client: Any, name: str, folder: str = "", endpoint: str | None = None) -> None:
        self._client, self._name, self._endpoint = client, name, endpoint
        self._folder = f"{folder}/" if folder else ""

    @classmethod
    def of(cls, place: Place, inside: bool = False) -> Bucket:
        """The objects of an s3 place.

        Args:
            place: which.
            inside: whether this runs in a container or on a node.

        Raises:
            ConfigError: it is no place in s3, or its endpoint is no URL.
            NotFoundError: boto3 is not installed.
            StorageError: the profile of AWS_PROFILE does not exist.
        """
        if place.kind != "s3":
            raise ConfigError(f"{place.url} is not in s3", "valid: s3://BUCKET/PREFIX")
        endpoint = place.endpoint_inside if inside else place.endpoint
        return cls(_client(place.url, endpoint), place.host, place.folder, endpoint)

    def below(self, folder: str) -> Bucket:
        """The objects of a folder of it."""
        return Bucket(self._client, self._name, f"{self._folder}{folder}".strip("/"), self._endpoint)

    @property
    def url(self) -> str:
        """Where it is, in one word."""
        return f"s3://{self._name}/{self._folder}"

    def check(self) -> None:
        """Ask for anything at all.

        Raises:
            StorageError: the credentials, the bucket or the endpoint are not right; says which.
        """
        with in_words(self.url, self._endpoint):
            self._client.list_objects_v2(Bucket=self._name, Prefix=self._folder, MaxKeys=1)

    def list(self, prefix: str = "") -> Iterator[Object]:
        """The objects whose keys begin with a prefix, in the order of their keys' bytes.

        Raises:
            StorageError: it cannot be listed.
        """
        pages = self._client.get_paginator("list_objects_v2")
        with in_words(self.url + prefix, self._endpoint):
            for page in pages.paginate(Bucket=self._name, Prefix=self._folder + prefix):
                for item in page.get("Contents", ()):
                    yield Object(item["Key"][len(self._folder) :], item["Size"], item["ETag"].strip('"'))

    def head(self, key: str) -> Object | None:
        """What is known of an object; None: there is none.

        Raises:
            StorageError: it may not be asked for.
        """
        with in_words(self.url + key, self._endpoint):
            reply = self._unless_missing(self._client.head_object, key)
        return described(key, reply) if reply else None

    def read(self, key: str) -> bytes | None:
        """The bytes of a small object; None: there is none.

        Raises:
            StorageError: it cannot be read.
        """
        found = self.read_object(key)
        return found[1] if found else None

    def read_object(self, key: str) -> tuple[Object, bytes] | None:
        """A small object with its bytes; None: there is none.

        Raises:
            StorageError: it cannot be read.
        """
        with in_words(self.url + key, self._endpoint):
            reply = self._unless_missing(self._client.get_object, key)
            if reply is None:
                return None
            with contextlib.closing(reply["Body"]) as body:
                return described(key, reply), body.read()

    def write(self, key: str, data: bytes) -> Object:
        """Write an object in one piece.

        Raises:
            StorageError: it cannot be written.
        """
        return self._write(key, data, {})

    def put(self, path: Path, key: str, progress: Callable[[int], None] = lambda _: None) -> Object:
        """Write a file as an object, with its SHA-256; a large one in several pieces at once.

        Args:
            path: the file.
            key: of the object.
            progress: told of bytes that went by.

        Raises:
            ChangingError: the file changes all the time, or is gone.
            StorageError: it cannot be read, or the object cannot be written.
        """
        try:
            for _ in range(3):
                if written := self._put_once(path, key, progress):
                    return written
        except FileNotFoundError as error:
            raise ChangingError(f"{path} is gone") from error
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        raise ChangingError(f"{path} changes while it is being sent to {self.url}{key}")

    def _put_once(self, path: Path, key: str, progress: Callable[[int], None]) -> Object | None:
        from boto3.s3.transfer import TransferConfig

        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            about = {EXECUTABLE: "1"} if before.st_mode & 0o100 else {}
            if before.st_size <= SMALL:
                data = file.read(SMALL + 1)
                if len(data) > SMALL:  # it grows
                    return None
                progress(len(data))
                return self._write(key, data, {DIGEST: hashlib.sha256(data).hexdigest(), **about})
            about[DIGEST] = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            pieces = TransferConfig(multipart_threshold=SMALL, multipart_chunksize=2 * SMALL, max_concurrency=4)
            with in_words(self.url + key, self._endpoint):
                self._client.upload_fileobj(file, self._name, self._folder + key, ExtraArgs={"Metadata": about},
                                            Callback=progress, Config=pieces)  # fmt: skip
            after = os.fstat(file.fileno())
        unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        return self.head(key) if unchanged else None

    def get(self, key: str, path: Path, progress: Callable[[int], None] = lambda _: None) -> Object:
        """Bring an object into a file, whole and compared with its checksum, or not at all.

        A large one comes by way of `.NAME.part` beside; one that was interrupted goes on from there.

        Args:
            key: of the object.
            path: the file; its folder is made.
            progress: told of bytes that went by.

        Raises:
            FullDiskError: there is no room.
            StorageError: there is no such object, it is damaged, or the file cannot be written.
        """
        source = Source(f"{self.url}{key}", key, self._endpoint, lambda start, etag: self._open(key, start, etag))
        return fetch_file(source, path, progress)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no mistake.

        Raises:
            StorageError: one cannot be deleted.
        """
        names = [{"Key": self._folder + key} for key in keys]
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            with in_words(self.url, self._endpoint):
                if len(batch) == 1:
                    self._client.delete_object(Bucket=self._name, **batch[0])
                    continue
                reply = self._client.delete_objects(Bucket=self._name, Delete={"Objects": batch, "Quiet": True})
            for error in reply.get("Errors", ()):
                raise StorageError(f"cannot delete s3://{self._name}/{error.get('Key')}: {error.get('Message')}")

    def _write(self, key: str, data: bytes, about: Mapping[str, str]) -> Object:
        with in_words(self.url + key, self._endpoint):
            reply = self._client.put_object(Bucket=self._name, Key=self._folder + key, Body=data, Metadata=about)
        return Object(key, len(data), reply["ETag"].strip('"'), about)

    def _unless_missing(self, ask: Callable[..., Any], key: str) -> Any:
        from botocore.exceptions import ClientError

        try:
            return ask(Bucket=self._name, Key=self._folder + key)
        except ClientError as error:
            if status(error) == 404 and error.response["Error"].get("Code") != "NoSuchBucket":
                return None
            raise

    def _open(self, key: str, start: int, etag: str) -> Any:
        """The reply for an object from a byte on, or from its beginning where it is another one by now."""
        from botocore.exceptions import ClientError

        if start:
            try:
                return self._client.get_object(Bucket=self._name, Key=self._folder + key, IfMatch=etag,
                                               Range=f"bytes={start}-")  # fmt: skip
            except ClientError as error:
                if status(error) not in (412, 416):
                    raise
        return self._client.get_object(Bucket=self._name, Key=self._folder + key)


def _client(url: str, endpoint: str | None) -> Any:
    with needing(f"{url} needs", "'lightex[s3]'"):
        import boto3
        from botocore.config import Config
        from botocore.exceptions import InvalidRegionError
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"} if endpoint else {},
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        max_pool_connections=32,
        request_checksum_calculation="when_required",  # older services know no checksums behind the body
        response_checksum_validation="when_required",
    )
    try:
        with in_words(url, endpoint):
            session = boto3.session.Session()
            region = session.region_name or "us-east-1"
            return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
    except (ValueError, InvalidRegionError) as error:
        raise ConfigError(
            f"{url}: '{endpoint}' is no endpoint: {error}", "valid: http://minio.example.com:9000"
        ) from error
