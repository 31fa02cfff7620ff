"""Options with which fsspec opens a URL: those of the user, copied, with our defaults added."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any, Final

# Attempts at one request. botocore waits longer before each: about ten seconds in all for a server that is
# gone, about a minute for a server that answers that it is busy.
S3_ATTEMPTS: Final = 10
_S3: Final = ("s3", "s3a")
# Number of each environment in which buckets were opened, by its hash.
_environments: dict[str, int] = {}


def options_for(url: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options for fsspec to open a URL with, given the user's ``storage_options``."""
    options: dict[str, Any] = _plain_copy(given or {})
    if url.partition(":")[0] not in _S3:
        return options
    # A cached listing would hide keys written since.
    options = {"use_listings_cache": False, **options}
    number = _environments.setdefault(environment_of(url), len(_environments))
    if number:
        # fsspec hands out the store that it has made before, with the credentials of then, unless an option
        # differs. This one says when cached listings expire, of which there are none.
        options.setdefault("listings_expiry_time", number)
    if not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & os.environ.keys():
        retries = {"mode": "standard", "max_attempts": S3_ATTEMPTS}
        options["config_kwargs"] = {"retries": retries, **options.get("config_kwargs", {})}
    return options


def environment_of(url: str) -> str:
    """Hash of what the environment says about how a bucket is reached, credentials included; else empty."""
    if url.partition(":")[0] not in _S3:
        return ""
    said = sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _plain_copy(option: Any) -> Any:
    """A copy that the user cannot change any more, and in which texts of the user's own classes are plain.

    fsspec hands out the store that it has made before wherever options print alike. A password of a class
    that hides it when it is printed would never be replaced by a new one.

    Examples
    --------
    >>> _plain_copy({"key": "k", "client_kwargs": {"endpoint_url": "http://host"}})
    {'key': 'k', 'client_kwargs': {'endpoint_url': 'http://host'}}
    """
    if isinstance(option, Mapping):
        return {_plain_copy(key): _plain_copy(value) for key, value in option.items()}
    if type(option) in (list, tuple):
        return type(option)(map(_plain_copy, option))
    return str.__str__(option) if isinstance(option, str) else option
