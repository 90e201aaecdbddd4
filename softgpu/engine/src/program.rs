//! A module as a program: its kernels, compiled when first asked for, and the variables that the driver places.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use softgpu_ptx::{Init, Linkage, Module, Opaque, Operand, ScalarType, Space, Variable};

use crate::block::Gang;
use crate::kernel::{Kernel, function_handle};
use crate::lanes::MAX_LANES;
use crate::layout::{passing, reachable, shared_layout};
use crate::lower;
use crate::texture;
use crate::{
    Block, CompileError, Engine, GlobalInfo, GlobalSpace, KernelInfo, LaunchContext, ParamInfo,
    Program,
};

/// Threads of a block, at most.
pub const MAX_THREADS: u32 = 1024;
/// Static shared memory of a kernel, in bytes.
const MAX_STATIC_SHARED: u64 = 48 << 10;
/// Shared memory of a block with what the launch adds, in bytes.
pub const MAX_SHARED: u64 = 256 << 10;
/// Lanes that run together when blocks are small: enough to hide the cost of an operation's dispatch, few enough for
/// their registers to stay in the cache.
const GANG_LANES: usize = 256;

pub struct Interpreter;

impl Engine for Interpreter {
    fn compile(&self, module: &Module) -> Result<Arc<dyn Program>, CompileError> {
        Ok(Arc::new(Loaded::new(module)?))
    }
}

/// Names of a module.
pub struct Symbols {
    functions: HashMap<String, usize>,
    /// (function or none, name) to index of a placed variable.
    placed: HashMap<(Option<usize>, String), usize>,
    constants: Vec<(usize, u64)>,
    /// Of each placed variable.
    opaque: Vec<Option<Opaque>>,
}

impl Symbols {
    pub fn functions_by_name(&self) -> HashMap<&str, usize> {
        self.functions
            .iter()
            .map(|(name, &index)| (name.as_str(), index))
            .collect()
    }

    /// Variables in constant memory: index and size.
    pub fn constants(&self) -> Vec<(usize, u64)> {
        self.constants.clone()
    }

    /// Whether a placed variable is a texture, a sampler or a surface.
    pub fn opaque(&self, placed: usize) -> Option<Opaque> {
        self.opaque.get(placed).copied().flatten()
    }

    pub fn function(&self, name: &str) -> Option<usize> {
        self.functions.get(name).copied()
    }

    pub fn placed(&self, function: usize, name: &str) -> Option<usize> {
        let at = |owner| self.placed.get(&(owner, name.to_owned())).copied();
        at(Some(function)).or_else(|| at(None))
    }
}

struct Entry {
    function: usize,
    compiled: OnceLock<Result<(Arc<Kernel>, u64), CompileError>>,
}

pub struct Loaded {
    module: Module,
    symbols: Symbols,
    entries: Vec<Entry>,
    kernels: Vec<KernelInfo>,
    globals: Vec<GlobalInfo>,
    variables: Vec<Variable>,
}

fn refuse<T>(function: &str, line: u32, message: String) -> Result<T, CompileError> {
    Err(CompileError {
        function: function.to_owned(),
        line,
        message,
    })
}

