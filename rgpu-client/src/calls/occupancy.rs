//! Occupancy, remembered with the function. A program's own function for the size of shared memory runs here.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::ffi::c_void;

use rgpu_proto::{CudaError, calls, launch};

use super::function::MAX_THREADS_PER_BLOCK;
use super::launch::Config;
use super::library::callee_here;
use crate::entry::{Needs, put, required};
use crate::send;
use crate::servers::Of;
use crate::session::Session;

/// Most answers that are remembered of one function.
const MAX_KNOWN: usize = 4096;
/// CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE.
const KNOWN_FLAGS: u32 = 1;
const MULTIPROCESSOR_COUNT: i32 = 16;

/// What was asked: the kind of question, and its arguments.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Question {
    /// Flags, threads of a block, dynamic shared memory.
    Blocks(u32, i32, u64),
    /// Blocks, threads of a block.
    Shared(i32, i32),
    /// Which of the two, shape, attributes.
    Clusters(u32, [u32; 7], Vec<u8>),
}

/// The answers so far, while the function's attributes are what they were then.
#[derive(Default)]
pub struct Known {
    version: u64,
    answers: HashMap<Question, u64>,
}

/// What the answers to questions are, in their order; `ask` is for those that nobody has asked yet.
fn answers(
    session: &Session,
    function: u64,
    questions: &[Question],
    ask: impl FnOnce(&[Question]) -> Result<Vec<u64>, CudaError>,
) -> Result<Vec<u64>, CudaError> {
    let (mut found, missing): (Vec<_>, Vec<Question>) = {
        let mut modules = session.modules();
        let held = modules.functions.get_mut(&function);
        let held = held.ok_or(CudaError::INVALID_HANDLE)?;
        let version = held.settings.version();
        if held.occupancy.version != version || held.occupancy.answers.len() > MAX_KNOWN {
            held.occupancy = Known {
                version,
                ..Known::default()
            };
        }
        let known = |question| held.occupancy.answers.get(question).copied();
        let missing = questions.iter().filter(|q| known(q).is_none());
        (
            questions.iter().map(known).collect(),
            missing.cloned().collect(),
        )
    };
    if !missing.is_empty() {
        let asked = ask(&missing)?;
        let mut new = asked.iter().copied();
        for answer in found.iter_mut().filter(|answer| answer.is_none()) {
            *answer = new.next();
        }
        if let Some(held) = session.modules().functions.get_mut(&function) {
            held.occupancy
                .answers
                .extend(missing.into_iter().zip(asked));
        }
    }
    found
        .into_iter()
        .collect::<Option<_>>()
        .ok_or(CudaError::UNKNOWN)
}

/// How many blocks of each size (threads, dynamic shared memory) fit a multiprocessor.
fn blocks(
    session: &Session,
    function: u64,
    flags: u32,
    sizes: &[(i32, u64)],
) -> Result<Vec<u64>, CudaError> {
    let questions: Vec<Question> = sizes
        .iter()
        .map(|(threads, shared)| Question::Blocks(flags, *threads, *shared))
        .collect();
    answers(session, function, &questions, |missing| {
        let mut bytes = Vec::new();
        for question in missing {
            if let Question::Blocks(_, threads, shared) = question {
                bytes.extend_from_slice(&threads.to_le_bytes());
                bytes.extend_from_slice(&shared.to_le_bytes());
            }
        }
        let mut reply = Vec::new();
        send::rgpuOccupancyBlocks(session, function, flags, &bytes, &mut reply)?;
        let (counts, _) = reply.as_chunks::<4>();
        Ok(counts
            .iter()
            .map(|count| u64::from(u32::from_le_bytes(*count)))
            .collect())
    })
}

/// Refuses a cooperative launch of more blocks than the device holds at once.
pub fn check_cooperative(
    session: &Session,
    function: u64,
    grid: [u32; 3],
    threads: u32,
    shared_bytes: u32,
) -> Result<(), CudaError> {
    let fit = blocks(
        session,
        function,
        0,
        &[(threads as i32, u64::from(shared_bytes))],
    )?[0];
    let wanted: u64 = grid.iter().map(|count| u64::from(*count)).product();
    if wanted > fit * multiprocessors(session, function)? {
        return Err(CudaError::COOPERATIVE_LAUNCH_TOO_LARGE);
    }
    Ok(())
}

fn multiprocessors(session: &Session, function: u64) -> Result<u64, CudaError> {
    let device = session.modules().function(function)?.device;
    let count = session
        .devices
        .get(device)?
        .attribute(MULTIPROCESSOR_COUNT)?;
    Ok(count.max(0) as u64)
}

/// A function's own id, or that of a library's kernel in the current context.
fn function_of(session: &Session, handle: u64) -> Result<u64, CudaError> {
    let (context, handle) = (session.owner(), callee_here(session, handle)?);
    session.modules().callable(session, handle, context)
}

fn positive(count: i32) -> Result<i32, CudaError> {
    if count > 0 {
        Ok(count)
    } else {
        Err(CudaError::INVALID_VALUE)
    }
}

pub unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    blocks: *mut i32,
    function: u64,
    block_size: i32,
    shared_bytes: usize,
    flags: u32,
) -> u32 {
    const NAME: &str = "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags";
    Of::callee(function).enter(NAME, Needs::Context, |session| {
        if flags & !KNOWN_FLAGS != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let function = function_of(session, function)?;
        let size = (positive(block_size)?, shared_bytes as u64);
        required(blocks)?;
        let fit = self::blocks(session, function, flags, &[size])?[0];
        // SAFETY: the caller's place.
        unsafe { put(blocks, fit as i32) }
    })
}

