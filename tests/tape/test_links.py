"""Recordings behind links: redirected, named by anything, asked for with a token that nobody is shown."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
import zarr.storage
from hypothesis import given
from hypothesis import strategies as st

import analysis
from recorder.format import RecordingFormatError, RecordingNotFoundError, StoreAccessError, StoreError
from recorder.keeping import pack_recording
from recorder.stores import Folder
from recorder.stores.redaction import secrets_of, shown_address, without_secrets
from recorder.tape import TapeReader
from tapes import Run, write_recording
from web import Files, serving

# All of these links lead to a web server.
pytest.importorskip("aiohttp")

TOKEN = "s3cr3t-t0ken"  # noqa: S105 - nobody's
SPIKES = np.random.default_rng(7).random((130, 5)) < 0.3


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a recording, and with an archive of it."""
    write_recording(tmp_path / "run.zarr", {"a": SPIKES}, [Run(0, 26, 5)])
    pack_recording(TapeReader.open(Folder(tmp_path / "run.zarr")), str(tmp_path / "run.zip"))
    return tmp_path


class Archives(Files):
    """An archive of data as they are in public: links of many forms, ranges, redirects, signatures."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def do_HEAD(self) -> None:  # noqa: N802 - the name that http.server calls
        # A signature is for one method, as at S3.
        self.send_error(403)

    def do_GET(self) -> None:  # noqa: N802
        self.asked.append((self.command, self.path))
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if parts.path.startswith("/signed/"):
            if query.get("X-Signature") != [TOKEN]:
                self.send_error(403, f"no signature: {self.path}")
                return
            self._send(parts.path.removeprefix("/signed/"))
        elif parts.path in ("/files/run.zip/content", "/download/12345", "/get", "/moved.zip"):
            self.send_response(302)
            self.send_header("Location", f"/signed/run.zip?X-Signature={TOKEN}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif parts.path.startswith("/private/"):
            if query.get("token") != [TOKEN]:
                self.send_error(401, f"no token: {self.path}")
                return
            self._send(parts.path.removeprefix("/private/"))
        elif parts.path.startswith("/soft/run/"):
            self._answer(200, b'{"status": "there is no such page"}')
        elif parts.path == "/soft/run":
            self._send("run.zip")
        else:
            self.send_error(404)

    def _send(self, name: str) -> None:
        path = Path(self.directory) / name
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        if wanted is None:
            self._answer(200, data)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        begin = int(first) if first else max(len(data) - int(last), 0)
        end = min(int(last) + 1 if first and last else len(data), len(data))
        self._answer(206, data[begin:end], f"bytes {begin}-{end - 1}/{len(data)}")

    def _answer(self, status: int, data: bytes, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def archives(folder: Path) -> Iterator[str]:
    Archives.asked = []
    with serving(folder, Archives) as address:
        yield address


@pytest.mark.parametrize(
    "link",
    [
        "moved.zip",
        "files/run.zip/content",
        "download/12345",
        "get?id=7&download=1",
        "soft/run",
        "soft/run#top",
    ],
)
def test_an_archive_is_read_in_place_whatever_its_link_looks_like(runs: Path, link: str) -> None:
    with archives(runs) as address:
        recording = analysis.open_recording(f"{address}/{link}")
        assert np.array_equal(recording["a"].spikes.compute().to_numpy(), SPIKES)
        reader = pickle.loads(pickle.dumps(recording._readers[0]))  # noqa: S301 - our own
        before = len(Archives.asked)
        assert np.array_equal(reader.layers["a"].frame_bits(0, 130), SPIKES)
        assert not any(path.endswith("zarr.json") for _, path in Archives.asked[before:])


@pytest.mark.parametrize("place", ["run.zarr", "run.zip"])
def test_the_query_of_an_address_goes_behind_each_key(runs: Path, place: str) -> None:
    with archives(runs) as address:
        recording = analysis.open_recording(f"{address}/private/{place}?token={TOKEN}#top", use_counts=False)
        assert np.array_equal(recording["a"].spikes.compute().to_numpy(), SPIKES)
        assert float(recording.firing_rate()) == SPIKES.mean()
        assert recording.location == f"{address}/private/{place}"
    assert {urlsplit(path).query for _, path in Archives.asked} == {f"token={TOKEN}"}
    assert not any("zarr.json" in path and "?" not in path for _, path in Archives.asked)


def test_what_is_neither_is_told_apart(runs: Path) -> None:
    with archives(runs) as address:
        with pytest.raises(RecordingNotFoundError, match=r"no recording at http://.*/nothing"):
            analysis.open_recording(f"{address}/nothing")
        with pytest.raises(RecordingFormatError):
            analysis.open_recording(f"{address}/soft/run/deeper")


def told(error: BaseException) -> str:
    """All that an exception shows."""
    return "".join([*traceback.format_exception(error), repr(error), str(error)])


def test_addresses_that_differ_in_their_query_alone_have_names_of_their_own(runs: Path) -> None:
    write_recording(runs / "other.zarr", {"a": SPIKES}, [Run(0, 26, 5)])
    pack_recording(TapeReader.open(Folder(runs / "other.zarr")), str(runs / "other.zip"))

    class Numbered(Archives):
        def do_GET(self) -> None:  # noqa: N802
            parts = urlsplit(self.path)
            which = parse_qs(parts.query).get("id", [""])[0] if parts.path == "/get" else ""
            self._send({"1": "run.zip", "2": "other.zip"}.get(which, "nothing"))

    with serving(runs, Numbered) as address:
        both = analysis.open_recording([f"{address}/get?id=1", f"{address}/get?id=2"])
        assert list(both.recordings) == ["get (1)", "get (2)"]


@pytest.mark.parametrize(
    "place", ["private/run.zarr?token=WRONG", "private/run.zip?token=WRONG", "signed/x?a=WRONG"]
)
def test_no_secret_of_an_address_is_in_an_error(
    runs: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "wr0ng-t0ken"
    caplog.set_level(logging.INFO)
    with archives(runs) as address:
        secret = address.replace("http://", "http://somebody:pa55word@")
        with pytest.raises((StoreAccessError, RecordingNotFoundError)) as refused:
            analysis.open_recording(f"{secret}/{place.replace('WRONG', wrong)}")
    shown = told(refused.value) + caplog.text
    for secret in (wrong, "pa55word", "somebody"):
        assert secret not in shown
    assert "/private/run" in shown or "/signed/x" in shown


def test_no_signature_of_a_redirect_is_in_an_error(runs: Path) -> None:
    class Expired(Archives):
        def do_GET(self) -> None:  # noqa: N802
            if self.path.startswith("/signed/"):
                self.send_error(403, f"expired: {self.path}")
            else:
                super().do_GET()

    with serving(runs, Expired) as address, pytest.raises(StoreAccessError) as refused:
        analysis.open_recording(f"{address}/moved.zip")
    assert TOKEN not in told(refused.value)
    assert "403" in str(refused.value)


def test_no_secret_of_an_address_is_in_what_a_recording_shows(runs: Path) -> None:
    with archives(runs) as address:
        secret = f"{address.replace('http://', 'http://me:pa55word@')}/private/run.zarr?token={TOKEN}"
        recording = analysis.open_recording(secret)
        shown = [repr(recording), recording._repr_html_(), recording.location, repr(recording["a"])]
        shown += [repr(recording._readers[0].store), str(dict(recording.provenance)), *recording.recordings]
    assert TOKEN not in "".join(shown)
    assert "pa55word" not in "".join(shown)


def test_no_option_is_in_an_error() -> None:
    pytest.importorskip("s3fs")
    options = {
        "key": "AKIA-key-word",
        "secret": "s3cr3t/w0rd+x=",
        "endpoint_url": "http://me:pa55word@127.0.0.1:9",
        "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 1},
        "client_kwargs": {"aws_session_token": TOKEN},
    }
    with pytest.raises((StoreAccessError, StoreError)) as refused:
        analysis.open_recording("s3://bucket/run.zarr", storage_options=options)
    for secret in ("AKIA-key-word", "s3cr3t/w0rd+x=", "pa55word", TOKEN):
        assert secret not in told(refused.value)
    assert "s3://bucket/run.zarr" in str(refused.value)


def test_a_zarr_store_of_the_users_own_shows_no_secret(runs: Path) -> None:
    with archives(runs) as address:
        secret = address.replace("http://", "http://me:pa55word@")
        store = zarr.storage.FsspecStore.from_url(f"{secret}/private/run.zarr", read_only=True)
        with pytest.raises(StoreAccessError) as refused:
            analysis.open_recording(store)
    assert "pa55word" not in told(refused.value)


# -- one function for all of it ------------------------------------------------------------------------------

# Letters that stand in no word around them, and whatever addresses and Python quote.
SECRETS = st.text(st.sampled_from("QXZ0189!$%^&*()+=~ '\"\\äß"), min_size=6).filter(
    lambda text: text.strip() == text
)


@given(SECRETS, SECRETS, SECRETS, SECRETS)
def test_no_secret_is_left_however_others_spell_it(user: str, password: str, token: str, option: str) -> None:
    address = (
        f"https://{quote(user, safe='')}:{quote(password, safe='')}@example.org/run.zarr"
        f"?token={quote(token, safe='')}#{quote(token, safe='')}"
    )
    secrets = secrets_of(address, {"client_kwargs": {"headers": {"X": option}}, "tokens": [option]})
    foreign = [
        f"403 for {address}",
        f"{user}|{password}|{token}|{option}",
        repr((user, password, token, option)),
        f"url={quote(option)} and {quote(token, safe='')}",
    ]
    for text in foreign:
        shown = without_secrets(text, secrets)
        for secret in (user, password, token, option):
            for spelled in (secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1]):
                assert spelled not in shown
    assert shown_address(address) == "https://example.org/run.zarr"


@given(st.text(min_size=1))
def test_a_path_is_shown_as_it_is(name: str) -> None:
    if "//" not in name:
        assert shown_address(f"/runs/{name}") == f"/runs/{name}"
    assert without_secrets("/runs/run?x=1#2 at 3") == "/runs/run?x=1#2 at 3"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://[::1]:8000/run.zarr?token=x", "http://[::1]:8000/run.zarr"),
        ("https://me:pa/ss@host/run.zarr", "https://host/run.zarr"),  # a slash that nobody quoted
        ("https://me:p@ss@host/run.zarr", "https://host/run.zarr"),
        ("https://host/@lab/run.zarr", "https://host/@lab/run.zarr"),  # no user
        ("s3://bucket/run#1.zarr", "s3://bucket/run#1.zarr"),  # a name
        ("s3://bucket/run.zarr?token=x", "s3://bucket/run.zarr"),
        ("simplecache::https://me:word@host/run.zip?t=x", "simplecache::https://host/run.zip"),
    ],
)
def test_addresses_as_they_are_shown(address: str, shown: str) -> None:
    assert shown_address(address) == shown
    assert without_secrets(f"cannot open '{address}'") == f"cannot open '{shown}'"
