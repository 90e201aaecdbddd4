"""cuda.core: devices, streams, events, memory, programs, launches."""

import gc
import threading

import numpy as np
import pytest
from cuda.core import (
    LEGACY_DEFAULT_STREAM,
    PER_THREAD_DEFAULT_STREAM,
    Buffer,
    Device,
    DeviceMemoryResource,
    DeviceMemoryResourceOptions,
    EventOptions,
    LaunchConfig,
    Linker,
    LinkerOptions,
    ManagedMemoryResource,
    ObjectCode,
    PinnedMemoryResource,
    Program,
    ProgramOptions,
    Stream,
    StreamOptions,
    VirtualMemoryResource,
    VirtualMemoryResourceOptions,
    launch,
)
from cuda.core.utils import StridedMemoryView
from kernels import code, kernel, over, pinned, read, run, sent

COUNT = 1000


# Devices.


def test_devices_are_listed():
    devices = Device.get_all_devices()
    assert [int(device) for device in devices] == [0, 1]
    assert len({device.uuid for device in devices}) == 2
    assert Device(0) is Device(0) and Device(0) != Device(1)


def test_a_device_has_its_properties(device):
    properties = device.properties
    values = {name: getattr(properties, name) for name in dir(properties) if not name.startswith("_")}
    assert len(values) > 100
    assert (values["compute_capability_major"], values["compute_capability_minor"]) == tuple(device.compute_capability)
    assert values["warp_size"] == 32 and values["max_threads_per_block"] == 1024
    assert values["multiprocessor_count"] > 0 and values["unified_addressing"]
    assert device.arch == f"{device.compute_capability[0]}{device.compute_capability[1]}"
    assert device.name


def test_what_goes_by_the_runtime_in_the_package(device):
    """Two methods use NVIDIA's runtime, which is linked into cuda.bindings and works with NVIDIA's driver alone."""
    for ask in (device.sync, lambda: device.pci_bus_id):
        with pytest.raises(Exception, match="cudaErrorSymbolNotFound"):
            ask()


def test_an_absent_device():
    with pytest.raises(ValueError):
        Device(2)


def test_the_current_device(device):
    assert Device().device_id == device.device_id
    other = Device(1 - device.device_id)
    other.set_current()
    assert Device() == other
    device.set_current()


def test_peers():
    assert Device(0).can_access_peer(Device(1)) in (True, False)


def test_resources_of_a_device(device):
    resources = device.resources
    assert resources.sm.sm_count == device.properties.multiprocessor_count


# Streams and events.


def test_streams(device):
    stream = device.create_stream()
    assert stream.is_nonblocking and stream.device == device and stream.context == device.context
    assert stream.__cuda_stream__()[1] == int(stream.handle)
    borrowed = Stream.from_handle(int(stream.handle))
    assert borrowed == stream and hash(borrowed) == hash(stream)
    blocking = device.create_stream(options=StreamOptions(nonblocking=False))
    assert not blocking.is_nonblocking and blocking != stream
    blocking.close(), stream.close()
    assert stream.is_closed


def test_priorities(device):
    made = [device.create_stream(options=StreamOptions(priority=priority)) for priority in (0, -1)]
    assert [stream.priority for stream in made] == [0, -1]
    with pytest.raises(ValueError):
        device.create_stream(options=StreamOptions(priority=7))


@pytest.mark.parametrize("default", [LEGACY_DEFAULT_STREAM, PER_THREAD_DEFAULT_STREAM], ids=["legacy", "per thread"])
def test_default_streams(device, default):
    out = device.allocate(4 * COUNT, stream=default)
    run(default, over(COUNT), "fill", out, 3, np.uint64(COUNT))
    default.sync()
    np.testing.assert_array_equal(read(default, out, np.int32), np.arange(COUNT) + 3)
    out.close(default)


def test_events(device, stream):
    event = stream.record()
    event.sync()
    assert event.is_done and not event.is_timing_enabled and event.device == device
    other = device.create_stream()
    other.wait(event), other.wait(stream), other.sync()
    blocking = device.create_event(EventOptions(blocking_sync=True))
    assert blocking.is_blocking_sync and blocking.is_done
    stream.record(blocking)
    blocking.sync()
    assert event != blocking and len({event, blocking}) == 2


