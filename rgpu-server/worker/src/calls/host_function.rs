use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuHostNextReply, rgpuLaunchHostReply};

use crate::calls::capture;
use crate::gate::Stand;
use crate::hosts::{HostCall, HostCalls, Kind};
use crate::kept::keep;
use crate::state::State;

/// What a driver gets as a function's argument.
pub struct Record {
    pub call: HostCall,
    hosts: Arc<HostCalls>,
}

impl Record {
    pub fn new(state: &State, kind: Kind, stream: u64, function: u64, data: u64) -> Box<Record> {
        Box::new(Record {
            call: HostCall {
                kind,
                stream,
                status: 0,
                function,
                data,
                device: state.device(),
            },
            hosts: state.shared.hosts.clone(),
        })
    }
}

/// For a function that is called once.
extern "C" fn run(data: *mut c_void) {
    // SAFETY: a record that was given to the driver for this one call.
    let record = unsafe { Box::from_raw(data.cast::<Record>()) };
    record.hosts.run(record.call);
}

extern "C" fn run_callback(_stream: *mut c_void, status: u32, data: *mut c_void) {
    // SAFETY: a record that was given to the driver for this one call.
    let record = unsafe { Box::from_raw(data.cast::<Record>()) };
    record.hosts.run(HostCall {
        status,
        ..record.call
    });
}

/// For a function of a graph's node, which keeps the record.
extern "C" fn run_node(data: *mut c_void) {
    // SAFETY: a record that lives as long as the graph and its launches.
    let record = unsafe { &*data.cast::<Record>() };
    record.hosts.run(record.call);
}

/// For a destructor, for which the driver does not wait.
extern "C" fn post(data: *mut c_void) {
    // SAFETY: a record that was given to the driver for this one call.
    let record = unsafe { Box::from_raw(data.cast::<Record>()) };
    record.hosts.post(record.call);
}

pub const RUN_NODE: *mut c_void = run_node as *mut c_void;
pub const POST: *mut c_void = post as *mut c_void;

/// A record for a node, which [`State`] finds again by its address.
pub fn node_record(state: &State, function: u64, data: u64) -> Arc<Record> {
    let record: Arc<Record> = Record::new(state, Kind::Node, 0, function, data).into();
    let mut records = state.shared.records();
    if records.len() >= records.capacity() {
        records.retain(|_, record| record.strong_count() > 0);
    }
    records.insert(Arc::as_ptr(&record).addr(), Arc::downgrade(&record));
    state.shared.graph_hosts.store(true, Ordering::Relaxed);
    state.shared.stands.store(true, Ordering::Relaxed);
    record
}

/// The record that a node of the driver's points to.
pub fn record_at(state: &State, address: u64) -> Option<Arc<Record>> {
    let records = state.shared.records();
    records.get(&(address as usize))?.upgrade()
}

/// A record for a node of this graph: its address, for as long as the graph lives.
pub fn record_for(
    state: &State,
    graph: *mut c_void,
    function: u64,
    data: u64,
) -> Result<*mut c_void, CudaError> {
    let record = node_record(state, function, data);
    let address = Arc::as_ptr(&record).cast_mut().cast();
    keep(&state.driver, graph, Box::new(record))?;
    Ok(address)
}

pub fn rgpuLaunchHost(
    state: &State,
    stream: *mut c_void,
    kind: u32,
    name: u64,
    function: u64,
    data: u64,
    out: &mut rgpuLaunchHostReply,
) -> Result<(), CudaError> {
    state.shared.stands.store(true, Ordering::Relaxed);
    let kind = match kind {
        0 => Kind::Plain,
        1 => Kind::Callback,
        _ => return Err(CudaError::INVALID_VALUE),
    };
    if kind == Kind::Plain
        && let Some(graph) = capture::graph_of(state, stream)
    {
        let record = record_for(state, graph, function, data)?;
        out.captured.set(1);
        // SAFETY: the stream is the driver's own, and the record lives with the graph that the function becomes a node of.
        return unsafe { driver_call!(state.driver.cuLaunchHostFunc(stream, RUN_NODE, record)) };
    }
    let record: *mut c_void = Box::into_raw(Record::new(state, kind, name, function, data)).cast();
    // SAFETY: the stream is the driver's own; the function that is called takes the record.
    let launch = || unsafe {
        match kind {
            Kind::Callback => {
                let run = run_callback as *mut c_void;
                driver_call!(state.driver.cuStreamAddCallback(stream, run, record, 0))
            }
            _ => driver_call!(
                state
                    .driver
                    .cuLaunchHostFunc(stream, run as *mut c_void, record)
            ),
        }
    };
    let launched = match state.shared.gates.get() {
        Some(gates) => gates.stand(state, stream, Stand::Surely, launch),
        None => launch(),
    };
    launched.inspect_err(|_| {
        // SAFETY: made above, and the driver has not taken it.
        drop(unsafe { Box::from_raw(record.cast::<Record>()) });
    })
}

pub fn rgpuHostNext(
    state: &State,
    done: u64,
    out: &mut rgpuHostNextReply,
) -> Result<(), CudaError> {
    let hosts = &state.shared.hosts;
    if let Some(device) = hosts.device(done) {
        match state.shared.gates.get() {
            Some(gates) => gates.let_go(device, || hosts.returned(done)),
            None => hosts.returned(done),
        }
    }
    let (number, call) = hosts.next().ok_or(CudaError::DEINITIALIZED)?;
    out.number.set(number);
    out.kind.set(call.kind as u32);
    out.stream.set(call.stream);
    out.status.set(call.status);
    out.function.set(call.function);
    out.data.set(call.data);
    Ok(())
}
