//! What the gate does around calls that have no server half by hand: those that wait for streams, or end them.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, op};
use rgpu_proto::frame::FrameError;
use zerocopy::FromBytes;

use super::Gates;
use super::lanes::Stand;
use crate::dispatch::dispatch;
use crate::handles::Kind;
use crate::state::State;

type Played = Result<Result<(), CudaError>, FrameError>;

/// Performs one operation, as `dispatch` does.
pub fn play(state: &State, operation: u16, body: &[u8], reply: &mut Vec<u8>) -> Played {
    let Some(gates) = state.shared.gates.get() else {
        return dispatch(state, operation, body, reply);
    };
    match operation {
        op::cuStreamSynchronize => {
            let stream = calls::cuStreamSynchronizeArgs::ref_from_prefix(body)
                .ok()
                .and_then(|(args, _)| known(state, args.stream.get()));
            match stream {
                Some(stream) => gates.synchronize(state, Some(stream), body, reply, operation),
                None => dispatch(state, operation, body, reply),
            }
        }
        op::rgpuContextSynchronize => gates.synchronize(state, None, body, reply, operation),
        op::cuEventRecord if !gates.is_free(state) => {
            let played = dispatch(state, operation, body, reply);
            if let Ok((args, _)) = calls::cuEventRecordArgs::ref_from_prefix(body)
                && let Some(stream) = known(state, args.stream.get())
            {
                gates.recorded(state, stream);
            }
            played
        }
        op::cuStreamDestroy_v2 => {
            if let Ok((args, _)) = calls::cuStreamDestroy_v2Args::ref_from_prefix(body)
                && let Some(stream) = known(state, args.stream.get())
            {
                gates.end_stream(state, stream);
            }
            dispatch(state, operation, body, reply)
        }
        op::cuStreamWaitEvent if gates.may_stand() => {
            let stream = calls::cuStreamWaitEventArgs::ref_from_prefix(body)
                .ok()
                .and_then(|(args, _)| known(state, args.stream.get()));
            let mut play = || dispatch(state, operation, body, reply);
            match stream {
                // What it waits for may itself stand still.
                Some(stream) => gates.stand(state, stream, Stand::Surely, play),
                None => play(),
            }
        }
        _ => dispatch(state, operation, body, reply),
    }
}

/// A stream that is there; of another the call itself tells.
fn known(state: &State, id: u64) -> Option<*mut c_void> {
    // Not pinned: the call itself may destroy it.
    state.handles.peek(Kind::Stream, id)
}

impl Gates {
    fn synchronize(
        &self,
        state: &State,
        stream: Option<*mut c_void>,
        body: &[u8],
        reply: &mut Vec<u8>,
        operation: u16,
    ) -> Played {
        let mut malformed = None;
        let waited = self.waiting(state, stream, || {
            dispatch(state, operation, body, reply).unwrap_or_else(|error| {
                malformed = Some(error);
                Err(CudaError::UNKNOWN)
            })
        });
        match malformed {
            Some(error) => Err(error),
            None => Ok(waited),
        }
    }
}
