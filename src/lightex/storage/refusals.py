"""What an S3 service, or the way to it, answers with, in words that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightex.core.errors import StorageError, UnreachableError


class AwayError(StorageError, UnreachableError):
    """The store is away for now: it may be tried again."""


class MissingObjectError(StorageError):
    """There is no such object."""


_LATER = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "Throttling"}
_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them into ~/.aws/credentials"
_DENIED = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret does not belong to the access key",
    "InvalidToken": "the session token is not valid there",
    "ExpiredToken": "the session token has expired",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}


@contextmanager
def in_words(url: str, endpoint: str | None) -> Iterator[None]:
    """Turns what boto3 raises into a StorageError.

    Args:
        url: what is asked for, such as "s3://bucket/key".
        endpoint: where; None: Amazon's.

    Raises:
        AwayError: nobody answers, or the service cannot answer for now.
        StorageError: anything else that it refuses.
    """
    from botocore import exceptions as boto

    where = endpoint or "Amazon S3"
    try:
        yield
    except boto.ClientError as error:
        raise _refused(error.response, url, endpoint) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise StorageError(f"{url}: there are no credentials for {where}", _KEYS) from error
    except (boto.CredentialRetrievalError, boto.ProfileNotFound, boto.TokenRetrievalError, boto.SSOError) as error:
        raise StorageError(f"{url}: no credentials for {where}: {error}", _KEYS) from error
    except boto.SSLError as error:
        raise StorageError(
            f"{url}: {where} has no certificate that is trusted here: {error.kwargs.get('error', error)}",
            "name the authority's file in AWS_CA_BUNDLE, or give an endpoint with http://",
        ) from error
    except (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, boto.ResponseStreamingError) as error:
        raise AwayError(
            f"{url}: {where} does not answer: {_cause(error)}",
            "is it up, and is it to be reached from this machine?",
            'the address is the endpoint of the Store (Store("s3://...", endpoint="http://...")), or AWS_ENDPOINT_URL',
        ) from error
    except boto.ParamValidationError as error:
        raise StorageError(f"{url}: that is no name of a bucket or an object: {error}") from error
    except boto.BotoCoreError as error:
        raise StorageError(f"{url}: {where}: {error}") from error


def status(error: Any) -> int:
    """The HTTP status of a ClientError."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _refused(response: dict[str, Any], url: str, endpoint: str | None) -> StorageError:
    about = response.get("Error", {})
    code, message = str(about.get("Code", "")), str(about.get("Message", ""))
    number = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    where = endpoint or "Amazon S3"
    if code == "NoSuchBucket":
        name = url.split("/")[2]
        option = f" --endpoint-url {endpoint}" if endpoint else ""
        return StorageError(
            f"{url}: there is no bucket '{name}' at {where}",
            f"make it: aws s3 mb s3://{name}{option}",
            "or correct the URL of the Store, or its endpoint",
        )
    if code in _DENIED or number in (401, 403):
        why = _DENIED.get(code, f"access is denied ({message or code})")
        return StorageError(
            f"{url}: {where} refuses: {why}",
            _KEYS if code != "RequestTimeTooSkewed" else "set it (ntp), then try again",
            "a key of another service, an expired one, or one without rights to this bucket is refused as well",
        )
    if code in _LATER or number in (408, 429) or (number >= 500 and number != 507):
        return AwayError(f"{url}: {where} cannot answer for now: {code or number} {message}".rstrip())
    if code in ("QuotaExceeded", "XMinioStorageFull") or number == 507:
        return StorageError(f"{url}: there is no room at {where}: {message or code}", "free some space there")
    if number in (301, 307) or code == "AuthorizationHeaderMalformed":
        return StorageError(
            f"{url}: the bucket is not at {where}: {message or code}", "set AWS_REGION, or the endpoint"
        )
    if number == 404:
        return MissingObjectError(f"{url}: there is no such object at {where}")
    return StorageError(f"{url}: {where} answers {code or number}: {message or 'without a word'}")


def _cause(error: Any) -> str:
    """What lies below an error of botocore, in short."""
    found = re.search(r"\[Errno -?\d+\] ([^)'\"]+)", str(error.kwargs.get("error")))
    return found[1] if found else str(error)
