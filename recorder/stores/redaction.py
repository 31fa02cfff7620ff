"""Remove secrets from addresses, and from messages of other packages, before they are shown.

Secrets come with the address (user and password in front of the host, the query, the fragment), with
``storage_options`` or with the environment. Other packages put them into their errors. So whatever shows a
location, or what another package has said, passes through `without_secrets`, and errors of other packages are
shown as causes of ours only where `cause_without_secrets` lets them pass.
"""

from __future__ import annotations

import html
import json
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from traceback import TracebackException
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

SHOWN_INSTEAD: Final = "…"

# Shorter ones are hidden only where they stand as a word of their own: "key" must not go out of "keyboard".
_LONG: Final = 6

# Up to what cannot be part of an address as other packages print it. Without limits to what stands before the
# slashes, a long word of a server's would take hours.
_SCHEME = r"(?:[A-Za-z][A-Za-z0-9+.-]{0,30}:{1,2}){1,9}//"
_ADDRESS = re.compile(rf"{_SCHEME}[^\s'\"<>]*")
# Where nobody knows what is secret in it, it may hold an apostrophe, which is seldom quoted.
_SAID_ADDRESS = re.compile(rf"{_SCHEME}[^\s\"<>]*")
_WEB_ADDRESS = re.compile(r"https?://")
_NAMED_VALUE = re.compile(r"[?#&][^/?#&=]+=")
_SAID_VALUE = re.compile(
    r"([?&#][^\s?&#='\"<>]+=|\b(?i:basic|bearer) +)(?:(?<==)[^\s&#\"<>]+|(?<= )[\w+/=.~-]{8,})"
)
_CHAINED = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*:(?://|:))")

# Of the values in a query: shorter ones are switches, such as ``download=1``.
_SHORTEST_VALUE: Final = 3

# Variables from which packages for buckets take credentials.
_SECRET_VARIABLE = re.compile(
    r"(AWS|AZURE|FSSPEC|GCS|GOOGLE|S3)_.*(CONNECTION_STRING|KEY|PASSWORD|SECRET|SIGNATURE|TOKEN)"
)

# Options whose values are no secrets, and which errors are hard to understand without.
_PLAIN_OPTIONS: Final = frozenset(
    {"addressing_style", "endpoint_url", "mode", "protocol", "region_name", "signature_version"}
)


def without_secrets(text: object, secrets: Iterable[str] = (), *, is_answer: bool = False) -> str:
    """Text as it may be shown: addresses in it without what is secret, and known secrets as ``…``.

    Parameters
    ----------
    text : object
        An address, or what another package says; what is not text is converted.
    secrets : iterable of str
        What is known to be secret, see `secrets_of`; also hidden where it is spelled as addresses, Python,
        JSON, HTML or headers spell it.
    is_answer : bool
        Whether a server may have its say in it, which may quote what nobody here knows, such as the signed
        address that a link has led to: then the values of all that looks like a query are hidden, and what
        follows ``Basic`` or ``Bearer``.

    Examples
    --------
    >>> without_secrets("403 for https://me:secret@host/run.zarr?token=secret")
    '403 for https://host/run.zarr'
    >>> without_secrets("bad token s3cr3t-word", ["s3cr3t-word"])
    'bad token …'
    """
    shown = str(text)
    for secret in sorted(set(_plain(secrets)), key=len, reverse=True):
        spelled = "".join(map(_spellings, secret))
        pattern = spelled if len(secret) >= _LONG else rf"(?<!\w){spelled}(?!\w)"
        shown = re.sub(pattern, SHOWN_INSTEAD, shown)
    address = _SAID_ADDRESS if is_answer else _ADDRESS
    shown = address.sub(lambda found: shown_address(found[0]), shown)
    return _SAID_VALUE.sub(rf"\1{SHOWN_INSTEAD}", shown) if is_answer else shown


def shown_address(address: str) -> str:
    """A place as it may be shown; a path is shown as it is, as nothing in it is secret.

    Web addresses lose their query and their fragment. In names of buckets ``?`` and ``#`` may stand for
    themselves: there, what follows is hidden where it looks like ``name=value``.

    Examples
    --------
    >>> shown_address("https://me:secret@host/run.zarr?token=secret")
    'https://host/run.zarr'
    >>> shown_address("s3://bucket/run#1.zarr")
    's3://bucket/run#1.zarr'
    """
    scheme, slashes, rest = address.partition("//")
    if not slashes or not scheme.endswith(":"):
        return address
    _, rest = _split_user(rest)
    hidden = re.search(r"[?#]", rest) if _WEB_ADDRESS.search(address) else _NAMED_VALUE.search(rest)
    shown = rest[: hidden.start()] if hidden else rest
    # A chained address has others inside.
    inner = _ADDRESS.search(shown)
    if inner:
        shown = shown[: inner.start()] + shown_address(inner[0]) + shown[inner.end() :]
    return f"{scheme}//{shown}"


def secrets_of(address: str, options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Find the secrets in an address, and in the ``storage_options`` that go with it.

    Examples
    --------
    >>> secrets_of("https://host/run.zarr?token=abc", {"headers": {"Authorization": "Bearer xyz"}})
    ('token=abc', 'abc', 'Bearer xyz', 'xyz')
    """
    found: list[str] = []
    for part in _CHAINED.split(address):
        _, slashes, behind = part.partition("//")
        user, rest = _split_user(behind) if slashes else ("", "")
        found += [user, *user.split(":", 1)] if user else []
        if _WEB_ADDRESS.match(part) or _NAMED_VALUE.search(rest):
            named = [one for query in re.split(r"[?#]", rest)[1:] for one in (query, *query.split("&"))]
            values = [one for name in named for one in (name, name.partition("=")[2])]
            found += [value for value in values if len(value) >= _SHORTEST_VALUE]
    for value in _values(options or {}):
        found += [value, *value.split()[1:]]
    # As the header for them has them.
    for text in set(_plain(text for text in found if ":" in text)):
        found += [b64encode(text.encode(as_, "replace")).decode().rstrip("=") for as_ in ("utf-8", "latin-1")]
    return tuple(dict.fromkeys(secret for secret in found if secret.strip()))


def secrets_of_environment() -> tuple[str, ...]:
    """Credentials for buckets in the environment variables of this process."""
    return tuple(value for name, value in os.environ.items() if value and _SECRET_VARIABLE.fullmatch(name))


def cause_without_secrets(error: BaseException, secrets: Iterable[str]) -> BaseException | None:
    """An exception to be shown as the cause of another; None where a traceback of it tells a secret."""
    known = tuple(secrets)
    shown = TracebackException.from_exception(error, lookup_lines=False)
    told = [*_said(shown), repr(error), repr(error.args)]
    safe = all(without_secrets(said, known, is_answer=True) == said for said in told)
    return error if safe else None


def _said(shown: TracebackException) -> Iterator[str]:
    """Text that is printed of an exception, its causes and the members of a group, without lines of code."""
    yield from shown.format_exception_only()
    before = None if shown.__suppress_context__ and shown.__cause__ is None else shown.__context__
    for other in (shown.__cause__, None if shown.__cause__ else before, *(shown.exceptions or ())):
        if other is not None:
            yield from _said(other)


def _split_user(rest: str) -> tuple[str, str]:
    """User and password, and the rest of an address behind its ``//``."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    if at:
        return user, host + rest[len(authority) :]
    # A password with a slash that nobody has quoted; behind a host there is only a number.
    host, colon, port = authority.partition(":")
    if colon and not port.isdigit() and not host.startswith("["):
        user, at, behind = rest.rpartition("@")
        if at:
            return user, behind
    return "", rest


def _values(option: Any, name: object = "") -> Iterator[str]:
    """Every text among options, but for those that are no secrets."""
    if isinstance(option, Mapping):
        for key, value in option.items():
            yield from _values(value, key)
    elif isinstance(option, list | tuple | set | frozenset):
        for value in option:
            yield from _values(value, name)
        if len(option) > 1 and all(isinstance(value, str) for value in option):
            yield ":".join([*option][:2])  # perhaps user and password, which a header has together
    elif isinstance(option, int) and not isinstance(option, bool) and len(str(option)) >= _LONG:
        yield str(option)
    elif isinstance(option, bytes):
        yield option.decode("utf-8", "replace")
    elif isinstance(option, str):
        if name in _PLAIN_OPTIONS:
            yield from secrets_of(option)
        else:
            yield option


def _plain(secrets: Iterable[str]) -> Iterator[str]:
    """Secrets as they are, and as they are meant where an address has quoted them."""
    for secret in secrets:
        yield from (secret, unquote(secret), unquote_plus(secret))


def _spellings(character: str) -> str:
    """Pattern for one character, as it is and as others spell it; of a secret they may spell only some so."""
    if character.isascii() and (character.isalnum() or character in "-_."):
        return re.escape(character)
    quoted = "".join(f"%(?:25)*{byte:02x}" for byte in character.encode(errors="surrogatepass"))
    spelled = {
        character,
        f"\\{character}",
        repr(character)[1:-1],
        ascii(character)[1:-1],
        repr(character.encode(errors="surrogatepass"))[2:-1],
        json.dumps(character)[1:-1],
        html.escape(character),
        f"&#{ord(character)};",
        character.encode(errors="replace").decode("latin-1"),
        *("+" if character == " " else ""),
    }
    return f"(?:(?i:{quoted})|{'|'.join(map(re.escape, sorted(spelled, key=len, reverse=True)))})"
