"""cuda.core: graphs that are captured, and graphs that are made node by node."""

import numpy as np
import pytest
from cuda.core import Device, GraphMemoryResource, LaunchConfig, launch
from cuda.core.graph import GraphCompleteOptions, GraphDebugPrintOptions, GraphDefinition
from kernels import code, kernel, over, pinned, read, run, sent

COUNT = 1000
MANY = np.uint64(COUNT)


@pytest.fixture
def numbers(device, stream):
    buffer = sent(stream, np.arange(COUNT, dtype=np.int32))
    yield buffer
    stream.sync()
    buffer.close(stream)


def added(numbers, stream):
    """What has been added to each number: the same to all."""
    difference = np.unique(read(stream, numbers, np.int32) - np.arange(COUNT))
    assert difference.size == 1
    return difference[0]


# Captured.


def test_a_capture_is_launched_again_and_again(device, stream, numbers):
    builder = device.create_graph_builder().begin_building()
    assert builder.is_building
    for value in (1, 2, 4):
        run(builder, over(COUNT), "add", numbers, value, MANY)
    graph = builder.end_building().complete()
    assert added(numbers, stream) == 0
    for _ in range(5):
        graph.launch(stream)
    assert added(numbers, stream) == 35
    graph.close()
    assert graph.is_closed


def test_a_stream_captures(device, numbers):
    stream = device.create_stream()
    builder = stream.create_graph_builder().begin_building("thread_local")
    run(builder, over(COUNT), "add", numbers, 7, MANY)
    graph = builder.end_building().complete(GraphCompleteOptions(upload_stream=stream))
    graph.upload(stream)
    graph.launch(stream)
    assert added(numbers, stream) == 7


def test_a_capture_forks_and_joins(device, stream):
    parts = [sent(stream, np.zeros(COUNT, np.int32)) for _ in range(3)]
    total = sent(stream, np.zeros(COUNT, np.int32))
    builder = device.create_graph_builder().begin_building()
    forks = builder.split(3)
    for value, (fork, part) in enumerate(zip(forks, parts)):
        run(fork, over(COUNT), "fill", part, 10 * value, MANY)
    joined = forks[0].join(*forks)
    for part in parts:
        launch(joined, over(COUNT), code(names=("saxpy<int>",)).get_kernel("saxpy<int>"), np.int32(1), part, total, total, MANY)
    graph = joined.end_building().complete()
    graph.launch(stream)
    np.testing.assert_array_equal(read(stream, total, np.int32), 3 * np.arange(COUNT) + 30)


def test_a_capture_copies_and_fills(device, stream):
    source, given = pinned(np.arange(COUNT, dtype=np.int32))
    middle, out = (device.allocate(4 * COUNT, stream=stream) for _ in range(2))
    target, result = pinned(np.zeros(COUNT, np.int32))
    stream.sync()
    builder = device.create_graph_builder().begin_building()
    middle.copy_from(source, stream=builder)
    out.fill(0, stream=builder)
    run(builder, over(COUNT), "add", middle, 1, MANY)
    out.copy_from(middle, stream=builder)
    target.copy_from(out, stream=builder)
    graph = builder.end_building().complete()
    for factor in (1, 2):
        given[:] = np.arange(COUNT) * factor
        graph.launch(stream)
        stream.sync()
        np.testing.assert_array_equal(result, np.arange(COUNT) * factor + 1)


def test_a_capture_in_another(device, stream, numbers):
    child = device.create_graph_builder().begin_building()
    run(child, over(COUNT), "add", numbers, 100, MANY)
    child.end_building()
    builder = device.create_graph_builder().begin_building()
    run(builder, over(COUNT), "add", numbers, 1, MANY)
    builder.embed(child)
    graph = builder.end_building().complete()
    graph.launch(stream)
    assert added(numbers, stream) == 101


def test_functions_of_the_program(device, stream, numbers):
    seen = []
    builder = device.create_graph_builder().begin_building()
    run(builder, over(COUNT), "add", numbers, 1, MANY)
    builder.callback(lambda: seen.append("called"))
    run(builder, over(COUNT), "add", numbers, 1, MANY)
    graph = builder.end_building().complete()
    for _ in range(3):
        graph.launch(stream)
    stream.sync()
    assert seen == ["called"] * 3 and added(numbers, stream) == 6


