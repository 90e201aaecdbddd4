//! Where things lie: frames of functions, shared variables; and which functions a kernel reaches.

use std::collections::{HashMap, HashSet, VecDeque};

use softgpu_ptx::{Base, Function, Linkage, Module, Operand, Param, Space, Variable};

/// Where a function's parameters and variables lie in its frame.
#[derive(Default, Clone)]
pub struct Frame {
    /// Name to offset and size.
    pub at: HashMap<String, (u64, u64)>,
    pub size: u64,
}

/// Offsets of parameters, then of return values: the same for whoever calls by declaration or by prototype.
pub fn passing(params: &[Param], returns: &[Param]) -> (Vec<u64>, u64) {
    let mut at = 0u64;
    let mut offsets = Vec::new();
    for param in params.iter().chain(returns) {
        at = at.next_multiple_of(param.align.max(1));
        offsets.push(at);
        at += param.size;
    }
    (offsets, at.next_multiple_of(16))
}

pub fn frame(function: &Function) -> Frame {
    let mut frame = Frame::default();
    if !function.is_entry {
        let (offsets, size) = passing(&function.params, &function.returns);
        for (param, at) in function.params.iter().chain(&function.returns).zip(offsets) {
            frame.at.insert(param.name.clone(), (at, param.size));
        }
        frame.size = size;
    }
    let locals = function
        .variables
        .iter()
        .filter(|variable| variable.space == Space::Local);
    let sizes = locals.map(|variable| (&variable.name, variable.size, variable.align));
    for (name, size, align) in sizes.chain(
        function
            .call_params
            .iter()
            .map(|p| (&p.name, p.size, p.align)),
    ) {
        frame.size = frame.size.next_multiple_of(align.max(1));
        frame.at.insert(name.clone(), (frame.size, size));
        frame.size += size;
    }
    frame.size = frame.size.next_multiple_of(16);
    frame
}

/// What a name stands for.
pub enum Meaning {
    /// A module variable that the driver places.
    Placed(usize),
    Shared(u64),
    /// In the frame of the function.
    Framed(u64),
    /// A parameter of the kernel, at this offset.
    KernelParam(u64),
    Function(usize),
}

/// Functions that a kernel reaches, itself first.
pub fn reachable(module: &Module, by_name: &HashMap<&str, usize>, entry: usize) -> Vec<usize> {
    let mut found = vec![entry];
    let mut seen: HashSet<usize> = found.iter().copied().collect();
    let mut queue: VecDeque<usize> = found.iter().copied().collect();
    let mut indirect = false;
    while let Some(index) = queue.pop_front() {
        let mut names = Vec::new();
        for instruction in &module.functions[index].body {
            if instruction.mnemonic() == "call" {
                indirect |= instruction
                    .operands
                    .iter()
                    .take(2)
                    .any(|o| matches!(o, Operand::Register(_)));
            }
            for operand in &instruction.operands {
                if let Operand::Symbol { name, .. } = operand {
                    names.push(name.as_str());
                }
            }
        }
        for targets in &module.functions[index].targets {
            names.extend(targets.functions.iter().map(String::as_str));
        }
        if indirect {
            // Whatever has its address in a variable may be called.
            for variable in &module.variables {
                for init in &variable.init {
                    if let softgpu_ptx::Init::Address { symbol, .. } = init {
                        names.push(symbol);
                    }
                }
            }
        }
        for name in names {
            if let Some(&callee) = by_name.get(name)
                && module.functions[callee].defined
                && !module.functions[callee].is_entry
                && seen.insert(callee)
            {
                found.push(callee);
                queue.push_back(callee);
            }
        }
    }
    found
}

/// Shared variables of the functions: name (with its function, or none for the module's) to offset, and all bytes.
pub fn shared_layout(
    module: &Module,
    functions: &[usize],
) -> (HashMap<(Option<usize>, String), u64>, u64) {
    let mut layout = HashMap::new();
    let mut dynamic = Vec::new();
    let mut size = 0u64;
    let mut used = HashSet::new();
    for &index in functions {
        for instruction in &module.functions[index].body {
            for operand in &instruction.operands {
                names_of(operand, &mut |name| {
                    used.insert(name.to_owned());
                });
            }
        }
    }
    let mut add = |owner: Option<usize>, variable: &Variable| {
        if variable.linkage == Linkage::Extern && variable.size == 0 {
            dynamic.push((owner, variable.name.clone(), variable.align));
            return;
        }
        size = size.next_multiple_of(variable.align.max(1));
        layout.insert((owner, variable.name.clone()), size);
        size += variable.size;
    };
    for variable in module
        .variables
        .iter()
        .filter(|v| v.space == Space::Shared && used.contains(&v.name))
    {
        add(None, variable);
    }
    for &index in functions {
        for variable in module.functions[index]
            .variables
            .iter()
            .filter(|v| v.space == Space::Shared)
        {
            add(Some(index), variable);
        }
    }
    // What the launch sizes begins behind all that is sized here.
    let align = dynamic.iter().map(|&(.., align)| align).max().unwrap_or(1);
    size = size.next_multiple_of(align.max(1));
    for (owner, name, _) in dynamic {
        layout.insert((owner, name), size);
    }
    (layout, size)
}

fn names_of(operand: &Operand, each: &mut impl FnMut(&str)) {
    match operand {
        Operand::Symbol { name, .. }
        | Operand::Address {
            base: Base::Symbol(name),
            ..
        } => each(name),
        Operand::Vector(items) | Operand::List(items) => {
            items.iter().for_each(|item| names_of(item, each))
        }
        _ => {}
    }
}
