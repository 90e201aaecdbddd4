//! Several modules to one: what one declares is what another defines.

use std::collections::{HashMap, HashSet};

use crate::ir::*;

/// Functions that every device has.
const BUILT_IN: [&str; 4] = ["vprintf", "malloc", "free", "__assertfail"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("there is nothing to link")]
    Empty,
    #[error("`{0}` is defined more than once")]
    Twice(String),
    #[error("undefined reference to `{name}` in `{user}`")]
    Undefined { name: String, user: String },
    #[error("the modules have addresses of different sizes")]
    AddressSize,
}

/// Joins modules in their order: a strong definition beats a weak one, and of several weak ones the first stays.
pub fn link(mut modules: Vec<Module>) -> Result<Module, LinkError> {
    keep_apart(&mut modules);
    let first = modules.first().ok_or(LinkError::Empty)?;
    let mut joined = Module {
        address_size: first.address_size,
        ..Module::default()
    };
    let mut newest = 0;
    let mut functions = Symbols::default();
    let mut variables = Symbols::default();
    for module in modules {
        if module.address_size != joined.address_size {
            return Err(LinkError::AddressSize);
        }
        joined.version = joined.version.max(module.version);
        let target = number(&module.target);
        if joined.target.is_empty() || target > newest {
            (joined.target, newest) = (module.target, target);
        }
        for function in module.functions {
            let strength = match (function.defined, function.linkage) {
                (false, _) => Strength::Declared,
                (true, Linkage::Weak) => Strength::Weak,
                (true, _) => Strength::Strong,
            };
            functions.add(function.name.clone(), strength, function)?;
        }
        for variable in module.variables {
            let strength = match variable.linkage {
                Linkage::Extern => Strength::Declared,
                Linkage::Weak | Linkage::Common => Strength::Weak,
                _ => Strength::Strong,
            };
            variables.add(variable.name.clone(), strength, variable)?;
        }
    }
    check(&functions, &variables)?;
    joined.functions = functions.into_items();
    joined.variables = variables.into_items();
    Ok(joined)
}

/// `sm_86` is 86.
fn number(target: &str) -> u32 {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    Declared,
    Weak,
    Strong,
}

/// Items of one kind in the order of their first appearance.
struct Symbols<T> {
    items: Vec<(Strength, T)>,
    places: HashMap<String, usize>,
}