def test_an_update(device, stream, numbers):
    graphs = []
    for value in (1, 10):
        builder = device.create_graph_builder().begin_building()
        run(builder, over(COUNT), "add", numbers, value, MANY)
        graphs.append(builder.end_building())
    graph = graphs[0].complete()
    graph.launch(stream)
    graph.update(graphs[1])
    graph.launch(stream)
    assert added(numbers, stream) == 11


def test_memory_of_a_graph(device, stream):
    resource = GraphMemoryResource(device)
    builder = device.create_graph_builder().begin_building()
    scratch = resource.allocate(4 * COUNT, stream=builder)
    run(builder, over(COUNT), "fill", scratch, 3, MANY)
    target, result = pinned(np.zeros(COUNT, np.int32))
    target.copy_from(scratch, stream=builder)
    scratch.close(builder)
    graph = builder.end_building().complete()
    for _ in range(3):
        result[:] = 0
        graph.launch(stream)
        stream.sync()
        np.testing.assert_array_equal(result, np.arange(COUNT) + 3)
    assert resource.attributes.reserved_mem_high >= resource.attributes.used_mem_current
    graph.close()
    resource.trim()


# Made node by node.


def test_nodes(device, stream, numbers, tmp_path):
    definition = GraphDefinition()
    first = definition.launch(over(COUNT), kernel("add"), numbers, 1, MANY)
    second = first.launch(over(COUNT), kernel("add"), numbers, 2, MANY)
    third = first.launch(over(COUNT), kernel("add"), numbers, 4, MANY)
    end = definition.join(second, third)
    assert definition.nodes() == {first, second, third, end}
    assert definition.edges() == {(first, second), (first, third), (second, end), (third, end)}
    assert set(first.succ) == {second, third} and set(end.pred) == {second, third}
    assert first.block == (128, 1, 1) and first.grid == (8, 1, 1) and first.kernel == kernel("add")
    third.pred = [second]
    assert (first, third) not in definition.edges()
    end.destroy()
    assert definition.nodes() == {first, second, third}
    picture = tmp_path / "graph.dot"
    definition.debug_dot_print(str(picture), GraphDebugPrintOptions(verbose=True))
    assert picture.read_text().startswith("digraph")
    graph = definition.instantiate()
    graph.launch(stream)
    assert added(numbers, stream) == 7


def test_copies_and_fills(device, stream):
    values = np.arange(COUNT, dtype=np.int32)
    source, middle, out = sent(stream, values), device.allocate(4 * COUNT, stream=stream), device.allocate(4 * COUNT, stream=stream)
    stream.sync()
    definition = GraphDefinition()
    copy = definition.memcpy(middle, source, 4 * COUNT)
    fill = definition.memset(out, np.int32(0x01010101), 16)
    end = definition.join(copy, fill).memcpy(int(out.handle) + 64, int(middle.handle) + 64, 4 * COUNT - 64)
    assert copy.size == 4 * COUNT and copy.src == int(source.handle)
    assert fill.value == 0x01010101 and fill.width == 16 and fill.element_size == 4
    graph = definition.instantiate()
    graph.launch(stream)
    np.testing.assert_array_equal(read(stream, out, np.int32), np.where(values < 16, 0x01010101, values))
    fill.update(value=np.int32(5))
    copy.update(src=middle, dst=source)
    assert end.is_valid
    graph.update(definition)
    graph.launch(stream)
    assert read(stream, out, np.int32)[:16].tolist() == [5] * 16


def test_what_is_instantiated_changes(device, stream, numbers):
    definition = GraphDefinition()
    first = definition.launch(over(COUNT), kernel("add"), numbers, 1, MANY)
    second = first.launch(over(COUNT), kernel("add"), numbers, 10, MANY)
    graph = definition.instantiate()
    graph[first].update(config=over(COUNT), kernel=kernel("add"), args=(numbers, 3, MANY))
    graph[second].disable()
    assert not graph[second].is_enabled
    graph.launch(stream)
    assert added(numbers, stream) == 3
    graph[second].enable()
    graph.launch(stream)
    assert added(numbers, stream) == 16


