"""No secret is told, whatever goes wrong: in errors and their causes, output, reprs, logs or provenance.

Secrets go where users put them. Real servers then fail in every way, and all that is said is searched.
"""

from __future__ import annotations

import logging
import socket
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar
from urllib.parse import quote, quote_plus

import numpy as np
import pytest
import torch
import zarr.storage
from click.testing import CliRunner
from torch import nn

import analysis
from analysis.cli import commands
from recorder import Monitor
from recorder.format import StoreAccessError
from recorder.stores import ZarrStore, open_store, zarr_stores
from recorder.stores.redaction import without_secrets
from tapes import Run, write_recording
from web import Files, serving

pytest.importorskip("aiohttp")

QUOTED = "/+=%@:?#&;,!$'()*[]{}<>|\\^`~\" äß漢😀"
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 20))]


@dataclass
class Secrets:
    """Makes secrets, whose letters stand nowhere else, and looks for what is left of them."""

    random: Random
    words: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)

    def make(self, *, short: bool = False) -> str:
        """Words that nobody quotes with what addresses quote between them."""
        words = ["".join(self.random.choices("QXZJKVWY0189", k=7)) for _ in range(1 if short else 3)]
        between = ["".join(self.random.choices(QUOTED, k=self.random.randint(1, 3))) for _ in words]
        self.words += words
        secret = "".join(one + other for one, other in zip(words, between, strict=True)) + words[0]
        self.whole.append(secret)
        return secret

    def pair(self) -> tuple[str, str]:
        """User and password; how a header has them together is no secret less."""
        user, password = self.make(), self.make()
        for encoding in ("utf-8", "latin-1"):
            self.words.append(b64encode(f"{user}:{password}".encode(encoding, "replace")).decode()[4:24])
        return user, password

    def refuse(self, said: str, where: str) -> None:
        """Fail if anything of a secret is in it."""
        found = [word for word in self.words if word in said]
        assert not found, f"{where} tells {found}, of {self.whole}:\n{said}"


def quoted(random: Random, secret: str) -> str:
    """As one of those quotes it that make addresses, perhaps with small letters."""
    how: Callable[[str], str] = random.choice(
        [
            lambda text: quote(text, safe=""),
            quote_plus,
            lambda text: quote(text, safe="").replace("%2F", "%2f"),
        ]
    )
    return how(secret)


class Failing(Files):
    """Fails in the way that the first name of the path says, and tells what it was asked for."""

    signature: ClassVar[str] = ""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        way = self.path.split("/")[1]
        asked = (self.headers.get("Authorization"), self.path, self.headers.get("X-Api-Key"))
        told = "not this: {} {} {}".format(*asked).encode("latin-1", "replace").decode("latin-1")
        if way.isdigit():
            self.send_error(int(way), told, told)
        elif way in ("redirect", "loop"):
            self.send_response(302)
            there = "/loop/again" if way == "loop" else "/403/moved"
            self.send_header("Location", f"{there}?X-Amz-Signature={self.signature}&Expires=3600")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif way == "elsewhere":
            self.send_response(302)
            self.send_header("Location", f"http://x:{self.signature}@127.0.0.1:9/?{self.signature}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif way == "slow":
            time.sleep(0.4)
            self.send_error(404)
        elif way == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(told.encode())
            self.close_connection = True
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'{{"zarr_format": 3, "message": "{told}"}}'.encode())

    do_HEAD = do_GET  # noqa: N815 - likewise

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True


