//! What a node does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Conditional, Graph, GraphMemory};
use crate::abi::{MemOp, Memcpy3d, MemsetNode};
use crate::copy::{Copy, Fill};
use crate::error::Result;
use crate::event::Event;
use crate::launch::Launch;
use crate::runtime::Runtime;
use crate::task::{HostCall, HostFunction, Work};

/// With what cuda.h calls the parameters, which programs ask for again.
#[derive(Clone)]
pub struct CopyNode {
    pub copy: Copy,
    pub params: Memcpy3d,
}

#[derive(Clone)]
pub struct FillNode {
    pub fill: Fill,
    pub params: MemsetNode,
}

/// Values that are written and waited for, one after the other.
pub struct MemOpsNode {
    pub operations: Box<[MemOp]>,
    pub context: u64,
    pub flags: u32,
}

/// CU_LAUNCH_ATTRIBUTE_COOPERATIVE
const COOPERATIVE: u32 = 2;

#[derive(Clone)]
pub struct KernelRunNode {
    pub launch: Launch,
    /// CUlaunchAttributeID and value: kept for those who ask.
    pub attributes: BTreeMap<u32, [u64; 8]>,
}

#[derive(Clone)]
pub enum Operation {
    Empty,
    Kernel(KernelRunNode),
    Copy(CopyNode),
    Fill(FillNode),
    Host(extern "C" fn(u64), u64),
    Child(Arc<Graph>),
    /// With the event's handle.
    Record(Arc<Event>, u64),
    Wait(Arc<Event>, u64),
    Alloc(Arc<GraphMemory>),
    Free(u64),
    MemOps(Arc<MemOpsNode>),
    Conditional(Arc<Conditional>),
}

impl KernelRunNode {
    /// The launch as its attributes have it.
    pub fn with(launch: Launch, attributes: BTreeMap<u32, [u64; 8]>) -> Result<KernelRunNode> {
        let cooperative = attributes
            .get(&COOPERATIVE)
            .is_some_and(|value| value[0] as u32 != 0);
        let launch = match cooperative {
            true => launch.cooperative()?,
            false => Launch {
                cooperative,
                ..launch
            },
        };
        Ok(KernelRunNode { launch, attributes })
    }
}

impl Operation {
    pub fn kernel(launch: Launch) -> Operation {
        let cooperative = [u64::from(launch.cooperative), 0, 0, 0, 0, 0, 0, 0];
        Operation::Kernel(KernelRunNode {
            attributes: match launch.cooperative {
                true => BTreeMap::from([(COOPERATIVE, cooperative)]),
                false => BTreeMap::new(),
            },
            launch,
        })
    }

    /// CUgraphNodeType.
    pub fn kind(&self) -> u32 {
        match self {
            Operation::Kernel(_) => 0,
            Operation::Copy(_) => 1,
            Operation::Fill(_) => 2,
            Operation::Host(..) => 3,
            Operation::Child(_) => 4,
            Operation::Empty => 5,
            Operation::Wait(..) => 6,
            Operation::Record(..) => 7,
            Operation::Alloc(_) => 10,
            Operation::Free(_) => 11,
            Operation::MemOps(_) => 12,
            Operation::Conditional(_) => 13,
        }
    }

    /// The graphs that are parts of the node.
    pub fn graphs(&self) -> Vec<Arc<Graph>> {
        match self {
            Operation::Child(child) => vec![child.clone()],
            Operation::Conditional(conditional) => conditional.bodies.clone(),
            _ => Vec::new(),
        }
    }

    /// For another node: graphs within it are its own.
    pub fn duplicate(self, runtime: &Runtime) -> Result<Operation> {
        Ok(match self {
            Operation::Child(child) => Operation::Child(child.duplicate(runtime, true)?),
            Operation::Conditional(node) => {
                Operation::Conditional(Arc::new(node.duplicate(runtime)?))
            }
            other => other,
        })
    }

    /// The work of one run; what concerns more than one task is done by whoever starts it.
    pub fn work(&self, runtime: &'static Runtime) -> Work {
        match self {
            Operation::Kernel(kernel) => kernel.launch.work(runtime),
            Operation::Copy(node) if !node.copy.is_empty() => Work::Copy(node.copy),
            Operation::Fill(node) if !node.fill.is_empty() => Work::Fill(node.fill),
            Operation::Host(function, data) => Work::Host(HostCall {
                function: HostFunction::Plain(*function),
                data: *data,
            }),
            _ => Work::Join,
        }
    }
}
