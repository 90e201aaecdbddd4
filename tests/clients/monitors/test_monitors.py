"""nvitop and gpustat beside programs that use the vGPU: what they show is what these programs are told by CUDA."""

import json
import pathlib
import subprocess
import sys
from contextlib import contextmanager

import gpustat
import nvitop
import pynvml
import pytest

MIB = 1 << 20
BIN = pathlib.Path(sys.executable).parent


@contextmanager
def program(size):
    """One that holds so much memory; what it says of its device."""
    command = [sys.executable, str(pathlib.Path(__file__).parent / "program.py"), str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        said = json.loads(running.stdout.readline())
        assert said["pid"] == running.pid
        yield said
        running.stdin.close()
        assert running.wait(60) == 0


@pytest.fixture
def one():
    with program(100 * MIB) as said:
        yield said


@pytest.fixture
def two(one):
    with program(300 * MIB) as said:
        yield [one, said]


def shown(*command):
    done = subprocess.run([str(BIN / command[0]), *command[1:]], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# pynvml, which both are made with.


def test_the_devices_memory_is_cudas(one):
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    assert (memory.total, memory.free) == (one["total"], one["free"])
    assert memory.used == one["total"] - one["free"] >= 100 * MIB
    assert pynvml.nvmlDeviceGetUUID(device) == one["uuid"] and pynvml.nvmlDeviceGetName(device) == one["name"]
    pynvml.nvmlShutdown()


def test_what_is_not_known_is_told():
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    for ask in (lambda: pynvml.nvmlDeviceGetFanSpeed(device), lambda: pynvml.nvmlDeviceGetTemperature(device, 0), lambda: pynvml.nvmlDeviceGetPowerUsage(device)):
        with pytest.raises(pynvml.NVMLError_NotSupported):
            ask()
    with pytest.raises(pynvml.NVMLError):
        pynvml.nvmlDeviceGetHandleByIndex(pynvml.nvmlDeviceGetCount())
    pynvml.nvmlShutdown()


# nvitop.


def test_nvitops_devices(one):
    devices = nvitop.Device.all()
    assert len(devices) == nvitop.Device.count() == 1
    device = devices[0]
    assert (device.name(), device.uuid()) == (one["name"], one["uuid"])
    assert (device.memory_total(), device.memory_free()) == (one["total"], one["free"])
    assert device.memory_used() == one["total"] - one["free"]
    assert nvitop.Device.cuda_driver_version() == "13.2"
    assert device.temperature() == nvitop.NA and device.power_usage() == nvitop.NA


def test_nvitops_processes(two):
    processes = nvitop.Device(0).processes()
    assert sorted(processes) == sorted(said["pid"] for said in two)
    for said, size in zip(two, (100 * MIB, 300 * MIB)):
        process = processes[said["pid"]]
        assert process.gpu_memory() >= size
        assert "program.py" in process.command() and process.type == "C"
    used = sum(process.gpu_memory() for process in processes.values())
    assert nvitop.Device(0).memory_used() == used


def test_nvitops_snapshots(one):
    snapshot = nvitop.Device(0).as_snapshot()
    assert snapshot.memory_total == one["total"] and snapshot.memory_used == one["total"] - one["free"]
    processes = nvitop.GpuProcess.take_snapshots(nvitop.Device(0).processes().values(), failsafe=True)
    assert [process.pid for process in processes] == [one["pid"]]


def test_nvitops_cuda_devices(one):
    """By CUDA's numbers, which it asks CUDA for in a process of its own."""
    device = nvitop.CudaDevice(0)
    assert device.uuid() == one["uuid"] and device.memory_total() == one["total"]


def test_nvitop_as_a_program(two):
    text = shown("nvitop", "--once", "--ascii")
    for said in two:
        assert str(said["pid"]) in text
    assert "MiB" in text


def test_nvisel_chooses(one):
    assert shown("nvisel", "--count", "1", "--format", "index").strip() == "0"


def test_processes_come_and_go():
    device = nvitop.Device(0)
    assert device.processes() == {} and device.memory_used() == 0
    with program(50 * MIB) as said:
        assert list(device.processes()) == [said["pid"]]
    assert device.processes() == {}


# gpustat.


def test_gpustats_query(two):
    found = gpustat.new_query()
    assert len(found) == 1
    device = found[0]
    assert (device.name, device.uuid) == (two[0]["name"], two[0]["uuid"])
    assert device.memory_total == two[0]["total"] // MIB
    assert device.memory_used == 400
    assert sorted(process["pid"] for process in device.processes) == sorted(said["pid"] for said in two)


def test_gpustat_as_a_program(one):
    device = json.loads(shown("gpustat", "--json"))["gpus"][0]
    assert device["uuid"] == one["uuid"] and device["memory.total"] == one["total"] // MIB
    assert device["memory.used"] == (one["total"] - one["free"]) // MIB
    (process,) = device["processes"]
    assert process["pid"] == one["pid"] and process["gpu_memory_usage"] >= 100
    text = shown("gpustat", "--show-pid", "--no-header")
    assert str(one["pid"]) in text and one["name"] in text