pub unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: *mut i32,
    function: u64,
    block_size: i32,
    shared_bytes: usize,
) -> u32 {
    // SAFETY: the same contract.
    unsafe {
        cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
            blocks,
            function,
            block_size,
            shared_bytes,
            0,
        )
    }
}

/// CUoccupancyB2DSize: dynamic shared memory for a block size.
type SharedFor = Option<unsafe extern "C" fn(i32) -> usize>;

pub unsafe fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    min_grid: *mut i32,
    block_size: *mut i32,
    function: u64,
    shared_for: *const c_void,
    shared_bytes: usize,
    limit: i32,
    flags: u32,
) -> u32 {
    const WARP: i32 = 32;
    const NAME: &str = "cuOccupancyMaxPotentialBlockSizeWithFlags";
    Of::callee(function).enter(NAME, Needs::Context, |session| {
        if flags & !KNOWN_FLAGS != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let function = function_of(session, function)?;
        required(min_grid)?;
        required(block_size)?;
        let most = session
            .modules()
            .function(function)?
            .attribute(MAX_THREADS_PER_BLOCK);
        let most = most.ok_or(CudaError::NOT_SUPPORTED)?.clamp(0, 1 << 16);
        let most = if limit > 0 { most.min(limit) } else { most };
        // SAFETY: cuda.h's type of the parameter; NULL is `None`.
        let shared_for = unsafe { std::mem::transmute::<*const c_void, SharedFor>(shared_for) };
        // From the largest down, in whole warps but for a first one that is cut off. No lock is held: the program's function may call CUDA.
        let sizes: Vec<(i32, u64)> = (1..=(most + WARP - 1) / WARP)
            .rev()
            .map(|warps| (warps * WARP).min(most))
            .map(|threads| {
                // SAFETY: the program's function, which takes a block size.
                let shared = shared_for.map_or(shared_bytes, |shared| unsafe { shared(threads) });
                (threads, shared as u64)
            })
            .collect();
        let fit = blocks(session, function, flags, &sizes)?;
        let mut best = (0, 0, 0);
        for ((threads, _), blocks) in sizes.iter().zip(fit) {
            let busy = blocks * *threads as u64;
            if busy > best.0 {
                best = (busy, *threads, blocks);
            }
        }
        let grid = best.2 * multiprocessors(session, function)?;
        // SAFETY: the caller's places.
        unsafe {
            put(min_grid, grid as i32)?;
            put(block_size, best.1)
        }
    })
}

pub unsafe fn cuOccupancyMaxPotentialBlockSize(
    min_grid: *mut i32,
    block_size: *mut i32,
    function: u64,
    shared_for: *const c_void,
    shared_bytes: usize,
    limit: i32,
) -> u32 {
    // SAFETY: the same contract.
    unsafe {
        cuOccupancyMaxPotentialBlockSizeWithFlags(
            min_grid,
            block_size,
            function,
            shared_for,
            shared_bytes,
            limit,
            0,
        )
    }
}

pub unsafe fn cuOccupancyAvailableDynamicSMemPerBlock(
    bytes: *mut usize,
    function: u64,
    blocks: i32,
    block_size: i32,
) -> u32 {
    const NAME: &str = "cuOccupancyAvailableDynamicSMemPerBlock";
    Of::callee(function).enter(NAME, Needs::Context, |session| {
        required(bytes)?;
        let function = function_of(session, function)?;
        let (blocks, threads) = (positive(blocks)?, positive(block_size)?);
        let question = Question::Shared(blocks, threads);
        let left = answers(session, function, &[question], |_| {
            let mut reply = calls::rgpuOccupancySharedReply::default();
            send::rgpuOccupancyShared(session, function, blocks, threads, &mut reply)?;
            Ok(vec![reply.bytes.get()])
        })?;
        // SAFETY: the caller's place.
        unsafe { put(bytes, left[0] as usize) }
    })
}

/// # Safety
/// `config` is NULL or a CUlaunchConfig.
unsafe fn clusters(
    session: &Session,
    what: u32,
    function: u64,
    config: *const c_void,
) -> Result<i32, CudaError> {
    let function = function_of(session, function)?;
    // SAFETY: the caller's promise.
    let config = unsafe { Config::read(session, config) }?;
    let ([gx, gy, gz], [bx, by, bz]) = (config.shape.grid, config.shape.block);
    let shared = config.shape.shared_bytes;
    let attributes = launch::encode(&config.attributes);
    let question = Question::Clusters(what, [gx, gy, gz, bx, by, bz, shared], attributes.clone());
    let value = answers(session, function, &[question], |_| {
        let mut reply = calls::rgpuOccupancyClustersReply::default();
        send::rgpuOccupancyClusters(
            session,
            function,
            what,
            gx,
            gy,
            gz,
            bx,
            by,
            bz,
            shared,
            &attributes,
            &mut reply,
        )?;
        Ok(vec![reply.value.get() as u64])
    })?;
    Ok(value[0] as i32)
}

pub unsafe fn cuOccupancyMaxPotentialClusterSize(
    size: *mut i32,
    function: u64,
    config: *const c_void,
) -> u32 {
    const NAME: &str = "cuOccupancyMaxPotentialClusterSize";
    Of::callee(function).enter(NAME, Needs::Context, |session| {
        required(size)?;
        // SAFETY: the caller's struct and place.
        unsafe { put(size, clusters(session, 0, function, config)?) }
    })
}

pub unsafe fn cuOccupancyMaxActiveClusters(
    count: *mut i32,
    function: u64,
    config: *const c_void,
) -> u32 {
    const NAME: &str = "cuOccupancyMaxActiveClusters";
    Of::callee(function).enter(NAME, Needs::Context, |session| {
        required(count)?;
        // SAFETY: the caller's struct and place.
        unsafe { put(count, clusters(session, 1, function, config)?) }
    })
}
