"""The kernel compiles for GPUs, of which there need be none here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TYPES = ("*u8", "*i8", "*i16", "*i32", "*i64", "*fp16", "*bf16", "*fp32", "*fp64")
# Of all kinds of values for the oldest, which knows the fewest; of one kind for all.
FEW = {75: TYPES, 80: ("*fp32",), 90: ("*fp32",)}
ALL = dict.fromkeys(FEW, TYPES)

# In a process of its own, as other tests have Triton interpret the kernel.
COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile as compile_kernel
from recorder.capture.device.kernel import BLOCK_NEURONS, _pack

for frames, capability in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    types = {"frames": frames, "frame_stride": "i64", "neuron_stride": "i32", "before": "*u8", "rows": "*u8",
             "after": "*u8", "verdicts": "*i64", "BLOCK": "constexpr"}
    signature = {name: types.get(name, "i32") for name in _pack.arg_names}
    source = ASTSource(_pack, signature, {(_pack.arg_names.index("BLOCK"),): BLOCK_NEURONS})
    compiled = compile_kernel(source, target=GPUTarget("cuda", capability, 32))
    assert compiled.asm["cubin"]
    print(frames, capability)
"""


@pytest.mark.parametrize("wanted", [FEW, pytest.param(ALL, marks=pytest.mark.long)], ids=["few", "all"])
def test_the_kernel_compiles_for_gpus(wanted: dict[int, tuple[str, ...]], tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="no Triton")
    pairs = [(one, f"{capability}") for capability, types in wanted.items() for one in types]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-c", COMPILE, *(word for each in pairs for word in each)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[:-1] == [" ".join(each) for each in pairs]
