"""What was kept of layers, and questions that need more: each is an error that says what there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from warnings import warn

from analysis.arguments import QuestionError
from analysis.kernels.selecting.selection import Indices
from analysis.kernels.selecting.source import Source
from analysis.questions import PooledPartsWarning
from recorder.format.record.parts import is_flat

# Selected trials that are looked at to find out whether they were kept: a stranger's may be very many.
MOST_LOOKED_AT: Final = 2**16
_SHOWN: Final = 10


def kept_text(source: Source) -> str:
    """Which neurons were kept of a layer, to follow what is said of all; empty where all were."""
    part = source.commit.part
    if part is None or part.neurons is None:
        return ""
    shown = ", ".join(map(_index_text, source.commit.along or ()))
    flat = ", as flat indices in C order" if is_flat(part.neurons) else ""
    return f", of which {part.kept_neurons} neurons were kept, [{shown}]{flat}"


def _index_text(indices: Indices) -> str:
    """Indices along an axis, as they are written between brackets."""
    if isinstance(indices, range):
        return f"{indices.start}:{indices.stop}:{indices.step}"
    return ", ".join(map(str, indices[:20])) + (", …" if len(indices) > 20 else "")


def refuse_left_out(sources: Iterable[Source]) -> None:
    """Raise QuestionError if trials or samples are selected of which nothing was kept of a layer.

    Of trials that are listed, each must have been kept; of a range of them, one at least.
    """
    for source in sources:
        part, selection = source.commit.part, source.selection
        if part is None:
            continue
        if selection.steps is not None or selection.times is not None:
            refuse_counts([[source]], f"select({'time' if selection.steps is None else 'steps'}=...)")
        trials, samples = selection.trials or (), selection.samples or ()
        looked_at = trials[:MOST_LOOKED_AT] if part.trials_every > 1 else ()
        left_out = [trial for trial in looked_at if trial % part.trials_every]
        if left_out and (isinstance(trials, tuple) or len(left_out) == len(trials)):
            raise QuestionError(
                f"trial {left_out[0]} is selected, and of layer {source.layer!r} those trials were kept "
                f"whose number is a multiple of {part.trials_every}: select some of these, or other layers"
            )
        least_kept = samples[-1] if isinstance(samples, tuple) and samples else samples[0] if samples else 0
        if part.samples is not None and least_kept >= part.samples:
            raise QuestionError(
                f"sample {least_kept} is selected, and of layer {source.layer!r} the samples 0 to "
                f"{part.samples - 1} of each batch were kept: select some of these, or other layers"
            )


def refuse_counts(layers: Iterable[Sequence[Source]], what: str) -> None:
    """Raise QuestionError if only counts were kept of a layer, and ``what`` is asked, which needs more."""
    for sources in layers:
        for source in sources:
            if source.commit.counts_only:
                raise QuestionError(
                    f"{what} needs to know when neurons fired, and of layer {source.layer!r} counts were "
                    "kept: how often each neuron fired in each sample of each trial. Ask about other layers, "
                    "with select(layers=...), or record this one without keep='counts'"
                )


def warn_of_other_frames(layers: Sequence[Sequence[Source]]) -> None:
    """Warn if layers are to be pooled of which not the same of the selected samples and trials were kept."""
    if not any(source.commit.part for layer in layers for source in layer):
        return
    for sources in zip(*layers, strict=True):
        limits = {source.layer: _frames_kept(source) for source in sources}
        if len({*limits.values()}) > 1:
            kept = {source.layer: str(source.commit.part or "all") for source in sources}
            shown = [f"{kept[layer]} of {layer!r}" for layer in [*limits][:_SHOWN]]
            more = f" and {len(limits) - _SHOWN} more" if len(limits) > _SHOWN else ""
            warn(
                "layers are pooled of which not the same samples or trials were kept: "
                f"{'; '.join(shown)}{more}. Those of which more was kept weigh more. Keep them apart with "
                "per='layer', or select layers, samples or trials that were kept of all",
                PooledPartsWarning,
                stacklevel=5,
            )
            return


def _frames_kept(source: Source) -> tuple[int | None, int]:
    """Of how many samples, and of every how manieth trial, frames were kept among those that are selected."""
    part, selection = source.commit.part, source.selection
    if part is None:
        return None, 1
    samples, trials = selection.samples, selection.trials
    has_samples = part.samples is None or (samples is not None and max(samples, default=0) < part.samples)
    has_trials = trials is not None and all(
        trial % part.trials_every == 0 for trial in trials[:MOST_LOOKED_AT]
    )
    return None if has_samples else part.samples, 1 if has_trials else part.trials_every
