"""What memory a process may take: of the machine, of its control groups, and by its limits."""

import subprocess
import sys

import pytest
import torch

import ntklens as nl
from ntklens import memory
from ntklens.errors import InputError

V2 = ("0::/job/step\n", "memory.max", "memory.current", "inactive_file")
V1 = ("4:cpu:/\n3:memory:/job/step\n", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.mark.parametrize(("membership", "limit", "used", "cache"), [V2, V1], ids=["v2", "v1"])
def test_control_groups_leave_the_least_of_all_levels(tmp_path, membership, limit, used, cache):
    (tmp_path / "self").write_text(membership)
    base = tmp_path if membership is V2[0] else tmp_path / "memory"
    for folder, limit_value, used_value in (
        ("", "max" if membership is V2[0] else str(2**63 - 4096), 10),
        ("job", "1000", 600),
        ("job/step", "900", 100),
    ):
        (base / folder).mkdir(parents=True, exist_ok=True)
        (base / folder / limit).write_text(f"{limit_value}\n")
        (base / folder / used).write_text(f"{used_value}\n")
    (base / "job" / "memory.stat").write_text(f"anon 5\n{cache} 50\n")
    assert list(memory._of_control_groups(tmp_path, tmp_path / "self")) == [800, 1000 - 600 + 50]


def test_a_group_that_is_mounted_at_the_root_of_a_container(tmp_path):
    """Its path is that of the host, which the container does not see."""
    (tmp_path / "self").write_text("0::/docker/abc\n")
    (tmp_path / "memory.max").write_text("500")
    (tmp_path / "memory.current").write_text("200")
    assert list(memory._of_control_groups(tmp_path, tmp_path / "self")) == [300]


def test_no_control_groups(tmp_path):
    assert list(memory._of_control_groups(tmp_path, tmp_path / "none")) == []


def test_the_largest_number_of_inputs_is_told(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 32 * 10_000**2)
    memory.check_room(10_000, 4)
    with pytest.raises(InputError, match=r"fitting on 10,001 inputs takes 3\.2 GB .* at most 10,000 inputs"):
        memory.check_room(10_001, 4)


def test_small_fits_and_unknown_memory_are_not_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    memory.check_room(2000, 4)
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    memory.check_room(10**6, 4)
    assert memory.available_memory() is None


@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are limited on Linux")
def test_a_limit_of_the_address_space():
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))\n"
        "from ntklens.memory import available_memory; print(0 < available_memory() < 2 << 30)"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout == "True\n"


def test_a_fit_is_refused_before_its_kernel_is_computed(monkeypatch):
    class Untouched(nl.LinearKernel):
        def __call__(self, x1, x2=None):
            raise AssertionError("the kernel was computed")

    monkeypatch.setattr(memory, "available_memory", lambda: 1 << 20)
    for filter in (nl.Ridge(0.1), nl.GradientFlow(1.0)):
        with pytest.raises(InputError, match=r"fitting on 4,000 inputs takes 0\.[46] GB"):
            nl.KernelMachine(Untouched(), filter).fit(torch.rand(4000, 2), torch.zeros(4000, 1))
