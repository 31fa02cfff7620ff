"""The commands that keep recordings: ``verify``, ``digest``, ``pack`` and ``recover``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from analysis.cli.clusters import cluster
from analysis.cli.progress import Progress, progress
from analysis.cli.running import complete_path, compute_here, errors_as_messages, on_cluster
from analysis.display import printable, uncalled_text
from analysis.keeping import find_digest, find_problems
from analysis.members import ranks_of
from analysis.opening.readers import open_readers
from recorder.format import RecordingMetadata
from recorder.keeping import Problem, pack_recording, plan_recovery
from recorder.keeping import recover as recover_recording
from recorder.keeping.digest import join_recordings
from recorder.keeping.recovery import Recovery
from recorder.stores import ByteStore, open_store
from recorder.stores.rank_names import rank_location
from recorder.stores.redaction import shown_address
from recorder.tape import TapeReader


@click.command()
@click.argument("path", shell_complete=complete_path)
@click.option("--digest", "expected", metavar="HEX", help="The digest that the recording should have.")
@on_cluster
def verify(path: str, expected: str | None, where: str | None) -> None:
    """Check everything in the recording at PATH against what was promised when it was recorded.

    Reads every byte and lists everything that is wrong: chunks, counts, segments, trials, documents. A
    recording that is still growing is checked as of its last commit. A packed one is also compared with the
    digest that it states.
    """
    _check_digest(expected)
    with errors_as_messages(), cluster(where):
        readers = open_readers(path)
        found = [list(map(str, problems)) for problems in _find_all_problems(readers)]
        if not any(found):
            found = [
                _other_digest(reader, reader.metadata.digest, reader.store.location) for reader in readers
            ]
        if expected and not any(found):
            found[0] += _other_digest(readers, expected, shown_address(path))
    for reader, problems in zip(readers, found, strict=True):
        _show_problems(reader, problems)
    if any(found):
        sys.exit(1)


def _find_all_problems(readers: list[TapeReader]) -> list[list[Problem]]:
    """Problems of each recording; those of what Ctrl-C has cut short are listed."""
    found: dict[Problem, None] = {}

    def note(result: Any) -> None:
        if isinstance(result, list):
            found.update(dict.fromkeys(problem for problem in result if isinstance(problem, Problem)))

    def list_found() -> str:
        for problem in found:
            click.echo(printable(problem))
        return f"{len(found)} problem(s) so far, nothing is known of the rest"

    problems = []
    with progress("verifying", left=list_found) as work:
        for number, reader in enumerate(readers, 1):
            work.begin(f"verifying {number} of {len(readers)}" if len(readers) > 1 else "verifying", "tasks")
            problems.append(find_problems(reader, partial(work.compute, note=note)))
    return problems


def _other_digest(readers: TapeReader | list[TapeReader], expected: str, location: str) -> list[str]:
    """Say that the digest is another one than expected, if one is expected."""
    digest = _find_digest(readers) if expected else ""
    return [f"{location} has the digest {digest}, expected {expected}"] if digest != expected.lower() else []


def _show_problems(reader: TapeReader, problems: list[str]) -> None:
    for problem in problems:
        click.echo(printable(problem))
    metadata = reader.metadata
    frames = sum(layer.frames for layer in metadata.layers)
    lost = sum(layer.lost_frames for layer in metadata.layers)
    marked = f" of which {lost} are marked lost" if lost else ""
    extent = (
        f"{len(metadata.layers)} layers, {frames} frames{marked}, {metadata.state}, "
        f"commit {metadata.commit_number}"
    )
    if metadata.uncalled:
        extent += f", not recorded at the end: {uncalled_text(metadata.uncalled)}"
    sound = f"{len(problems)} problem(s)" if problems else "sound"
    click.echo(printable(f"{reader.store.location}: {sound} ({extent})"), err=True)


@click.command()
@click.argument("path", shell_complete=complete_path)
@on_cluster
def digest(path: str, where: str | None) -> None:
    """Print the digest of the recording at PATH, to quote: SHA-256 over all that was recorded.

    It is the same however the recording is stored: as recorded, packed, zipped, in a bucket. The ranks of a
    distributed run have one digest together.
    """
    with errors_as_messages(), cluster(where):
        click.echo(_find_digest(open_readers(path)))


@click.command()
@click.argument("source", shell_complete=complete_path)
@click.argument("destination", shell_complete=complete_path)
def pack(source: str, destination: str) -> None:
    """Rewrite the closed recording at SOURCE for keeping: few files, checked, with its digest.

    DESTINATION is a folder, a bucket's URL or a file whose name ends in .zip; nothing must be there. What was
    cut short goes on when it is asked for again. Spikes are copied as they are stored.
    """
    with errors_as_messages():
        readers = open_readers(source)
        places = _places(readers, destination)
        with progress("packing", "chunks", left="ask again to go on from here") as work:
            digests = [
                _pack(reader, place, work).digest for reader, place in zip(readers, places, strict=True)
            ]
        click.echo(join_recordings(digests))
    click.echo(f"{printable(shown_address(destination))}: packed, with the digest above", err=True)


def _places(readers: list[TapeReader], destination: str) -> list[str]:
    """Places to which recordings are packed: the ranks of a run beside each other, as they were recorded."""
    if len(readers) == 1:
        return [destination]
    ranks = ranks_of(readers)
    if ranks is None:
        raise click.UsageError(
            "these recordings are not the ranks of one run: pack each under a name of its own"
        )
    return [rank_location(destination, record.rank, record.ranks) for record in ranks]


def _pack(reader: TapeReader, destination: str, work: Progress) -> RecordingMetadata:
    def read_back(packed: TapeReader) -> str:
        work.begin("reading back", "tasks")
        return find_digest(packed, work.compute)

    def archiving(done: int, total: int) -> None:
        if not done:
            work.begin("writing the archive", "MiB")
        work(done >> 20, total >> 20)

    work.begin("packing", "chunks")
    return pack_recording(reader, destination, progress=work, archiving=archiving, find_digest=read_back)


@click.command()
@click.argument("path", shell_complete=complete_path)
@click.option("--apply", is_flag=True, help="Do it. Without this, only say what would be done.")
@click.option(
    "--cut", is_flag=True, help="Where committed frames are damaged, cut all layers before that step."
)
@click.option(
    "--mark-lost",
    is_flag=True,
    help="Where committed frames are damaged, mark their steps lost in that layer, and keep everything else.",
)
@click.option("--take-over", is_flag=True, help="The writer that cannot be seen from here is gone.")
def recover(path: str, apply: bool, cut: bool, mark_lost: bool, take_over: bool) -> None:
    """Close the interrupted recording at PATH, and drop what lies behind its last commit.

    Says what would be done; --apply does it. Committed frames are never touched, unless they are damaged and
    --cut or --mark-lost is given. The recording is checked before and after.

    Steps marked lost are a gap in their layer: figures leave them out, spikes and slots alike. `spiketape
    info` shows how many frames are lost.
    """
    if cut and mark_lost:
        raise click.UsageError("--cut and --mark-lost are two ways to go on; choose one")
    with errors_as_messages():
        reader = _reader(path)
        recovery = plan_recovery(reader, _find_problems(reader), mark_lost=mark_lost)
        for line in _recovery_lines(reader, recovery):
            click.echo(printable(line))
        if not apply:
            click.echo("nothing was changed; pass --apply to do this", err=True)
            if recovery.problems or recovery.lost or recovery.cut_step is not None:
                sys.exit(1)
            return
        recover_recording(_store(path), recovery, reader.metadata.commit_number, cut=cut, take_over=take_over)
        problems = _find_problems(_reader(path))
    for problem in problems:
        click.echo(printable(problem))
    click.echo(f"{printable(reader.store.location)}: closed{'' if problems else ' and sound'}", err=True)
    if problems:
        sys.exit(1)


def _store(path: str) -> ByteStore:
    return open_store(path, read_only=False)


def _reader(path: str) -> TapeReader:
    return TapeReader.open(open_store(path, read_only=True))


def _find_problems(reader: TapeReader) -> list[Problem]:
    return find_problems(reader, compute_here)


def _find_digest(readers: TapeReader | list[TapeReader]) -> str:
    return find_digest(readers, compute_here)


def _recovery_lines(reader: TapeReader, recovery: Recovery) -> Iterator[str]:
    """Lines that say what recovering would do."""
    metadata = reader.metadata
    yield f"{metadata.state}, commit {metadata.commit_number} of {metadata.committed}"
    for problem in recovery.problems:
        yield f"damaged, and not to be mended: {problem}"
    for problem in recovery.rewritten:
        yield f"write again from the rest: {problem}"
    if recovery.cut_step is not None:
        yield f"cut before step {recovery.cut_step}, as frames from there on are damaged"
        yield "or mark only what is damaged as lost, with --mark-lost"
    for loss in recovery.lost:
        steps = ", ".join(f"{first} to {last}" for first, last in loss.steps)
        what = "" if loss.signal is None else f"signal {loss.signal!r} of "
        what = "operations" if loss.name is None else f"{what}layer {loss.name!r}"
        yield f"mark {loss.frames} frames of {what} lost: steps {steps}"
    for layer in recovery.layers:
        lost = layer.committed - layer.frames
        yield f"keep {layer.frames} frames of layer {layer.name!r}" + (f", drop {lost}" if lost else "")
    for key in recovery.dropped:
        yield f"drop {key}"
    for key in recovery.foreign:
        yield f"leave {key}, which is no part of a recording"


def _check_digest(digest: str | None) -> None:
    if digest is not None and not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise click.BadParameter(
            f"{digest!r} is no digest; expected the 64 hexadecimal digits of one", param_hint="--digest"
        )
