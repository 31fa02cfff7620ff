"""The command ``spiketape merge``: an answer from parts of it, which computers made without each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import xarray as xr

from analysis.asking.shards import Sharded, name_of
from analysis.cli.clusters import cluster
from analysis.cli.running import compute_here, errors_as_messages, on_cluster, open_shown
from analysis.cli.tables.parts import Part, PartError, commits_of
from analysis.cli.tables.stats import table_of, writer, written
from analysis.display import printable
from analysis.recording import Recording
from recorder.format import RecordingFormatError, RecordingNotFoundError
from recorder.stores import is_url

_MAX_NAMED: Final = 20
_DIFFERS: Final = {
    "shards": "is one of {} shards, not of {} as",
    "commits": "is about another recording, or another commit of it, than",
    "question": "answers another question than",
}


@click.command()
@click.argument("parts", nargs=-1, required=True, metavar="PARTS...", type=click.Path(path_type=Path))
@click.option(
    "--recording",
    "location",
    metavar="PATH",
    help="Where the recording is. If left out, where it was for the parts, unless that is a URL.",
)
@written
@on_cluster
def merge(
    parts: tuple[Path, ...],
    location: str | None,
    file_format: str | None,
    safe: bool,
    output: Path | None,
    where: str | None,
) -> None:
    """Print statistics from PARTS, the files that `spiketape stats --shard` has written, one for each shard.

    The table is that of `spiketape stats` without --shard, to the last bit. The recording must be there, as
    it was for the parts; its spikes are not read again.
    """
    write = writer(file_format, output, safe=safe)
    with errors_as_messages():
        read = [Part.read(path) for path in parts]
        _check_alike(parts, read)
        recording = _opened(location, read[0])
        _check_commits(recording, read[0])
        sharded = Sharded.of(read[0].question.of(recording.anywhere()), read[0].shards)
        merged = _merged(sharded, parts, read)
        with cluster(where):
            write(table_of(_computed(merged)))


def _check_alike(paths: Sequence[Path], parts: Sequence[Part]) -> None:
    """Refuse parts of several answers, shards that are there twice, and those that are missing."""
    first, there = parts[0], dict[int, Path]()
    for path, part in zip(paths, parts, strict=True):
        for what, one, other in (
            ("shards", first.shards, part.shards),
            ("commits", first.commits, part.commits),
            ("question", first.question, part.question),
        ):
            if one != other:
                raise PartError(
                    f"{printable(path)} {_DIFFERS[what].format(other, one)} {printable(paths[0])}"
                )
        if part.shard in there:
            raise PartError(
                f"{printable(there[part.shard])} and {printable(path)} are both shard {part.shard}; "
                "give each once"
            )
        there[part.shard] = path
    missing = [*islice((shard for shard in range(first.shards) if shard not in there), _MAX_NAMED)]
    if missing:
        more = first.shards - len(there) - len(missing)
        named = ", ".join(map(str, missing)) + (f" and {more} more" if more else "")
        raise PartError(
            f"of {first.shards} shards, {named} {'is' if len(missing) == 1 else 'are'} missing; expected a "
            f"part of each, such as spiketape stats ... --shard {missing[0]}/{first.shards} writes"
        )


def _opened(location: str | None, part: Part) -> Recording:
    if location is not None:
        return open_shown(location)
    if is_url(part.location):
        raise click.UsageError(
            f"the recording was at {printable(part.location)}; no address from a file is opened unasked: "
            "say where it is with --recording PATH"
        )
    try:
        return open_shown(part.location)
    except RecordingNotFoundError as error:
        raise PartError(f"{printable(error)}; say where the recording is with --recording PATH") from error


def _check_commits(recording: Recording, part: Part) -> None:
    """Refuse a recording that is not the one, or not as it was, when the parts were made."""
    found = commits_of(recording)
    if found == part.commits:
        return
    place = printable(recording.location)
    if [each.recording_id for each in found] != [each.recording_id for each in part.commits]:
        raise PartError(f"the recording at {place} is another one than that of the parts")
    here, then = ([str(each.number) for each in commits] for commits in (found, part.commits))
    raise PartError(
        f"the recording at {place} is not as it was when the parts were made: commit {', '.join(here)} is "
        f"there, the parts are of commit {', '.join(then)}, in the form it had then; compute all shards again"
    )


def _merged(sharded: Sharded, paths: Sequence[Path], parts: Sequence[Part]) -> xr.Dataset:
    results: dict[Any, Any] = {}
    for path, part in zip(paths, parts, strict=True):
        keys = {name_of(key): key for key in sharded.keys(part.shard)}
        if keys.keys() != part.results.keys():
            raise PartError(
                f"{printable(path)} holds results of other tasks than shard {part.shard} has here: it was "
                "made by other versions of spiketape or dask, or altered; compute it again"
            )
        results |= {key: part.results[name] for name, key in keys.items()}
    return sharded.merged(results)


def _computed(merged: xr.Dataset) -> xr.Dataset:
    try:
        computed: tuple[xr.Dataset] = compute_here(merged)
    except RecordingFormatError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise PartError(
            f"the parts do not fit together ({printable(error)}); one of them was altered: compute them again"
        ) from error
    return computed[0]