impl<T> Default for Symbols<T> {
    fn default() -> Self {
        Symbols {
            items: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T> Symbols<T> {
    fn add(&mut self, name: String, strength: Strength, item: T) -> Result<(), LinkError> {
        match self.places.get(&name) {
            Some(&at) => {
                let old = &mut self.items[at];
                if old.0 == Strength::Strong && strength == Strength::Strong {
                    return Err(LinkError::Twice(name));
                }
                if strength > old.0 {
                    *old = (strength, item);
                }
            }
            None => {
                self.places.insert(name, self.items.len());
                self.items.push((strength, item));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&(Strength, T)> {
        self.places.get(name).map(|&at| &self.items[at])
    }

    fn into_items(self) -> Vec<T> {
        self.items.into_iter().map(|(_, item)| item).collect()
    }
}

/// What a function uses must be there; what is declared and never used need not.
fn check(functions: &Symbols<Function>, variables: &Symbols<Variable>) -> Result<(), LinkError> {
    for (_, function) in functions.items.iter().filter(|(_, f)| f.defined) {
        let local = locals(function);
        let mut missing = None;
        for instruction in &function.body {
            for operand in &instruction.operands {
                each_name(operand, &mut |name| {
                    if local.contains(name.as_str()) || BUILT_IN.contains(&name.as_str()) {
                        return;
                    }
                    let declared = |strength: Strength| strength == Strength::Declared;
                    let undefined = match (functions.find(name), variables.find(name)) {
                        (Some((strength, _)), None) => declared(*strength),
                        // Dynamic shared memory is declared, and sized by the launch.
                        (_, Some((strength, variable))) => {
                            declared(*strength) && variable.space != Space::Shared
                        }
                        (None, None) => false,
                    };
                    if undefined {
                        missing.get_or_insert_with(|| name.clone());
                    }
                });
            }
        }
        if let Some(name) = missing {
            return Err(LinkError::Undefined {
                name,
                user: function.name.clone(),
            });
        }
    }
    Ok(())
}

/// Gives what is a module's own, and has a name that another module has as well, a name that no text can have.
fn keep_apart(modules: &mut [Module]) {
    let mut users: HashMap<String, usize> = HashMap::new();
    for module in modules.iter() {
        let names: HashSet<&str> = symbols(module).map(|(name, _)| name).collect();
        for name in names {
            *users.entry(name.to_owned()).or_default() += 1;
        }
    }
    for (index, module) in modules.iter_mut().enumerate() {
        let renamed: HashMap<String, String> = symbols(module)
            .filter(|&(name, own)| own && users.get(name).is_some_and(|&count| count > 1))
            .map(|(name, _)| (name.to_owned(), format!("{name}@{index}")))
            .collect();
        if !renamed.is_empty() {
            rename(module, &renamed);
        }
    }
}

/// The names of a module, and whether they mean something to this module alone. Kernels keep their names.
fn symbols(module: &Module) -> impl Iterator<Item = (&str, bool)> {
    let functions = module.functions.iter().map(|function| {
        let own = function.linkage == Linkage::Internal && !function.is_entry;
        (function.name.as_str(), own)
    });
    let variables = module.variables.iter().map(|variable| {
        let own = variable.linkage == Linkage::Internal;
        (variable.name.as_str(), own)
    });
    functions.chain(variables)
}

fn rename(module: &mut Module, renamed: &HashMap<String, String>) {
    let change = |name: &mut String| {
        if let Some(new) = renamed.get(name) {
            *name = new.clone();
        }
    };
    for variable in &mut module.variables {
        change(&mut variable.name);
        rename_init(variable, &change);
    }
    for function in &mut module.functions {
        change(&mut function.name);
        let local: HashSet<String> = locals(function).into_iter().map(str::to_owned).collect();
        let change_used = |name: &mut String| {
            if !local.contains(name) {
                change(name);
            }
        };
        for variable in &mut function.variables {
            rename_init(variable, &change_used);
        }
        for instruction in &mut function.body {
            for operand in &mut instruction.operands {
                each_name_mut(operand, &change_used);
            }
        }
    }
}

fn rename_init(variable: &mut Variable, change: &impl Fn(&mut String)) {
    for init in &mut variable.init {
        if let Init::Address { symbol, .. } = init {
            change(symbol);
        }
    }
}

/// Names that a function declares for itself.
fn locals(function: &Function) -> HashSet<&str> {
    let params = [&function.params, &function.returns, &function.call_params];
    let params = params.into_iter().flatten().map(|param| &param.name);
    let variables = function.variables.iter().map(|variable| &variable.name);
    let tables = function.tables.iter().map(|table| &table.name);
    let prototypes = function.prototypes.iter().map(|prototype| &prototype.name);
    params
        .chain(variables)
        .chain(tables)
        .chain(prototypes)
        .map(String::as_str)
        .collect()
}

fn each_name(operand: &Operand, each: &mut impl FnMut(&String)) {
    match operand {
        Operand::Symbol { name, .. }
        | Operand::Address {
            base: Base::Symbol(name),
            ..
        } => each(name),
        Operand::Vector(items) | Operand::List(items) => {
            for item in items {
                each_name(item, each);
            }
        }
        Operand::Pair(a, b) => {
            each_name(a, each);
            each_name(b, each);
        }
        _ => {}
    }
}

fn each_name_mut(operand: &mut Operand, change: &impl Fn(&mut String)) {
    match operand {
        Operand::Symbol { name, .. }
        | Operand::Address {
            base: Base::Symbol(name),
            ..
        } => change(name),
        Operand::Vector(items) | Operand::List(items) => {
            for item in items {
                each_name_mut(item, change);
            }
        }
        Operand::Pair(a, b) => {
            each_name_mut(a, change);
            each_name_mut(b, change);
        }
        _ => {}
    }
}
