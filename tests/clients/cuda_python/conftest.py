import pytest
from calls import check
from cuda.bindings import driver
from cuda.core import Device


@pytest.fixture(params=[0, 1], ids=["first", "second"])
def device(request):
    """Each device in turn, current."""
    device = Device(request.param)
    device.set_current()
    return device


@pytest.fixture
def stream(device):
    stream = device.create_stream()
    yield stream
    stream.sync()
    stream.close()


@pytest.fixture
def context():
    """The first device's primary context, current."""
    check(driver.cuInit(0))
    device = check(driver.cuDeviceGet(0))
    context = check(driver.cuDevicePrimaryCtxRetain(device))
    check(driver.cuCtxSetCurrent(context))
    yield context
    check(driver.cuCtxSynchronize())
    check(driver.cuDevicePrimaryCtxRelease(device))