def test_memory_nodes(device, stream):
    target, result = pinned(np.zeros(COUNT, np.int32))
    definition = GraphDefinition()
    memory = definition.allocate(4 * COUNT)
    assert memory.bytesize == 4 * COUNT and memory.device_id == device.device_id
    filled = memory.launch(over(COUNT), kernel("fill"), memory.dptr, 6, MANY)
    copied = filled.memcpy(target, memory.dptr, 4 * COUNT)
    copied.deallocate(memory.dptr)
    graph = definition.instantiate()
    for _ in range(2):
        result[:] = 0
        graph.launch(stream)
        stream.sync()
        np.testing.assert_array_equal(result, np.arange(COUNT) + 6)


def test_events_in_graphs(device, stream, numbers):
    event = device.create_event()
    assert event.is_done
    definition = GraphDefinition()
    before = definition.launch(over(COUNT), kernel("add"), numbers, 1, MANY)
    recorded = before.record(event)
    waited = recorded.wait(event)
    waited.launch(over(COUNT), kernel("add"), numbers, 2, MANY)
    assert recorded.event == event and waited.event == event
    definition.instantiate().launch(stream)
    event.sync()
    assert event.is_done and added(numbers, stream) == 3


def test_functions_in_graphs(device, stream, numbers):
    seen = []
    definition = GraphDefinition()
    node = definition.launch(over(COUNT), kernel("add"), numbers, 1, MANY)
    node = node.callback(lambda: seen.append(len(seen)))
    node.launch(over(COUNT), kernel("add"), numbers, 1, MANY)
    graph = definition.instantiate()
    graph.launch(stream), graph.launch(stream)
    stream.sync()
    assert seen == [0, 1] and added(numbers, stream) == 4


def test_a_graph_in_another(device, stream, numbers):
    child = GraphDefinition()
    child.launch(over(COUNT), kernel("add"), numbers, 5, MANY)
    definition = GraphDefinition()
    node = definition.launch(over(COUNT), kernel("add"), numbers, 1, MANY).embed(child)
    assert len(node.child_graph.nodes()) == 1
    definition.instantiate().launch(stream)
    assert added(numbers, stream) == 6


CONDITION = """
extern "C" __global__ void again(cudaGraphConditionalHandle handle, int *rounds) {
    cudaGraphSetConditional(handle, ++*rounds < 5);
}
"""


@pytest.mark.parametrize("chosen", [0, 1])
def test_branches(device, stream, numbers, chosen):
    definition = GraphDefinition()
    condition = definition.create_condition(default_value=chosen)
    node = definition.if_else(condition)
    node.then.launch(over(COUNT), kernel("add"), numbers, 1, MANY)
    node.else_.launch(over(COUNT), kernel("add"), numbers, 2, MANY)
    definition.instantiate().launch(stream)
    assert added(numbers, stream) == (1 if chosen else 2)


@pytest.mark.parametrize("chosen", [0, 1, 2, 7])
def test_switches(device, stream, numbers, chosen):
    definition = GraphDefinition()
    node = definition.switch(definition.create_condition(default_value=chosen), 3)
    for value, branch in enumerate(node.branches):
        branch.launch(over(COUNT), kernel("add"), numbers, 10 + value, MANY)
    definition.instantiate().launch(stream)
    assert added(numbers, stream) == (10 + chosen if chosen < 3 else 0)


def test_a_captured_branch(device, stream, numbers):
    builder = device.create_graph_builder().begin_building()
    then = builder.if_then(builder.create_condition(default_value=1)).begin_building()
    run(then, over(COUNT), "add", numbers, 9, MANY)
    then.end_building()
    builder.end_building().complete().launch(stream)
    assert added(numbers, stream) == 9


def test_a_wrong_graph(device, stream, numbers):
    """A kernel that cannot be launched; the stream captures on."""
    definition = GraphDefinition()
    with pytest.raises(Exception, match="INVALID"):
        definition.launch(LaunchConfig(grid=1, block=4096), kernel("add"), numbers, 1, MANY)
    assert Device() == device and definition.nodes() == set()