def test_elapsed_time(device, stream):
    begin, end = (device.create_event(EventOptions(timing_enabled=True)) for _ in range(2))
    with pytest.raises(RuntimeError, match="not been recorded|recorded"):
        end - begin
    out = device.allocate(4 * COUNT, stream=stream)
    stream.record(begin)
    run(stream, over(COUNT), "fill", out, 0, np.uint64(COUNT))
    stream.record(end)
    end.sync()
    assert end - begin >= 0
    with pytest.raises(RuntimeError):
        end - stream.record()


def test_events_order_streams(device):
    """What one stream writes, the other goes on with, many times."""
    first, second = device.create_stream(), device.create_stream()
    out = device.allocate(4 * COUNT, stream=first)
    run(first, over(COUNT), "fill", out, 0, np.uint64(COUNT))
    for _ in range(20):
        second.wait(first)
        run(second, over(COUNT), "add", out, 1, np.uint64(COUNT))
        first.wait(second)
        run(first, over(COUNT), "add", out, 1, np.uint64(COUNT))
    np.testing.assert_array_equal(read(first, out, np.int32), np.arange(COUNT) + 40)


# Memory.


def test_buffers(device, stream):
    buffer = device.allocate(4096, stream=stream)
    assert buffer.size == 4096 and buffer.is_device_accessible and not buffer.is_host_accessible
    assert buffer.device_id == device.device_id and buffer.memory_resource == device.memory_resource
    assert Buffer.from_handle(int(buffer.handle), 4096, owner=buffer).handle == buffer.handle
    buffer.close(stream)
    assert buffer.is_closed


@pytest.mark.parametrize("value, wanted", [(7, np.full(64, 7, np.uint8)), (b"\x01\x02", np.tile([1, 2], 32)), (b"\x01\x02\x03\x04", np.tile([1, 2, 3, 4], 16))], ids=["8", "16", "32"])
def test_fills(device, stream, value, wanted):
    buffer = device.allocate(64, stream=stream)
    buffer.fill(value, stream=stream)
    np.testing.assert_array_equal(read(stream, buffer, np.uint8), wanted)
    with pytest.raises(OverflowError):
        buffer.fill(256, stream=stream)


@pytest.mark.parametrize("size", [1, 1000, 1 << 20, (3 << 20) + 5])
def test_copies(device, stream, size):
    values = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    first = sent(stream, values)
    second = device.allocate(size, stream=stream)
    first.copy_to(second, stream=stream)
    np.testing.assert_array_equal(read(stream, second, np.uint8), values)
    third = first.copy_to(stream=stream)
    np.testing.assert_array_equal(read(stream, third, np.uint8), values)
    with pytest.raises(ValueError):
        second.copy_from(device.allocate(size + 1, stream=stream), stream=stream)


def test_copies_between_devices():
    first, second = Device(0), Device(1)
    values = np.arange(COUNT, dtype=np.int32)
    first.set_current()
    here = sent(first.create_stream(), values)
    second.set_current()
    stream = second.create_stream()
    there = second.allocate(values.nbytes, stream=stream)
    there.copy_from(here, stream=stream)
    np.testing.assert_array_equal(read(stream, there, np.int32), values)


def test_a_pool_of_its_own(device, stream):
    pool = DeviceMemoryResource(device, DeviceMemoryResourceOptions(max_size=1 << 22))
    assert pool.device_id == device.device_id and pool.is_handle_owned and not pool.is_ipc_enabled
    buffers = [pool.allocate(1 << 20, stream=stream) for _ in range(3)]
    assert pool.attributes.used_mem_current >= 3 << 20
    for value, buffer in enumerate(buffers):
        buffer.fill(value, stream=stream)
    assert [read(stream, buffer, np.uint8)[-1] for buffer in buffers] == [0, 1, 2]
    for buffer in buffers:
        buffer.close(stream)
    stream.sync()
    assert pool.attributes.used_mem_current == 0 and pool.attributes.used_mem_high >= 3 << 20
    pool.close()


def test_a_pool_is_bounded(device, stream):
    pool = DeviceMemoryResource(device, DeviceMemoryResourceOptions(max_size=1 << 20))
    with pytest.raises(Exception, match="OUT_OF_MEMORY"):
        pool.allocate(1 << 30, stream=stream)


def test_out_of_memory(device, stream):
    with pytest.raises(Exception, match="OUT_OF_MEMORY"):
        device.allocate(1 << 50, stream=stream)
    assert device.allocate(64, stream=stream).size == 64


