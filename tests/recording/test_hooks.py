"""However torch runs a network: it is recorded bit for bit, or refused with a reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from recorder import Monitor
from recorder.frameworks import SpikingLayerError
from recorder.hooks import compiling
from recorder.stores import Folder
from recorder.tape import TapeReader


class Threshold(nn.Module):
    """Spikes wherever its input exceeds 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)


class Spike(torch.autograd.Function):
    """The same, with the gradient of its input."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return (x > 0.5).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class Trainable(Threshold):
    """A layer that a gradient passes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes: torch.Tensor = Spike.apply(x)
        return spikes


def network() -> nn.Sequential:
    return nn.Sequential(Threshold(), nn.Linear(9, 5), Threshold())


def inputs(step: int) -> torch.Tensor:
    return torch.rand(3, 9, generator=torch.Generator().manual_seed(step))


def monitor_of(tmp_path: Path, net: nn.Module, layers: Any = Threshold) -> Monitor:
    return Monitor(net, layers=layers, store=tmp_path / "run.zarr", durability="process", backend="torch")


def check(monitor: Monitor, steps: list[int]) -> None:
    """The first layer's spikes follow from its inputs; the last has as many steps."""
    first, last = monitor.s.values()
    assert len(first) == len(last) == len(steps)
    for recorded, step in zip(first, steps, strict=True):
        assert torch.equal(recorded, (inputs(step) > 0.5).float())
    monitor.close()


def run(net: Callable[[torch.Tensor], torch.Tensor], steps: range) -> None:
    with torch.no_grad():
        for step in steps:
            net(inputs(step))


@pytest.fixture
def compiler() -> Any:
    compiler = pytest.importorskip("torch._dynamo")
    compiler.reset()
    yield compiler
    compiler.reset()


compiled = pytest.mark.filterwarnings("ignore:::torch")
backends = pytest.mark.parametrize("backend", ["eager", "aot_eager"])


@compiled
@backends
def test_a_network_compiled_before_it_is_monitored(tmp_path: Path, compiler: Any, backend: str) -> None:
    net = network()
    fast = torch.compile(net, backend=backend)
    run(fast, range(2))
    monitor = monitor_of(tmp_path, net)
    run(fast, range(2, 4))
    monitor.enable()
    run(fast, range(4, 9))
    monitor.disable()
    run(fast, range(9, 11))
    monitor.enable()
    run(fast, range(11, 13))
    check(monitor, [*range(4, 9), 11, 12])


@compiled
@backends
def test_a_network_compiled_while_it_is_monitored(tmp_path: Path, compiler: Any, backend: str) -> None:
    net = network()
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    fast = torch.compile(net, backend=backend)
    run(fast, range(3))
    run(net, range(3, 5))
    check(monitor, [*range(5)])


@compiled
def test_another_network_of_the_class_was_compiled_before(tmp_path: Path, compiler: Any) -> None:
    run(torch.compile(network(), backend="eager"), range(2))
    net = network()
    fast = torch.compile(net, backend="eager")
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    run(fast, range(4))
    check(monitor, [*range(4)])


@compiled
def test_the_compiled_network_itself_is_monitored(tmp_path: Path, compiler: Any) -> None:
    fast = torch.compile(network(), backend="eager")
    run(fast, range(2))
    monitor = monitor_of(tmp_path, fast)  # type: ignore[arg-type]
    monitor.enable()
    run(fast, range(2, 6))
    check(monitor, [*range(2, 6)])


@compiled
def test_a_network_compiled_in_place(tmp_path: Path, compiler: Any) -> None:
    net = network()
    net.compile(backend="eager")
    run(net, range(2))
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    run(net, range(2, 6))
    check(monitor, [*range(2, 6)])


@compiled
def test_one_layer_is_compiled(tmp_path: Path, compiler: Any) -> None:
    net = network()
    net[0] = torch.compile(net[0], backend="eager")
    run(net, range(2))
    monitor = monitor_of(tmp_path, net, ["0", "2"])
    monitor.enable()
    run(net, range(2, 6))
    check(monitor, [*range(2, 6)])


def test_the_compiler_has_nothing_to_warn_of_in_hooks(tmp_path: Path) -> None:
    code = (
        "import sys, torch, recorder; from torch import nn;"
        "net = nn.Sequential(nn.Linear(3, 3), nn.Threshold(0.5, 0));"
        "m = recorder.Monitor(net, layers=['1'], store=sys.argv[1], threshold=0.5); m.enable();"
        "torch.compile(net, backend='eager')(torch.ones(2, 3)); m.close()"
    )
    root, command = Path(__file__).parents[2], [sys.executable, "-c", code, str(tmp_path / "run.zarr")]
    said = subprocess.run(command, check=True, cwd=root, capture_output=True, text=True).stderr
    assert "Dynamo" not in said


def test_recording_does_not_import_the_compiler(tmp_path: Path) -> None:
    code = (
        "import sys, torch, recorder; from torch import nn;"
        "net = nn.Sequential(nn.Threshold(0.5, 0));"
        "m = recorder.Monitor(net, layers=['0'], store=sys.argv[1]); m.enable();"
        "net(torch.ones(2, 3)); m.close();"
        "assert 'torch._dynamo' not in sys.modules"
    )
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.zarr")], check=True, cwd=root)


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
@pytest.mark.parametrize("whole", [False, True], ids=["a part", "the whole network"])
def test_what_activation_checkpointing_computes_again_is_not_recorded_again(
    tmp_path: Path, reentrant: bool, whole: bool
) -> None:
    net = nn.Sequential(Trainable(), nn.Linear(9, 5), Trainable())
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    for step in range(4):
        x = inputs(step).requires_grad_()
        if whole:
            out = checkpoint(net, x, use_reentrant=reentrant)
        else:
            out = net[2](checkpoint(net[:2], x, use_reentrant=reentrant))
        out.sum().backward()
        assert x.grad is not None
    check(monitor, [*range(4)])