WEB_WAYS = ("401", "403", "404", "410", "429", "500", "redirect", "loop", "elsewhere", "slow", "cut", "wrong")


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that fails, and is asked again at once."""
    monkeypatch.setattr(zarr_stores, "_WEB_WAITS", (0.0,))
    with serving(tmp_path, Failing) as address:
        yield address


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def everything(store: Any) -> Iterator[Callable[[], Any]]:
    """What stores are asked for."""
    yield lambda: store.read("zarr.json", 1000)
    yield lambda: store.read_range("layers/1/spikes/c/0", -4, 4)
    yield lambda: store.size_of("zarr.json")
    yield lambda: store.size("")
    yield lambda: list(store.keys())
    yield store.is_empty
    yield lambda: store.write("a", b"x")
    yield lambda: store.write_new("a", b"x")
    yield lambda: store.write_pieces("a", [b"x"])
    yield lambda: store.delete("a")
    yield lambda: store.clear(["layers"])


def said_by(do: Callable[[], Any]) -> str:
    """What is shown of what is returned, or raised: as a traceback, and as errors are shown elsewhere."""
    try:
        shown = do()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return "".join([*traceback.format_exception(error), repr(error), str(error), repr(error.args)])
    return repr(shown)


def said_of(
    address: str, options: Mapping[str, Any], some: Callable[[Any], list[Any]]
) -> Iterator[tuple[str, str]]:
    """All that is said of an address that something is wrong with."""
    given = dict(options)
    yield "open_recording", said_by(lambda: analysis.open_recording(address, storage_options=given))
    yield "a list", said_by(lambda: analysis.open_recording([address, address], storage_options=given))
    yield "a pattern", said_by(lambda: analysis.open_recording(f"{address}*", storage_options=given))
    for read_only in (True, False):

        def opened(read_only: bool = read_only) -> Any:
            return open_store(address, read_only=read_only, storage_options=given)

        yield "open_store", said_by(opened)
        try:
            store = opened()
        except Exception:  # noqa: BLE001, S112 - whatever it is, it has been looked at
            continue
        yield "its place", store.location + repr(store)
        for do in some(everything(store)):
            yield "a store", said_by(do)


def commands_on(address: str, recording: Path, some: Callable[[Any], list[Any]]) -> Iterator[tuple[str, str]]:
    """All that the command line says of it."""
    called = [
        ["info", address],
        ["rates", address, "--per", "step"],
        ["verify", address, "--digest", "0" * 64],
        ["recover", address],
        ["digest", address],
        ["pack", str(recording), address],
        ["pack", address, f"{address}.zip"],
    ]
    for arguments in some(called):
        result = CliRunner().invoke(commands.main, arguments)
        raised = "".join(traceback.format_exception(result.exception)) if result.exception else ""
        yield " ".join(arguments[:1]), result.output + raised


def choice(random: Random, *, thorough: bool) -> Callable[[Any], list[Any]]:
    """Takes all of what there is to do, or one thing of it where there is little time."""
    return list if thorough else lambda things: random.sample(list(things), 1)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_recording(tmp_path / "small.zarr", {"a": np.ones((64, 2), np.bool_)}, [Run(0, 64, 1)])
    return tmp_path / "small.zarr"


@pytest.mark.parametrize("seed", SEEDS)
def test_no_secret_is_told_of_a_web_server_that_fails(
    seed: int, failing: str, small: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    import aiohttp

    random = Random(seed)  # noqa: S311 - to be made again
    secrets = Secrets(random)
    some = choice(random, thorough=seed > 0)
    caplog.set_level(logging.INFO)
    for way in (*WEB_WAYS, "refused", "no host"):
        user, password = secrets.pair()
        Failing.signature = quote(secrets.make(), safe="")
        elsewhere = {"refused": f"127.0.0.1:{closed_port()}", "no host": "nowhere.invalid"}
        server = elsewhere.get(way, failing.removeprefix("http://"))
        token = f"token={quoted(random, secrets.make())}"
        query = random.choice(
            [f"?{token}", f"?a=1&{token}&b", f"?{quoted(random, secrets.make())}", f"?{token}#top"]
        )
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}@"
        place = f"{server}/{way}/run.{random.choice(['zarr', 'zip'])}"
        options = {
            "headers": {"X-Api-Key": quote(secrets.make(), safe=" ")},
            "client_kwargs": {"timeout": aiohttp.ClientTimeout(total=0.2 if way == "slow" else 5)},
            "nested": [{"deeper": (secrets.make(), [secrets.make()])}],
        }
        for address in (f"http://{credentials}{place}{query}", f"http://{place}{query}"):
            for where, said in said_of(address, options, some):
                secrets.refuse(said, f"{way}: {where}")
        address = f"http://{credentials}{place}{query}"
        for where, said in commands_on(address, small, some):
            secrets.refuse(said, f"{way}: spiketape {where}")
    secrets.refuse(caplog.text, "the log")
    secrets.refuse("".join(str(warning.message) for warning in recwarn), "warnings")


S3_WAYS = ("wrong key", "no bucket", "503", "drop", "refused", "no host", "bad option")


@pytest.mark.parametrize("seed", SEEDS)
def test_no_secret_is_told_of_a_bucket_that_fails(
    seed: int,
    object_store: Any,
    proxy: Any,
    small: Path,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    random = Random(seed)  # noqa: S311 - to be made again
    secrets = Secrets(random)
    some = choice(random, thorough=False)  # each takes a client of its own
    caplog.set_level(logging.INFO)
    for way in S3_WAYS:
        user, password = secrets.pair()
        port = {"refused": closed_port(), "503": proxy.port, "drop": proxy.port}.get(way, object_store.port)
        proxy.disturb = lambda *_, way=way: way
        host = "nowhere.invalid" if way == "no host" else "127.0.0.1"
        login = random.choice(["", f"{quote(user, safe='')}:{quote(password, safe='')}@"])
        right = way in ("no bucket", "503", "drop")
        options: dict[str, Any] = {
            "key": "key" if right else random.choice([secrets.make(), f"AKIA{secrets.make(short=True)}"]),
            "secret": "secret" if right else secrets.make(),
            "endpoint_url": f"http://{login}{host}:{port}",
            "config_kwargs": {
                "retries": {"max_attempts": 0},
                "connect_timeout": 1,
                "read_timeout": 2,
                "user_agent_extra": secrets.make(),
            },
        }
        if way == "bad option":
            options |= {
                secrets.random.choice(["client_kwargs", "s3_additional_kwargs"]): {"x": secrets.make()}
            }
            options |= {"anon": False, "token": secrets.make()}
        bucket = "no-such-bucket" if way == "no bucket" else "runs"
        path = f"{bucket}/secrets/run.zarr"
        monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", secrets.make())
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets.make())
        monkeypatch.setenv("AWS_SESSION_TOKEN", secrets.make())
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        for address in (f"s3://{path}", f"s3://{quote(user, safe='')}:{quote(password, safe='')}@{path}"):
            for where, said in said_of(address, options, some):
                secrets.refuse(said, f"{way}: {where}")
            made = said_by(partial(Monitor, NET, layers=[Threshold], store=address, storage_options=options))
            secrets.refuse(made, f"{way}: Monitor")
        for where, said in commands_on(f"s3://{path}", small, some):
            secrets.refuse(said, f"{way}: spiketape {where}")
    secrets.refuse(caplog.text, "the log")
    secrets.refuse("".join(str(warning.message) for warning in recwarn), "warnings")


class Threshold(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


NET = nn.Sequential(Threshold())


@pytest.mark.parametrize("seed", SEEDS)
def test_no_secret_is_recorded(seed: int, small: Path, caplog: pytest.LogCaptureFixture) -> None:
    secrets = Secrets(Random(seed))  # noqa: S311 - to be made again
    caplog.set_level(logging.INFO)
    user, password = secrets.pair()
    address = f"memory://{quote(user, safe='')}:{quote(password, safe='')}@host/run-{seed}.zarr"
    options = {"key": secrets.make(), "nested": {"a": [secrets.make()]}}
    with Monitor(NET, layers=[Threshold], store=address, storage_options=options) as monitor:
        NET(torch.rand(2, 3))
        secrets.refuse(repr(monitor) + monitor.store, "the monitor")
        second = said_by(lambda: Monitor(NET, layers=[Threshold], store=address, storage_options=options))
        secrets.refuse(second, "a second writer")
    recording = analysis.open_recording(address, storage_options=options)
    shown = [repr(recording), recording._repr_html_(), recording.location, repr(recording["0"])]
    shown += [repr(recording.provenance), str(recording.metadata)]
    secrets.refuse("".join(shown), "the recording")
    for key in list(recording._readers[0].store.keys()):
        data = recording._readers[0].store.read(key, 2**20) or b""
        secrets.refuse(data.decode("latin-1"), key)
    secrets.refuse(caplog.text, "the log")


class Telling(zarr.storage.MemoryStore):
    """Of a user's own making, or of a package that nobody knows here: its errors show its address."""

    path = ""

    async def get(self, *_: Any, **__: Any) -> Any:
        error = OSError("refused")
        error.add_note(f"by {self.path}")
        raise error

    async def set(self, *_: Any, **__: Any) -> Any:
        error = OSError("refused")
        error.__context__ = RuntimeError(self.path)
        raise error

    async def delete(self, *_: Any, **__: Any) -> Any:
        raise ExceptionGroup("refused", [ValueError(self.path)])

    async def getsize(self, *_: Any, **__: Any) -> Any:
        raise FileNotFoundError(self.path)