def test_pinned_memory(device, stream):
    buffer, view = pinned(np.arange(COUNT, dtype=np.int32))
    assert buffer.is_host_accessible and buffer.is_device_accessible
    run(stream, over(COUNT), "add", buffer, 5, np.uint64(COUNT))
    stream.sync()
    np.testing.assert_array_equal(view, np.arange(COUNT) + 5)


@pytest.mark.parametrize("make", [PinnedMemoryResource, ManagedMemoryResource])
def test_pools_are_of_device_memory(device, make):
    """Others are not there: the driver says so, or cuda.core by the device's attributes."""
    assert not device.properties.host_memory_pools_supported
    with pytest.raises(Exception, match="NOT_SUPPORTED|does not support managed allocations"):
        make()


def test_virtual_memory(device, stream):
    resource = VirtualMemoryResource(device, VirtualMemoryResourceOptions(handle_type=None))
    buffer = resource.allocate(1 << 20, stream=stream)
    run(stream, over(COUNT), "fill", buffer, 1, np.uint64(COUNT))
    assert read(stream, buffer, np.int32)[COUNT - 1] == COUNT
    grown = resource.modify_allocation(buffer, 8 << 20)
    assert grown.size >= 8 << 20
    assert read(stream, grown, np.int32)[COUNT - 1] == COUNT
    grown.close(stream)


def test_exchange_formats(device, stream):
    buffer = device.allocate(64, stream=stream)
    assert buffer.__dlpack_device__() == (2, device.device_id)
    view = StridedMemoryView.from_dlpack(buffer, stream_ptr=int(stream.handle))
    assert view.ptr == int(buffer.handle) and view.is_device_accessible
    host, _ = pinned(np.arange(16, dtype=np.int32))
    assert StridedMemoryView.from_any_interface(host, stream_ptr=-1).ptr == int(host.handle)


def test_memory_is_given_back(device, stream):
    """Buffers that nobody holds any more do not add up."""
    for _ in range(50):
        device.allocate(64 << 20, stream=stream)
        gc.collect()
    stream.sync()


# Programs.


@pytest.mark.parametrize("kind, dtype", [("float", np.float32), ("double", np.float64), ("int", np.int32)])
def test_templates(device, stream, kind, dtype):
    name = f"saxpy<{kind}>"
    compiled = code(names=("saxpy<float>", "saxpy<double>", "saxpy<int>"))
    x, y = (np.arange(COUNT, dtype=dtype) * k for k in (1, 3))
    buffers = [sent(stream, x), sent(stream, y), device.allocate(x.nbytes, stream=stream)]
    launch(stream, over(COUNT), compiled.get_kernel(name), dtype(2), *buffers, np.uint64(COUNT))
    np.testing.assert_array_equal(read(stream, buffers[2], dtype), 2 * x + y)


def test_scalars(device, stream):
    out = device.allocate(7 * 8, stream=stream)
    run(stream, LaunchConfig(grid=1, block=1), "scalars", np.int8(-3), np.int16(-300), -70000, np.int64(1 << 40), np.float32(1.5), 2.25, True, out)
    np.testing.assert_array_equal(read(stream, out, np.float64), [-3, -300, -70000, 1 << 40, 1.5, 2.25, 1])


def test_shared_memory(device, stream):
    values = np.arange(256, dtype=np.int32)
    given, out = sent(stream, values), device.allocate(values.nbytes, stream=stream)
    run(stream, LaunchConfig(grid=1, block=256, shmem_size=1024), "reversed", given, out)
    np.testing.assert_array_equal(read(stream, out, np.int32), values[::-1])


def test_a_cooperative_launch(device, stream):
    out = device.allocate(4 * COUNT, stream=stream)
    run(stream, over(COUNT, is_cooperative=True), "fill", out, 9, np.uint64(COUNT))
    np.testing.assert_array_equal(read(stream, out, np.int32), np.arange(COUNT) + 9)


def test_what_a_kernel_is(device):
    fill = kernel("fill")
    assert fill.num_arguments == 3
    assert [(info.offset, info.size) for info in fill.arguments_info] == [(0, 8), (8, 4), (16, 8)]
    attributes = fill.attributes[device]
    assert 0 < attributes.max_threads_per_block <= 1024 and attributes.num_regs > 0
    assert attributes.shared_size_bytes == 0 and attributes.ptx_version >= 50
    assert fill == kernel("fill") and fill != kernel("add")


