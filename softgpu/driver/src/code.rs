//! What an image contains, ready to be placed in a context: the same for all contexts.

use std::ffi::c_void;
use std::sync::Arc;

use softgpu_engine::{GlobalSpace, KernelInfo, Program};

use crate::abi::In;
use crate::error::Error;
use crate::fatbin::{self, Refusal};
use crate::link;

#[derive(Clone)]
pub struct Code {
    pub program: Arc<dyn Program>,
    pub traits: Traits,
}

/// What is true of all kernels of an image.
#[derive(Clone, Copy)]
pub struct Traits {
    pub ptx_version: (u32, u32),
    /// What the program has limited a thread's registers to.
    pub max_registers: Option<u32>,
    /// Bytes of constant memory.
    pub constants: u32,
}

impl Traits {
    pub fn registers(&self, info: &KernelInfo) -> u32 {
        info.registers.min(self.max_registers.unwrap_or(u32::MAX))
    }
}

impl Code {
    /// `capability`: 86 for compute capability 8.6.
    pub fn read(
        image: In<c_void>,
        capability: u32,
        max_registers: Option<u32>,
    ) -> std::result::Result<Code, Refusal> {
        let (parsed, max_registers) = match link::linked(image)? {
            Some(linked) => (link::join(&linked.inputs)?, linked.max_registers),
            None => (
                link::alone(parse(&fatbin::read(image, capability)?)?)?,
                max_registers,
            ),
        };
        check_target(&parsed.target, capability).map_err(invalid)?;
        let program = softgpu_engine::interpreter()
            .compile(&parsed)
            .map_err(|error| invalid(error.to_string()))?;
        let constants = program.globals().iter();
        let constants = constants.filter(|global| global.space == GlobalSpace::Const);
        let traits = Traits {
            ptx_version: parsed.version,
            max_registers,
            constants: constants.map(|global| global.size as u32).sum(),
        };
        Ok(Code { program, traits })
    }
}

pub fn parse(text: &str) -> std::result::Result<softgpu_ptx::Module, Refusal> {
    softgpu_ptx::parse(text).map_err(|error| invalid(error.to_string()))
}

fn invalid(message: String) -> Refusal {
    Refusal::new(Error::ERROR_INVALID_PTX, message)
}

/// `sm_90`, `sm_90a` on an older device.
fn check_target(target: &str, capability: u32) -> std::result::Result<(), String> {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(wanted) if wanted > capability => Err(format!(
            "the PTX is for {target}, this device has compute capability {}.{}; SOFTGPU_COMPUTE_CAPABILITY sets it",
            capability / 10,
            capability % 10
        )),
        _ => Ok(()),
    }
}
