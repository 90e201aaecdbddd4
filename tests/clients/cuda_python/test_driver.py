"""cuda.bindings.driver: the driver API by its own names."""

import ctypes
import threading

import numpy as np
import pytest
from calls import CudaError, check, launched
from cuda.bindings import driver
from kernels import code

COUNT = 1000
RESULT = driver.CUresult
ATTRIBUTE = driver.CUdevice_attribute


@pytest.fixture
def module(context):
    module = check(driver.cuModuleLoadData(code().code))
    yield module
    check(driver.cuModuleUnload(module))


@pytest.fixture
def stream(context):
    stream = check(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
    yield stream
    check(driver.cuStreamDestroy(stream))


@pytest.fixture
def memory(context):
    """Device memory that is given back."""
    made = []

    def allocate(size):
        made.append(check(driver.cuMemAlloc(size)))
        return made[-1]

    yield allocate
    for pointer in made:
        check(driver.cuMemFree(pointer))


def read(pointer, count=COUNT, dtype=np.int32):
    values = np.empty(count, dtype)
    check(driver.cuMemcpyDtoH(values.ctypes.data, pointer, values.nbytes))
    return values


def function(module, name):
    return check(driver.cuModuleGetFunction(module, name))


FILL = (None, ctypes.c_int, ctypes.c_size_t)


def fill(module, pointer, value, stream=0):
    launched(function(module, b"fill"), 8, 128, (pointer, value, COUNT), FILL, stream)


def test_versions_and_names():
    check(driver.cuInit(0))
    assert check(driver.cuDriverGetVersion()) >= 12000
    assert check(driver.cuGetErrorName(RESULT.CUDA_ERROR_INVALID_VALUE)) == b"CUDA_ERROR_INVALID_VALUE"
    assert b"memory" in check(driver.cuGetErrorString(RESULT.CUDA_ERROR_OUT_OF_MEMORY))
    assert driver.cuInit(7)[0] == RESULT.CUDA_ERROR_INVALID_VALUE


def test_devices(context):
    assert check(driver.cuDeviceGetCount()) == 2
    seen = set()
    for ordinal in range(2):
        device = check(driver.cuDeviceGet(ordinal))
        assert check(driver.cuDeviceGetName(128, device)).rstrip(b"\0")
        seen.add(bytes(check(driver.cuDeviceGetUuid(device)).bytes))
        assert check(driver.cuDeviceTotalMem(device)) > 1 << 28
        place = check(driver.cuDeviceGetPCIBusId(32, device)).rstrip(b"\0")
        assert int(check(driver.cuDeviceGetByPCIBusId(place))) == ordinal
    assert len(seen) == 2
    assert driver.cuDeviceGet(2)[0] == RESULT.CUDA_ERROR_INVALID_DEVICE


def test_every_attribute(context):
    device = check(driver.cuDeviceGet(0))
    answered = 0
    for attribute in ATTRIBUTE:
        code_, value = driver.cuDeviceGetAttribute(attribute, device)
        assert code_ in (RESULT.CUDA_SUCCESS, RESULT.CUDA_ERROR_INVALID_VALUE), attribute
        answered += code_ == RESULT.CUDA_SUCCESS
    assert answered > 120
    assert check(driver.cuDeviceGetAttribute(ATTRIBUTE.CU_DEVICE_ATTRIBUTE_WARP_SIZE, device)) == 32


def test_contexts(context):
    device = check(driver.cuDeviceGet(1))
    made = check(driver.cuCtxCreate(None, 0, device))
    assert check(driver.cuCtxGetCurrent()) == made and int(check(driver.cuCtxGetDevice())) == 1
    assert check(driver.cuCtxGetApiVersion(made)) > 3000
    popped = check(driver.cuCtxPopCurrent())
    assert popped == made and check(driver.cuCtxGetCurrent()) == context
    check(driver.cuCtxPushCurrent(made))
    low, high = check(driver.cuCtxGetStreamPriorityRange())
    assert low >= high
    check(driver.cuCtxSetLimit(driver.CUlimit.CU_LIMIT_STACK_SIZE, 4096))
    assert check(driver.cuCtxGetLimit(driver.CUlimit.CU_LIMIT_STACK_SIZE)) >= 4096
    check(driver.cuCtxDestroy(made))
    check(driver.cuCtxSetCurrent(context))
    assert driver.cuCtxSetCurrent(made)[0] == RESULT.CUDA_ERROR_INVALID_CONTEXT


def test_memory(memory):
    free, total = check(driver.cuMemGetInfo())
    assert 0 < free <= total
    pointer = memory(1 << 20)
    base, size = check(driver.cuMemGetAddressRange(int(pointer) + 100))
    assert (int(base), size) == (int(pointer), 1 << 20)
    check(driver.cuMemsetD8(pointer, 1, 16))
    check(driver.cuMemsetD16(int(pointer) + 16, 0x0202, 8))
    check(driver.cuMemsetD32(int(pointer) + 32, 0x03030303, 4))
    np.testing.assert_array_equal(read(pointer, 48, np.uint8), np.repeat([1, 2, 3], 16))
    check(driver.cuMemsetD2D8(pointer, 64, 9, 8, 4))
    assert read(pointer, 256, np.uint8).reshape(4, 64)[:, :8].min() == 9
    assert driver.cuMemAlloc(1 << 50)[0] == RESULT.CUDA_ERROR_OUT_OF_MEMORY
    assert driver.cuMemAlloc(0)[0] == RESULT.CUDA_ERROR_INVALID_VALUE
    assert driver.cuMemFree(12345)[0] == RESULT.CUDA_ERROR_INVALID_VALUE


@pytest.mark.parametrize("size", [1, 4095, 1 << 20, 5_000_001])
def test_copies(memory, stream, size):
    values = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    first, second = memory(size), memory(size)
    check(driver.cuMemcpyHtoDAsync(first, values.ctypes.data, size, stream))
    check(driver.cuMemcpyDtoDAsync(second, first, size, stream))
    back = np.zeros(size, np.uint8)
    check(driver.cuMemcpyDtoHAsync(back.ctypes.data, second, size, stream))
    check(driver.cuStreamSynchronize(stream))
    np.testing.assert_array_equal(back, values)
    back[:] = 0
    check(driver.cuMemcpy(back.ctypes.data, first, size))
    np.testing.assert_array_equal(back, values)


def test_boxes(memory, context):
    pointer, pitch = check(driver.cuMemAllocPitch(100, 20, 4))
    values = np.arange(2000, dtype=np.uint8).reshape(20, 100)
    copy = driver.CUDA_MEMCPY2D()
    copy.srcMemoryType, copy.srcHost, copy.srcPitch = driver.CUmemorytype.CU_MEMORYTYPE_HOST, values.ctypes.data, 100
    copy.dstMemoryType, copy.dstDevice, copy.dstPitch = driver.CUmemorytype.CU_MEMORYTYPE_DEVICE, pointer, pitch
    copy.WidthInBytes, copy.Height = 100, 20
    check(driver.cuMemcpy2D(copy))
    np.testing.assert_array_equal(read(pointer, pitch * 20, np.uint8).reshape(20, pitch)[:, :100], values)
    copy.WidthInBytes = pitch + 1
    assert driver.cuMemcpy2D(copy)[0] == RESULT.CUDA_ERROR_INVALID_VALUE
    check(driver.cuMemFree(pointer))


def test_pinned_memory(memory, stream, module):
    address = check(driver.cuMemHostAlloc(4 * COUNT, driver.CU_MEMHOSTALLOC_DEVICEMAP))
    view = np.ctypeslib.as_array(ctypes.cast(int(address), ctypes.POINTER(ctypes.c_int32)), (COUNT,))
    pointer = check(driver.cuMemHostGetDevicePointer(address, 0))
    assert check(driver.cuMemHostGetFlags(address)) & driver.CU_MEMHOSTALLOC_DEVICEMAP
    fill(module, pointer, 11, stream)
    check(driver.cuStreamSynchronize(stream))
    np.testing.assert_array_equal(view, np.arange(COUNT) + 11)
    check(driver.cuMemFreeHost(address))
    own = np.zeros(1 << 16, np.uint8)
    check(driver.cuMemHostRegister(own.ctypes.data, own.nbytes, 0))
    assert driver.cuMemHostRegister(own.ctypes.data, own.nbytes, 0)[0] == RESULT.CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED
    check(driver.cuMemHostUnregister(own.ctypes.data))


def test_managed_memory(module, stream):
    pointer = check(driver.cuMemAllocManaged(4 * COUNT, driver.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL))
    view = np.ctypeslib.as_array(ctypes.cast(int(pointer), ctypes.POINTER(ctypes.c_int32)), (COUNT,))
    for value in (1, 2):
        fill(module, pointer, value, stream)
        check(driver.cuStreamSynchronize(stream))
        np.testing.assert_array_equal(view, np.arange(COUNT) + value)
        view[:] = -1
    kind = check(driver.cuPointerGetAttribute(driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_IS_MANAGED, pointer))
    assert kind
    check(driver.cuMemFree(pointer))


def test_memory_in_stream_order(module, stream):
    for value in range(5):
        pointer = check(driver.cuMemAllocAsync(4 * COUNT, stream))
        fill(module, pointer, value, stream)
        values = np.empty(COUNT, np.int32)
        check(driver.cuMemcpyDtoHAsync(values.ctypes.data, pointer, values.nbytes, stream))
        check(driver.cuMemFreeAsync(pointer, stream))
        check(driver.cuStreamSynchronize(stream))
        np.testing.assert_array_equal(values, np.arange(COUNT) + value)
    pool = check(driver.cuDeviceGetDefaultMemPool(0))
    check(driver.cuMemPoolSetAttribute(pool, driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, driver.cuuint64_t(1 << 24)))
    kept = check(driver.cuMemPoolGetAttribute(pool, driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD))
    assert int(kept) == 1 << 24
    check(driver.cuMemPoolTrimTo(pool, 0))


def test_memory_that_is_mapped(module, stream):
    properties = driver.CUmemAllocationProp()
    properties.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type, properties.location.id = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, 0
    grain = check(driver.cuMemGetAllocationGranularity(properties, driver.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM))
    handle = check(driver.cuMemCreate(grain, properties, 0))
    address = check(driver.cuMemAddressReserve(2 * grain, 0, 0, 0))
    access = driver.CUmemAccessDesc()
    access.location, access.flags = properties.location, driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    # The same memory at two addresses.
    for place in (int(address), int(address) + grain):
        check(driver.cuMemMap(place, grain, 0, handle, 0))
        check(driver.cuMemSetAccess(place, grain, [access], 1))
    fill(module, address, 21, stream)
    check(driver.cuStreamSynchronize(stream))
    np.testing.assert_array_equal(read(int(address) + grain), np.arange(COUNT) + 21)
    check(driver.cuMemUnmap(address, 2 * grain))
    check(driver.cuMemRelease(handle))
    check(driver.cuMemAddressFree(address, 2 * grain))


def test_pointers(memory, context):
    kinds = driver.CUpointer_attribute
    pointer = memory(4096)
    assert check(driver.cuPointerGetAttribute(kinds.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer)) == driver.CUmemorytype.CU_MEMORYTYPE_DEVICE.value
    assert check(driver.cuPointerGetAttribute(kinds.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer)) == 0
    assert check(driver.cuPointerGetAttribute(kinds.CU_POINTER_ATTRIBUTE_CONTEXT, pointer)) == context
    start, size = check(driver.cuPointerGetAttributes(2, [kinds.CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, kinds.CU_POINTER_ATTRIBUTE_RANGE_SIZE], int(pointer) + 8))
    assert (int(start), int(size)) == (int(pointer), 4096)


def test_modules(module, memory):
    names = {check(driver.cuFuncGetName(f)) for f in check(driver.cuModuleEnumerateFunctions(check(driver.cuModuleGetFunctionCount(module)), module))}
    assert {b"fill", b"add", b"weighted"} <= names
    address, size = check(driver.cuModuleGetGlobal(module, b"weights"))
    assert size == 16
    weights = np.array([3, 1, 4, 1], np.int32)
    check(driver.cuMemcpyHtoD(address, weights.ctypes.data, 16))
    out = memory(4 * 32)
    launched(function(module, b"weighted"), 1, 32, (out,), (None,))
    np.testing.assert_array_equal(read(out, 32), np.tile(weights, 8))
    counter, _ = check(driver.cuModuleGetGlobal(module, b"counter"))
    assert read(counter, 1)[0] == 32
    assert driver.cuModuleGetGlobal(module, b"absent")[0] == RESULT.CUDA_ERROR_NOT_FOUND
    assert driver.cuModuleLoadData(b"no program")[0] != RESULT.CUDA_SUCCESS


def test_a_compilers_log(context):
    option = driver.CUjit_option
    log = b" " * 4096
    options = [option.CU_JIT_ERROR_LOG_BUFFER, option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]
    wrong = code().code.replace(b".entry", b".enter")
    result = driver.cuModuleLoadDataEx(wrong, 2, options, [log, len(log)])
    assert result[0] == RESULT.CUDA_ERROR_INVALID_PTX and b".enter" in log


def test_libraries(context, memory):
    library = check(driver.cuLibraryLoadData(code().code, [], [], 0, [], [], 0))
    kernel = check(driver.cuLibraryGetKernel(library, b"fill"))
    assert check(driver.cuKernelGetName(kernel)) == b"fill"
    assert check(driver.cuKernelGetParamInfo(kernel, 1)) == (8, 4)
    out = memory(4 * COUNT)
    launched(driver.CUfunction(int(kernel)), 8, 128, (out, 5, COUNT), FILL)
    np.testing.assert_array_equal(read(out), np.arange(COUNT) + 5)
    assert check(driver.cuLibraryGetGlobal(library, b"weights"))[1] == 16
    assert check(driver.cuLibraryGetKernelCount(library)) >= 6
    check(driver.cuLibraryUnload(library))


def test_functions(module):
    fill_ = function(module, b"fill")
    attribute = driver.CUfunction_attribute
    assert check(driver.cuFuncGetAttribute(attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, fill_)) >= 128
    check(driver.cuFuncSetAttribute(fill_, attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 15))
    assert check(driver.cuFuncGetAttribute(attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, fill_)) == 1 << 15
    check(driver.cuFuncSetCacheConfig(fill_, driver.CUfunc_cache.CU_FUNC_CACHE_PREFER_L1))
    assert check(driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(fill_, 128, 0)) > 0
    with pytest.raises(CudaError, match="NOT_FOUND"):
        function(module, b"absent")


def test_a_struct_by_value(module, memory):
    """As `struct box { int a; double b; short c[3]; }` lies in memory."""
    box = np.zeros(1, np.dtype([("a", np.int32), ("b", np.float64), ("c", np.int16, 3)], align=True))
    box["a"], box["b"], box["c"] = 7, 2.5, [1, 2, 3]
    out = memory(24)
    pointer = np.array([int(out)], np.uint64)
    places = np.array([box.ctypes.data, pointer.ctypes.data], np.uint64)
    check(driver.cuLaunchKernel(function(module, b"takes"), 1, 1, 1, 1, 1, 1, 0, 0, places.ctypes.data, 0))
    np.testing.assert_array_equal(read(out, 3, np.float64), [7, 2.5, 6])


def test_launch_attributes(module, memory, stream):
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = 8, 1, 1
    config.blockDimX, config.blockDimY, config.blockDimZ = 128, 1, 1
    config.hStream = stream
    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
    attribute.value.cooperative = 1
    config.attrs, config.numAttrs = [attribute], 1
    out = memory(4 * COUNT)
    check(driver.cuLaunchKernelEx(config, function(module, b"fill"), ((out, 8, COUNT), FILL), 0))
    check(driver.cuStreamSynchronize(stream))
    np.testing.assert_array_equal(read(out), np.arange(COUNT) + 8)


@pytest.mark.parametrize("grid, block, wanted", [(0, 1, "INVALID_VALUE"), (1, 0, "INVALID_VALUE"), (1, 1025, "INVALID_VALUE")])
def test_wrong_launches(module, memory, grid, block, wanted):
    with pytest.raises(CudaError, match=wanted):
        launched(function(module, b"fill"), grid, block, (memory(64), 0, 1), FILL)


def test_streams_and_events(module, memory, stream):
    other = check(driver.cuStreamCreateWithPriority(driver.CUstream_flags.CU_STREAM_NON_BLOCKING, -1))
    assert check(driver.cuStreamGetPriority(other)) == -1
    assert check(driver.cuStreamGetFlags(other)) == driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value
    begin, end = (check(driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DEFAULT)) for _ in range(2))
    out = memory(4 * COUNT)
    check(driver.cuEventRecord(begin, stream))
    fill(module, out, 1, stream)
    check(driver.cuEventRecord(end, stream))
    check(driver.cuStreamWaitEvent(other, end, 0))
    launched(function(module, b"add"), 8, 128, (out, 10, COUNT), FILL, other)
    check(driver.cuStreamSynchronize(other))
    assert driver.cuStreamQuery(stream)[0] == RESULT.CUDA_SUCCESS and driver.cuEventQuery(end)[0] == RESULT.CUDA_SUCCESS
    assert check(driver.cuEventElapsedTime(begin, end)) >= 0
    np.testing.assert_array_equal(read(out), np.arange(COUNT) + 11)
    for event in (begin, end):
        check(driver.cuEventDestroy(event))
    check(driver.cuStreamDestroy(other))
    assert driver.cuEventQuery(end)[0] != RESULT.CUDA_SUCCESS