impl Loaded {
    fn new(module: &Module) -> Result<Loaded, CompileError> {
        let module = module.clone();
        if module.address_size != 64 {
            return refuse(
                "module",
                1,
                format!(
                    "`.address_size {}` is not supported, 64 is",
                    module.address_size
                ),
            );
        }
        let mut functions = HashMap::new();
        for (index, function) in module.functions.iter().enumerate() {
            // A definition beats the declarations of the same name.
            match functions.get(&function.name) {
                Some(&old)
                    if {
                        let old: usize = old;
                        module.functions[old].defined
                    } =>
                {
                    if function.defined {
                        return refuse(
                            &function.name,
                            function.span.line,
                            "the function is defined twice".into(),
                        );
                    }
                }
                _ => {
                    functions.insert(function.name.clone(), index);
                }
            }
        }
        for alias in &module.aliases {
            let taken = functions.get(&alias.name);
            if taken.is_some_and(|&at: &usize| module.functions[at].defined) {
                return refuse(
                    &alias.name,
                    alias.span.line,
                    "the alias has the name of a function that is defined".into(),
                );
            }
            match functions.get(&alias.function) {
                Some(&at) if module.functions[at].defined && !module.functions[at].is_entry => {
                    functions.insert(alias.name.clone(), at);
                }
                _ => {
                    return refuse(
                        &alias.name,
                        alias.span.line,
                        format!("`{}` is no function that can have an alias", alias.function),
                    );
                }
            }
        }
        let mut placed = HashMap::new();
        let mut variables = Vec::new();
        let mut place = |owner: Option<usize>, variable: &Variable| {
            if matches!(variable.space, Space::Global | Space::Const)
                && variable.linkage != Linkage::Extern
            {
                placed.insert((owner, variable.name.clone()), variables.len());
                variables.push(variable.clone());
            }
        };
        module
            .variables
            .iter()
            .for_each(|variable| place(None, variable));
        for (index, function) in module.functions.iter().enumerate() {
            function
                .variables
                .iter()
                .for_each(|variable| place(Some(index), variable));
        }
        let globals = variables
            .iter()
            .map(|variable| GlobalInfo {
                name: variable.name.clone(),
                space: if variable.space == Space::Const {
                    GlobalSpace::Const
                } else {
                    GlobalSpace::Global
                },
                size: variable.size,
                align: variable.align.max(1),
                initialised: !variable.init.is_empty(),
                visible: variable.linkage != Linkage::Internal
                    || placed_by_module(&module, variable),
                opaque: variable
                    .opaque
                    .map(|kind| (kind, texture::declared(&variable.init))),
                managed: variable.managed,
            })
            .collect();
        let constants = variables
            .iter()
            .enumerate()
            .filter(|(_, variable)| variable.space == Space::Const)
            .map(|(index, variable)| (index, variable.size))
            .collect();
        let symbols = Symbols {
            functions,
            placed,
            constants,
            opaque: variables.iter().map(|variable| variable.opaque).collect(),
        };
        let by_name = symbols.functions_by_name();
        let mut entries = Vec::new();
        let mut kernels = Vec::new();
        for (index, function) in module
            .functions
            .iter()
            .enumerate()
            .filter(|(_, f)| f.is_entry && f.defined)
        {
            let (offsets, _) = passing(&function.params, &[]);
            let params: Vec<ParamInfo> = function
                .params
                .iter()
                .zip(&offsets)
                .map(|(param, &offset)| ParamInfo {
                    offset: offset as u32,
                    size: param.size as u32,
                    align: param.align as u32,
                })
                .collect();
            let end = function
                .params
                .iter()
                .zip(&offsets)
                .map(|(param, at)| at + param.size)
                .max()
                .unwrap_or(0);
            if end > 32 << 10 {
                return refuse(
                    &function.name,
                    function.span.line,
                    format!("the parameters take {end} bytes"),
                );
            }
            let reached = reachable(&module, &by_name, index);
            let (_, shared) = shared_layout(&module, &reached);
            if shared > MAX_STATIC_SHARED {
                let message = format!(
                    "{shared} bytes of static shared memory, more than {MAX_STATIC_SHARED}"
                );
                return refuse(&function.name, function.span.line, message);
            }
            let words: u32 = function
                .registers
                .iter()
                .map(|register| register.ty.size().div_ceil(4))
                .sum();
            let limit = |size: Option<[u32; 3]>| {
                size.map(|[x, y, z]| x.saturating_mul(y).saturating_mul(z))
            };
            let bounds = limit(function.bounds.reqntid).or(limit(function.bounds.maxntid));
            kernels.push(KernelInfo {
                name: function.name.clone(),
                params,
                param_bytes: end as u32,
                static_shared: shared as u32,
                local_bytes: reached
                    .iter()
                    .flat_map(|&at| &module.functions[at].variables)
                    .filter(|variable| variable.space == Space::Local)
                    .map(|variable| variable.size)
                    .sum::<u64>()
                    .min(u64::from(u32::MAX)) as u32,
                // An estimate that lets a full block be launched, as compilers see to.
                registers: words
                    .clamp(16, 64)
                    .min(function.bounds.maxnreg.unwrap_or(64)),
                max_threads: bounds.unwrap_or(MAX_THREADS).min(MAX_THREADS),
                reqntid: function.bounds.reqntid,
                maxntid: function.bounds.maxntid,
                uses_heap: reached.iter().any(|&at| uses_heap(&module, &symbols, at)),
            });
            entries.push(Entry {
                function: index,
                compiled: OnceLock::new(),
            });
        }
        Ok(Loaded {
            symbols,
            entries,
            kernels,
            globals,
            variables,
            module,
        })
    }