def test_occupancy(device, stream):
    occupancy = kernel("reversed").occupancy
    many = occupancy.max_active_blocks_per_multiprocessor(128, 0)
    assert many >= occupancy.max_active_blocks_per_multiprocessor(128, 16 << 10) > 0
    assert occupancy.max_potential_block_size(0, 0).max_block_size >= 32
    assert occupancy.available_dynamic_shared_memory_per_block(1, 128) > 0


def test_wrong_launches(device, stream):
    out = device.allocate(64, stream=stream)
    for config in (LaunchConfig(grid=1, block=2048), LaunchConfig(grid=1, block=(1024, 2))):
        with pytest.raises(Exception, match="INVALID_VALUE"):
            run(stream, config, "fill", out, 0, np.uint64(1))
    run(stream, LaunchConfig(grid=1, block=16), "fill", out, 0, np.uint64(16))
    assert read(stream, out, np.int32)[15] == 15


def test_code_from_elsewhere(device, stream, tmp_path):
    ptx = code().code
    (tmp_path / "it.ptx").write_bytes(ptx)
    for made in (ObjectCode.from_ptx(ptx), ObjectCode.from_ptx(str(tmp_path / "it.ptx"))):
        out = device.allocate(4 * COUNT, stream=stream)
        launch(stream, over(COUNT), made.get_kernel("fill"), out, 4, np.uint64(COUNT))
        np.testing.assert_array_equal(read(stream, out, np.int32), np.arange(COUNT) + 4)
    with pytest.raises(Exception, match="NOT_FOUND"):
        ObjectCode.from_ptx(ptx).get_kernel("absent")
    with pytest.raises(Exception, match="INVALID_PTX|INVALID_IMAGE|NO_BINARY"):
        ObjectCode.from_ptx(b"no program").get_kernel("absent")


def test_a_program_that_is_wrong():
    program = Program("extern \"C\" __global__ void f() { this is no C; }", "c++")
    with pytest.raises(Exception, match="COMPILATION"):
        program.compile("ptx")


def test_the_driver_links(device, stream):
    """Parts that are compiled apart; the driver's linker makes one image."""
    options = ProgramOptions(relocatable_device_code=True, arch=f"sm_{device.arch}")
    caller = Program('extern "C" __device__ int twice(int); extern "C" __global__ void calls(int *out) { out[threadIdx.x] = twice(threadIdx.x); }', "c++", options)
    called = Program('extern "C" __device__ int twice(int x) { return 2 * x; }', "c++", options)
    linker = Linker(caller.compile("ptx"), called.compile("ptx"), options=LinkerOptions(arch=f"sm_{device.arch}"))
    image = linker.link("cubin")
    out = device.allocate(4 * 32, stream=stream)
    launch(stream, LaunchConfig(grid=1, block=32), image.get_kernel("calls"), out)
    np.testing.assert_array_equal(read(stream, out, np.int32), 2 * np.arange(32))


def test_the_linker_says_what_is_missing(device):
    options = ProgramOptions(relocatable_device_code=True, arch=f"sm_{device.arch}")
    caller = Program('extern "C" __device__ int twice(int); extern "C" __global__ void calls(int *out) { *out = twice(1); }', "c++", options)
    linker = Linker(caller.compile("ptx"), options=LinkerOptions(arch=f"sm_{device.arch}"))
    with pytest.raises(Exception, match="twice"):
        linker.link("cubin")


def test_ptx_through_the_program(device, stream):
    program = Program(code().code.decode(), "ptx", ProgramOptions(arch=f"sm_{device.arch}"))
    out = device.allocate(4 * COUNT, stream=stream)
    launch(stream, over(COUNT), program.compile("cubin").get_kernel("fill"), out, 2, np.uint64(COUNT))
    np.testing.assert_array_equal(read(stream, out, np.int32), np.arange(COUNT) + 2)


# Threads.


def test_threads_have_their_own_device():
    wrong = []

    def work(ordinal):
        try:
            device = Device(ordinal % 2)
            device.set_current()
            stream = device.create_stream()
            for round_ in range(10):
                out = device.allocate(4 * COUNT, stream=stream)
                run(stream, over(COUNT), "fill", out, ordinal + round_, np.uint64(COUNT))
                np.testing.assert_array_equal(read(stream, out, np.int32), np.arange(COUNT) + ordinal + round_)
                out.close(stream)
        except BaseException as error:
            wrong.append(error)

    code()
    threads = [threading.Thread(target=work, args=(ordinal,)) for ordinal in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
