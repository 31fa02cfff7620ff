"""Axes: what is steps, samples and neurons in what a layer puts out, said by the user or assumed aloud."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from recorder import SpikeOutput
from recorder.frameworks import SpikingLayerError, find_spiking_layers
from tellers import C, H, N, T, Teller, record, spikes


def read(output: Any, where: SpikeOutput) -> torch.Tensor:
    return find_spiking_layers(Teller(), {"": where})[""].read_spikes(output)


# -- patterns ----------------------------------------------------------------------------------------


ARRANGED = spikes(T, N, C, H)
PATTERNS: list[tuple[str, dict[str, int], torch.Tensor, torch.Tensor]] = [
    ("n ...", {}, ARRANGED[0], ARRANGED[:1]),
    ("t n ...", {}, ARRANGED, ARRANGED),
    ("n t ...", {}, ARRANGED.transpose(0, 1), ARRANGED),
    ("n ... t", {}, ARRANGED.permute(1, 2, 3, 0), ARRANGED),
    ("(t n) ...", {"num_steps": T}, ARRANGED.flatten(0, 1), ARRANGED),
    ("(t n) ...", {"batch_size": N}, ARRANGED.flatten(0, 1), ARRANGED),
    ("(n t) ...", {"batch_size": N}, ARRANGED.transpose(0, 1).flatten(0, 1), ARRANGED),
    ("(n t) ...", {"num_steps": T}, ARRANGED.transpose(0, 1).flatten(0, 1), ARRANGED),
    ("t c n ...", {}, ARRANGED.transpose(1, 2), ARRANGED),
    ("c n ...", {}, ARRANGED[0].transpose(0, 1), ARRANGED[:1]),
    ("... n", {}, ARRANGED[0].permute(1, 2, 0), ARRANGED[:1]),
    ("...", {}, ARRANGED[0, 0], ARRANGED[:1, :1]),
    ("t ...", {}, ARRANGED[:, 0], ARRANGED[:, :1]),
    ("... t", {}, ARRANGED[:, 0].permute(1, 2, 0), ARRANGED[:, :1]),
    ("t n c h", {}, ARRANGED, ARRANGED),
    ("h t c n", {}, ARRANGED.permute(3, 0, 2, 1), ARRANGED.permute(0, 1, 3, 2)),
    ("n (c t) ...", {"num_steps": T}, ARRANGED.permute(1, 2, 0, 3).flatten(1, 2), ARRANGED),
    ("N", {}, ARRANGED[0], ARRANGED[:1]),
    ("TN", {}, ARRANGED, ARRANGED),
    ("NT", {}, ARRANGED.transpose(0, 1), ARRANGED),
    ("N*T", {"batch_size": N}, ARRANGED.transpose(0, 1).flatten(0, 1), ARRANGED),
]


@pytest.mark.parametrize(("axes", "sizes", "output", "expected"), PATTERNS, ids=lambda value: str(value)[:12])
def test_a_pattern_says_which_axes_are_steps_samples_and_neurons(
    tmp_path: Path, axes: str, sizes: dict[str, int], output: torch.Tensor, expected: torch.Tensor
) -> None:
    where = SpikeOutput(axes, **sizes)
    assert torch.equal(read(output, where), expected)
    monitor = record(tmp_path, [output, output], where)
    recorded = np.stack(monitor.s[""][:])
    assert np.array_equal(recorded, torch.cat([expected, expected]).numpy())
    silent = (expected.flatten(0, 1).sum(0) == 0).float().mean()
    assert monitor.get_nonfire_ratio() == pytest.approx(float(silent))


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ("", "no axis is named"),
        ("NTC", "'NTC' is no name in small letters"),
        ("t n n", "'n' occurs twice"),
        ("t ... n ...", "'...' occurs twice"),
        ("(t n ...", "brackets do not match"),
        ("t) n", "brackets do not match"),
        ("(t (n c))", "brackets do not match"),
        ("t () n", "a bracket is empty"),
        ("t (n ...)", "'...' is in a bracket"),
        ("t, n", "'t,' is no name in small letters"),
    ],
)
def test_a_bad_pattern_is_one_error_that_shows_good_ones(axes: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as error:
        SpikeOutput(axes)
    assert repr(axes) in str(error.value)
    for example in ("'n ...'", "'n ... t'", "'(t n) ...'"):
        assert example in str(error.value)


@pytest.mark.parametrize(
    ("axes", "sizes"), [("(t n) ...", {}), ("(c h t) n", {"num_steps": 2}), ("(n c) t", {})]
)
def test_brackets_need_all_sizes_but_one(axes: str, sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"cannot be unfolded without sizes.*give batch_size"):
        SpikeOutput(axes, **sizes)


def test_how_a_pattern_is_spelled_makes_no_difference() -> None:
    assert SpikeOutput("TN") == SpikeOutput("t n ...") == SpikeOutput(" t  n ...")
    assert hash(SpikeOutput("NT")) == hash(SpikeOutput("n t ..."))
    assert SpikeOutput("TN") != SpikeOutput("NT")
    assert repr(SpikeOutput("n t ...", item=1)) == "SpikeOutput('n t ...', item=1)"


@pytest.mark.parametrize("folded", ["(n t) ...", "(t n) ..."])
def test_a_folded_axis_that_is_no_multiple_is_refused(folded: str) -> None:
    with pytest.raises(SpikingLayerError, match=r"shape \[7, 5\].*expected.*a tensor of shape"):
        read(spikes(7, 5), SpikeOutput(folded, num_steps=2))


def test_batch_on_a_later_axis_with_smaller_last_batches(tmp_path: Path) -> None:
    batches = [spikes(T, C, n, H) for n in (N, N, 1, N)]
    monitor = record(tmp_path, batches, SpikeOutput("t c n h"))
    expected = [step for batch in batches for step in batch.transpose(1, 2).numpy()]
    recorded = monitor.s[""][:]
    assert [step.shape for step in recorded] == [step.shape for step in expected]
    assert all(np.array_equal(one, other) for one, other in zip(recorded, expected, strict=True))


# -- items -------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    membrane: torch.Tensor
    spikes: Any


@dataclass
class Answer:
    loss: float
    logits: Any


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


BATCH = spikes(N, C)
MEMBRANE = torch.full((N, C), 0.3)
NESTED: list[tuple[Any, Any]] = [
    ("spikes", {"membrane": MEMBRANE, "spikes": BATCH}),
    ("spikes", OrderedDict(membrane=MEMBRANE, spikes=BATCH)),
    ("spikes", Pair(MEMBRANE, BATCH)),
    (1, Pair(MEMBRANE, BATCH)),
    ("logits", Answer(0.1, BATCH)),
    ("logits.spikes", Answer(0.1, Pair(MEMBRANE, BATCH))),
    ("logits.spikes", {"logits": {"spikes": BATCH}}),
    (("out", 0), {"out": [BATCH, MEMBRANE, None]}),
    ((1, 0), (MEMBRANE, (BATCH, MEMBRANE))),
    (("a.b",), {"a.b": BATCH}),
    ((7,), {7: BATCH}),
    ("state.s", Plain(state=Plain(s=BATCH))),
]


@pytest.mark.parametrize(("item", "output"), NESTED, ids=lambda value: str(value)[:12])
def test_spikes_may_lie_anywhere_in_what_is_put_out(item: Any, output: Any) -> None:
    assert torch.equal(read(output, SpikeOutput("n ...", item=item)), BATCH[None])


def test_a_path_never_leads_into_a_tensor() -> None:
    for item in ("T", "data", (0, 0), ("0",)):
        with pytest.raises(SpikingLayerError, match="expected"):
            read((spikes(N, C), MEMBRANE) if item == (0, 0) else spikes(N, C), SpikeOutput(item=item))


@pytest.mark.parametrize("item", ["", "a..b", (), (0, -1), True, 1.5, ["a"], ("a", None)])
def test_a_bad_item_is_refused(item: Any) -> None:
    with pytest.raises(ValueError, match=r"item is .*expected None, 'first', an index"):
        SpikeOutput(item=item)


@pytest.mark.parametrize(
    ("where", "wrap"),
    [
        (SpikeOutput("t n ...", item=None), lambda steps: steps),
        (SpikeOutput("t n ...", item=None), tuple),
        (SpikeOutput("t n ...", item="out"), lambda steps: {"out": steps}),
        (SpikeOutput("t n ...", item=1), lambda steps: (None, steps)),
    ],
)
def test_a_list_of_steps_is_all_its_steps(
    tmp_path: Path, where: SpikeOutput, wrap: Callable[[Any], Any]
) -> None:
    steps = list(spikes(T, N, C))
    monitor = record(tmp_path, [wrap(steps)], where)
    assert np.array_equal(np.stack(monitor.s[""][:]), torch.stack(steps).numpy())


@pytest.mark.parametrize("where", [None, SpikeOutput("t n ...")])
def test_a_list_that_may_be_steps_or_spikes_and_states_is_refused_with_both_ways_out(
    tmp_path: Path, where: SpikeOutput | None
) -> None:
    steps = list(spikes(T, N, C))
    with pytest.raises(SpikingLayerError, match=r"Are these 4 steps.*item=0 if the first") as error:
        record(tmp_path, [steps], where)
    assert torch.equal(read(steps, hinted(error.value)), torch.stack(steps))
    assert read(steps, SpikeOutput(item=0)).shape == (1, N, C)


# -- hints -------------------------------------------------------------------------------------------


def hinted(error: Exception) -> SpikeOutput:
    """The output that an error proposes."""
    found = re.search(r"layers=\{'': (SpikeOutput\(.*?\))\}", str(error))
    assert found, str(error)
    return eval(found[1], {"SpikeOutput": SpikeOutput})  # noqa: S307 - this is what a user would paste


FITTING: list[tuple[SpikeOutput, Any]] = [
    (SpikeOutput("t n ..."), spikes(C)),
    (SpikeOutput("t n ...", item=0), spikes(T, N, C)),
    (SpikeOutput("n ...", item=None), (BATCH, MEMBRANE)),
    (SpikeOutput("n ...", item=None), (MEMBRANE, BATCH)),
    (SpikeOutput(), {"membrane": MEMBRANE, "spikes": BATCH}),
    (SpikeOutput(), Answer(0.1, Pair(MEMBRANE, BATCH))),
    (SpikeOutput(), ((MEMBRANE, (BATCH,)),)),
    (SpikeOutput(), {"first": BATCH}),
    (SpikeOutput(), {"a.b": BATCH}),
    (SpikeOutput(), Plain(s=BATCH)),
    (SpikeOutput("(n t) ...", num_steps=2), spikes(7, C)),
    (SpikeOutput("n t c h w", item=None), BATCH),
    (SpikeOutput("n ..."), spikes(1)[0]),
    (SpikeOutput("t n ...", item="out"), {"in": list(spikes(T, N, C))}),
]


@pytest.mark.parametrize(("where", "output"), FITTING, ids=lambda value: str(value)[:12])
def test_a_hint_names_what_works_for_that_very_output(
    tmp_path: Path, where: SpikeOutput, output: Any
) -> None:
    with pytest.raises(SpikingLayerError) as error:
        read(output, where)
    proposed = hinted(error.value)
    assert set(read(output, proposed).unique().tolist()) <= {0, 1}, "a membrane is proposed where spikes are"
    record(tmp_path, [output], proposed)


@pytest.mark.parametrize("output", [None, 1.0, (), "spikes", {"loss": 0.5}, torch.ones(2, 2).to_sparse()])
def test_where_nothing_fits_no_hint_pretends_so(output: Any) -> None:
    with pytest.raises(SpikingLayerError) as error:
        read(output, SpikeOutput("t n ..."))
    assert "SpikeOutput(" not in str(error.value)