def test_vmap_and_other_transforms_are_refused(tmp_path: Path) -> None:
    net = network()
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    with pytest.raises(
        SpikingLayerError, match=r"layer '0' cannot be recorded here: torch\.func \(vmap, grad"
    ):
        torch.vmap(net)(inputs(0))
    with pytest.raises(SpikingLayerError, match=r"torch\.func"):
        torch.func.grad(lambda x: net(x).sum() + x.sum())(inputs(0))
    run(net, range(3))
    check(monitor, [*range(3)])


def test_a_functional_call_is_recorded(tmp_path: Path) -> None:
    net = network()
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    for step in range(2):
        torch.func.functional_call(net, dict(net.named_parameters()), (inputs(step),))
    check(monitor, [0, 1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tracing_and_scripting_are_refused_while_enabled(tmp_path: Path) -> None:
    net = network()
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    with pytest.raises(SpikingLayerError, match=r"torch\.jit\.trace runs the network once"):
        torch.jit.trace(net, inputs(0))
    with pytest.raises(SpikingLayerError, match=r"torch\.jit\.script cannot script a monitored network"):
        torch.jit.script(net)
    run(net, range(3))
    check(monitor, [*range(3)])
    for make in (torch.jit.script, lambda net: torch.jit.trace(net, inputs(0))):
        with pytest.raises(SpikingLayerError, match="scripted or traced"):
            monitor_of(tmp_path, make(network()))


def test_capturing_a_cuda_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    with monkeypatch.context() as capturing:
        capturing.setattr(torch.cuda, "is_initialized", lambda: True)
        capturing.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(SpikingLayerError, match="a CUDA graph is captured"):
            net(inputs(0))
    run(net, range(2))
    check(monitor, [0, 1])


def test_data_parallel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpikingLayerError, match=r"nn\.DataParallel.*DistributedDataParallel"):
        monitor_of(tmp_path, nn.DataParallel(network()))


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_memory_order_is_not_logical_order(tmp_path: Path, memory: torch.memory_format) -> None:
    net = nn.Sequential(Threshold())
    monitor = monitor_of(tmp_path, net)
    monitor.enable()
    x = (torch.rand(2, 3, 4, 5) > 0.5).float().to(memory_format=memory)
    net(x)
    net(x[:1].expand(2, 3, 4, 5))
    assert torch.equal(monitor.s["0"][0], x)
    assert torch.equal(monitor.s["0"][1], x[:1].expand(2, 3, 4, 5))
    monitor.close()


@pytest.mark.parametrize(
    "name", ["_current_graph_task_id", "_is_tracing", "_functorch.peek_interpreter_stack"]
)
def test_a_torch_without_a_private_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monitor = monitor_of(tmp_path, network())
    *place, attribute = name.split(".")
    monkeypatch.delattr(torch._C._functorch if place else torch._C, attribute)
    with pytest.raises(RuntimeError, match=rf"torch .* has no torch\._C\.{name}.*Use an older torch"):
        monitor.enable()


class Recursive(nn.Module):
    """Calls itself twice, and its last layer once."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.last = Threshold(), Threshold()

    def forward(self, x: torch.Tensor, depth: int = 2) -> torch.Tensor:
        x = self.each(x)
        return self(x, depth - 1) if depth else self.last(x)  # type: ignore[no-any-return]


def test_a_network_that_calls_itself_may_be_run_where_an_exception_is_handled(tmp_path: Path) -> None:
    net = Recursive()
    with monitor_of(tmp_path, net) as monitor:
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            run(net, range(3))
    layers = TapeReader.open(Folder(monitor.store)).layers
    assert [step for row in layers["last"].segments() for step in range(row[1], row[1] + row[2])] == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("FakeTensor", lambda net: torch.export.export(net, (inputs(0),))),
        ("nested tensor", lambda net: net(torch.nested.nested_tensor([*inputs(0)]))),
    ],
)
def test_a_tensor_whose_values_cannot_be_read_is_refused(
    tmp_path: Path, kind: str, call: Callable[[nn.Module], Any], is_first: bool
) -> None:
    net = network()
    with monitor_of(tmp_path, net, ["0"]) as monitor:
        run(net, range(0 if is_first else 2))
        with pytest.raises(SpikingLayerError, match=rf"'0' put out a {kind}, whose values .*disable\(\)"):
            call(net)
        run(net, range(2))
    assert len(monitor.s["0"]) == (2 if is_first else 4)


@pytest.mark.parametrize("missing", ["mark", "set_eval_frame"])
def test_a_compiler_that_may_trace_hooks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def disable(call: Any) -> Any:
        call._torchdynamo_disable = missing != "mark"
        return call

    net = network()
    monitor = monitor_of(tmp_path, net)
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    monitor.enable()
    net(inputs(0))
    if missing == "set_eval_frame":
        monkeypatch.setattr(compiling, "set_eval_frame", None)
        net(inputs(1))  # a torch without a compiler
    # Now it is imported, as by the first call of torch.compile.
    compiler = ModuleType("torch._dynamo")
    compiler.__dict__.update(disable=disable, reset=lambda: None)
    monkeypatch.setitem(sys.modules, "torch._dynamo", compiler)
    with pytest.raises(RuntimeError, match=r"does not know how torch .* keeps hooks out of compiled graphs"):
        net(inputs(2))
    monitor.disable()
    with pytest.raises(RuntimeError, match=r"or record without torch\.compile"):
        monitor.enable()
    assert len(monitor.s["0"]) == (2 if missing == "set_eval_frame" else 1)