def test_no_note_context_or_member_of_a_group_tells_a_secret() -> None:
    secrets = Secrets(Random(0))  # noqa: S311 - to be made again
    store = Telling()
    store.path = f"gs://bucket/run.zarr?token={secrets.make()}"
    wrapped = ZarrStore(zarr.storage.WrapperStore(store))
    for where, do in enumerate(everything(wrapped)):
        secrets.refuse(said_by(do), str(where))
    assert ZarrStore(store).size_of("a") is None
    with pytest.raises(StoreAccessError, match="refused"):
        wrapped.read("a", 10)


def test_options_in_the_wrong_place_are_not_told() -> None:
    with pytest.raises(TypeError, match=r"store is .* \(dict\); expected a path") as refused:
        Monitor(NET, layers=[Threshold], store={"key": "hunter2", "nested": ["hunter3"]})  # type: ignore[arg-type]
    assert "hunter" not in str(refused.value)


def test_an_error_that_tells_nothing_is_handed_on_as_it_is() -> None:
    class Broken(zarr.storage.MemoryStore):
        async def get(self, *_: Any, **__: Any) -> Any:
            raise KeyError("of its own")

    with pytest.raises(KeyError, match="of its own"):
        ZarrStore(Broken()).read("a", 10)


def test_a_long_word_of_a_server_takes_no_time() -> None:
    for word in ("a" * 10**6, "a:" * 10**5, "?" * 10**5, "%25" * 10**5):
        assert without_secrets(word, ["%%%%%%%/"], is_answer=True) == word