    fn kernel(&self, index: usize) -> Result<(&Arc<Kernel>, u64), CompileError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let Some(entry) = self.entries.get(index) else {
            return refuse("module", 1, format!("there is no kernel {index}"));
        };
        let compiled = entry.compiled.get_or_init(|| {
            let kernel = lower::kernel(&self.module, &self.symbols, entry.function)?;
            Ok((Arc::new(kernel), NEXT.fetch_add(1, Ordering::Relaxed)))
        });
        match compiled {
            Ok((kernel, id)) => Ok((kernel, *id)),
            Err(error) => Err(error.clone()),
        }
    }

    /// Bytes of one initial value.
    fn element(&self, variable: &Variable, init: &Init, placed: &[u64]) -> u64 {
        match init {
            Init::Int(value) => match variable.element {
                ScalarType::F32 => u64::from((*value as i64 as f32).to_bits()),
                ScalarType::F64 => (*value as i64 as f64).to_bits(),
                _ => *value,
            },
            Init::Float(value) => match variable.element {
                ScalarType::F32 | ScalarType::B32 => u64::from((*value as f32).to_bits()),
                ScalarType::F16 => u64::from(crate::float::f32_to_f16(*value as f32)),
                _ => value.to_bits(),
            },
            Init::Field { .. } => 0,
            Init::Address {
                symbol,
                offset,
                mask,
                ..
            } => {
                let at = self
                    .symbols
                    .placed
                    .get(&(None, symbol.clone()))
                    .and_then(|&at| placed.get(at));
                let base = match (at, self.symbols.function(symbol)) {
                    (Some(&address), _) => address,
                    (None, Some(function)) => function_handle(function),
                    (None, None) => 0,
                };
                let address = base.wrapping_add(*offset as u64);
                match mask {
                    Some(0) | None => address,
                    Some(mask) => (address & mask) >> mask.trailing_zeros(),
                }
            }
        }
    }
}

/// Whether a function calls the `malloc` or `free` that the device provides.
fn uses_heap(module: &Module, symbols: &Symbols, function: usize) -> bool {
    let provided = |name: &str| {
        let found = symbols.function(name);
        matches!(name, "malloc" | "free") && found.is_some_and(|at| !module.functions[at].defined)
    };
    let body = &module.functions[function].body;
    body.iter()
        .filter(|instruction| instruction.mnemonic() == "call")
        .flat_map(|instruction| &instruction.operands)
        .any(|operand| matches!(operand, Operand::Symbol { name, .. } if provided(name)))
}

/// CUDA finds module variables whether the compiler made them visible or not.
fn placed_by_module(module: &Module, variable: &Variable) -> bool {
    module
        .variables
        .iter()
        .any(|other| other.name == variable.name)
}

impl Program for Loaded {
    fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    fn globals(&self) -> &[GlobalInfo] {
        &self.globals
    }

    fn initial_image(&self, global: usize, placed: &[u64]) -> Vec<u8> {
        let variable = &self.variables[global];
        let mut image = vec![0; variable.size as usize];
        let size = variable.element.size() as usize;
        for (init, bytes) in variable.init.iter().zip(image.chunks_exact_mut(size)) {
            let value = self.element(variable, init, placed).to_le_bytes();
            let len = size.min(8);
            bytes[..len].copy_from_slice(&value[..len]);
        }
        image
    }

    fn prepare(&self, kernel: usize) -> Result<(), CompileError> {
        self.kernel(kernel).map(|_| ())
    }

    fn gang(&self, launch: &LaunchContext<'_>) -> usize {
        let Ok((kernel, _)) = self.kernel(launch.kernel) else {
            return 1;
        };
        let lanes = crate::block::block_lanes(kernel, launch.block);
        (GANG_LANES.min(MAX_LANES) / lanes).max(1)
    }

    fn start_blocks<'a>(
        &'a self,
        launch: &'a LaunchContext<'a>,
        blocks: &[[u32; 3]],
    ) -> Box<dyn Block + 'a> {
        match self.kernel(launch.kernel) {
            Ok((kernel, id)) => Gang::start(kernel, id, launch, blocks),
            Err(error) => Gang::refused(error, launch, blocks),
        }
    }
}