def test_a_stream_waits_for_a_value(memory, module, stream):
    flag, out = memory(4), memory(4 * COUNT)
    check(driver.cuMemsetD32(flag, 0, 1))
    check(driver.cuStreamWaitValue32(stream, flag, 5, driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ))
    fill(module, out, 2, stream)
    assert driver.cuStreamQuery(stream)[0] == RESULT.CUDA_ERROR_NOT_READY
    other = check(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
    check(driver.cuStreamWriteValue32(other, flag, 6, 0))
    check(driver.cuStreamSynchronize(stream))
    np.testing.assert_array_equal(read(out), np.arange(COUNT) + 2)
    check(driver.cuStreamDestroy(other))


def test_functions_of_the_program(stream):
    seen = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    called = kind(lambda data: seen.append(data))
    place = driver.CUhostFn(_ptr=ctypes.addressof(ctypes.c_void_p.from_address(ctypes.addressof(called))))
    for data in (1, 2, 3):
        check(driver.cuLaunchHostFunc(stream, place, data))
    check(driver.cuStreamSynchronize(stream))
    assert seen == [1, 2, 3]


def test_graphs(module, memory, stream):
    out = memory(4 * COUNT)
    check(driver.cuMemsetD32(out, 0, COUNT))
    graph = check(driver.cuGraphCreate(0))
    add = function(module, b"add")
    pointer, value, many = np.array([int(out)], np.uint64), np.array([3], np.int32), np.array([COUNT], np.uint64)
    places = np.array([a.ctypes.data for a in (pointer, value, many)], np.uint64)
    kernel = driver.CUDA_KERNEL_NODE_PARAMS()
    kernel.func = add
    kernel.gridDimX, kernel.gridDimY, kernel.gridDimZ = 8, 1, 1
    kernel.blockDimX, kernel.blockDimY, kernel.blockDimZ = 128, 1, 1
    kernel.kernelParams = places.ctypes.data
    first = check(driver.cuGraphAddKernelNode(graph, None, 0, kernel))
    second = check(driver.cuGraphAddKernelNode(graph, [first], 1, kernel))
    assert check(driver.cuGraphNodeGetType(second)) == driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_KERNEL
    executable = check(driver.cuGraphInstantiate(graph, 0))
    check(driver.cuGraphLaunch(executable, stream))
    value[0] = 10
    check(driver.cuGraphExecKernelNodeSetParams(executable, second, kernel))
    check(driver.cuGraphLaunch(executable, stream))
    check(driver.cuStreamSynchronize(stream))
    assert set(read(out)) == {3 + 3 + 3 + 10}
    clone = check(driver.cuGraphClone(graph))
    assert int(check(driver.cuGraphNodeFindInClone(first, clone))) != int(first)
    for made in (clone, graph):
        check(driver.cuGraphDestroy(made))
    check(driver.cuGraphExecDestroy(executable))


def test_captures(module, memory, stream):
    out = memory(4 * COUNT)
    check(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
    fill(module, out, 1, stream)
    launched(function(module, b"add"), 8, 128, (out, 1, COUNT), FILL, stream)
    assert check(driver.cuStreamIsCapturing(stream)) == driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE
    graph = check(driver.cuStreamEndCapture(stream))
    nodes, count = check(driver.cuGraphGetNodes(graph))
    assert count == 2
    executable = check(driver.cuGraphInstantiate(graph, 0))
    check(driver.cuGraphLaunch(executable, stream))
    check(driver.cuStreamSynchronize(stream))
    np.testing.assert_array_equal(read(out), np.arange(COUNT) + 2)
    check(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
    assert driver.cuStreamSynchronize(stream)[0] == RESULT.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    assert driver.cuStreamEndCapture(stream)[0] == RESULT.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    check(driver.cuGraphExecDestroy(executable))
    check(driver.cuGraphDestroy(graph))


def test_arrays(context):
    shape = driver.CUDA_ARRAY_DESCRIPTOR()
    shape.Width, shape.Height, shape.Format, shape.NumChannels = 32, 8, driver.CUarray_format.CU_AD_FORMAT_FLOAT, 1
    array = check(driver.cuArrayCreate(shape))
    assert check(driver.cuArrayGetDescriptor(array)).Width == 32
    values = np.random.default_rng(1).standard_normal((8, 32)).astype(np.float32)
    back = np.zeros_like(values)
    kinds = driver.CUmemorytype
    for host, there in ((values, True), (back, False)):
        copy = driver.CUDA_MEMCPY2D()
        if there:
            copy.srcMemoryType, copy.srcHost, copy.srcPitch = kinds.CU_MEMORYTYPE_HOST, host.ctypes.data, 128
            copy.dstMemoryType, copy.dstArray = kinds.CU_MEMORYTYPE_ARRAY, array
        else:
            copy.srcMemoryType, copy.srcArray = kinds.CU_MEMORYTYPE_ARRAY, array
            copy.dstMemoryType, copy.dstHost, copy.dstPitch = kinds.CU_MEMORYTYPE_HOST, host.ctypes.data, 128
        copy.WidthInBytes, copy.Height = 128, 8
        check(driver.cuMemcpy2D(copy))
    np.testing.assert_array_equal(back, values)
    check(driver.cuArrayDestroy(array))


def test_copies_between_devices(context):
    there = check(driver.cuDevicePrimaryCtxRetain(1))
    values = np.arange(COUNT, dtype=np.int32)
    here = check(driver.cuMemAlloc(values.nbytes))
    check(driver.cuMemcpyHtoD(here, values.ctypes.data, values.nbytes))
    check(driver.cuCtxPushCurrent(there))
    other = check(driver.cuMemAlloc(values.nbytes))
    check(driver.cuMemcpyPeer(other, there, here, context, values.nbytes))
    np.testing.assert_array_equal(read(other), values)
    check(driver.cuMemFree(other))
    check(driver.cuCtxPopCurrent())
    check(driver.cuMemFree(here))
    check(driver.cuDevicePrimaryCtxRelease(1))


def test_threads(context, module):
    wrong = []

    def work(number):
        try:
            assert driver.cuMemAlloc(64)[0] == RESULT.CUDA_ERROR_INVALID_CONTEXT
            check(driver.cuCtxSetCurrent(context))
            stream = check(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
            for round_ in range(20):
                pointer = check(driver.cuMemAlloc(4 * COUNT))
                fill(module, pointer, number + round_, stream)
                check(driver.cuStreamSynchronize(stream))
                np.testing.assert_array_equal(read(pointer), np.arange(COUNT) + number + round_)
                check(driver.cuMemFree(pointer))
            check(driver.cuStreamDestroy(stream))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_addresses_of_functions():
    check(driver.cuInit(0))
    for name, version in ((b"cuMemAlloc", 12000), (b"cuLaunchKernel", 12000), (b"cuStreamBeginCapture", 12000), (b"cuGraphInstantiate", 12000)):
        address, status = check(driver.cuGetProcAddress(name, version, 0))
        assert address and status == driver.CUdriverProcAddressQueryResult.CU_GET_PROC_ADDRESS_SUCCESS
    absent, _ = driver.cuGetProcAddress(b"cuNothing", 12000, 0)[1:]
    assert not absent
