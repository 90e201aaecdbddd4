//! Modules: what the PTX says of functions and variables. Code is not looked at.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::sync::{Mutex, OnceLock, PoisonError};

use softgpu_ptx::Space;

use crate::abi::{In, Out, answer};
use crate::config;
use crate::context;
use crate::errors::{Error, Result};
use crate::function::{self, Function};
use crate::handles::Table;
use crate::image;
use crate::memory;

// CUjit_option.
const INFO_LOG_BUFFER: u32 = 3;
const INFO_LOG_BUFFER_SIZE_BYTES: u32 = 4;
const ERROR_LOG_BUFFER: u32 = 5;
const ERROR_LOG_BUFFER_SIZE_BYTES: u32 = 6;
/// CU_MODULE_EAGER_LOADING.
const EAGER: u32 = 1;

#[derive(Clone, Copy)]
struct Variable {
    bytes: u64,
    /// 0 until somebody asks for it.
    address: u64,
}

pub struct Module {
    pub handle: u64,
    /// 0: no library's.
    pub library: u64,
    /// In the order of the text.
    pub functions: OnceLock<Vec<&'static Function>>,
    by_name: OnceLock<HashMap<&'static CStr, &'static Function>>,
    variables: Mutex<HashMap<CString, Variable>>,
}

static MODULES: Table<Module> = Table::new(4);

pub fn find(handle: u64) -> Result<&'static Module> {
    MODULES.get(handle)
}

/// What a program wants to know of a load: where the logs go.
#[derive(Clone, Copy)]
pub struct Options {
    pub count: u32,
    pub names: In<u32>,
    pub values: Out<u64>,
}

impl Options {
    /// Where the option's value is, and the value.
    fn value(&self, name: u32) -> Option<(Out<u64>, u64)> {
        let names = (0..self.count as usize).map(|index| self.names.at(index));
        let index = names.into_iter().position(|found| found == Ok(name))?;
        let place = self.values.offset(index)?;
        Some((place, place.as_in().get().ok()?))
    }

    /// A log's text, cut to fit; its length goes where its room was.
    fn log(&self, buffer: u32, size: u32, text: &str) {
        if let (Some((_, buffer)), Some((place, room))) = (self.value(buffer), self.value(size)) {
            // The room is an unsigned int in the place of a pointer.
            let room = i32::try_from(room as u32).unwrap_or(i32::MAX);
            if crate::abi::put_text(Out::<c_char>::from(buffer), room, text).is_ok() {
                place.put_if((text.len() as u64).min(room as u64 - 1));
            }
        }
    }
}

fn parse(image: In<u8>, options: Options) -> Result<softgpu_ptx::Module> {
    let mut error = String::new();
    let parsed = image::read(image).and_then(|text| {
        softgpu_ptx::parse(&text).map_err(|why| {
            error = format!("ptxas error: {why}");
            Error::INVALID_PTX
        })
    });
    options.log(INFO_LOG_BUFFER, INFO_LOG_BUFFER_SIZE_BYTES, "");
    options.log(ERROR_LOG_BUFFER, ERROR_LOG_BUFFER_SIZE_BYTES, &error);
    parsed
}

impl Module {
    pub fn load(image: In<u8>, options: Options, library: u64) -> Result<&'static Module> {
        let paced = config::paced()?;
        let parsed = parse(image, options)?;
        let variables = parsed.variables.iter().filter_map(|variable| {
            let here = matches!(variable.space, Space::Global | Space::Const);
            let named = CString::new(variable.name.as_str()).ok()?;
            let bytes = variable.size;
            (here && bytes > 0).then_some((named, Variable { bytes, address: 0 }))
        });
        let module = MODULES.insert(|handle| {
            Box::leak(Box::new(Module {
                handle,
                library,
                functions: OnceLock::new(),
                by_name: OnceLock::new(),
                variables: Mutex::new(variables.collect()),
            }))
        })?;
        let entries = parsed.functions.iter();
        let entries = entries.filter(|function| function.is_entry && function.defined);
        let functions: Result<Vec<_>> = entries
            .map(|entry| {
                let time = paced.map_or(0, |paced| paced.pace.of(&entry.name));
                function::create(module, &parsed, entry, time)
            })
            .collect();
        let functions = functions?;
        let by_name = functions
            .iter()
            .map(|function| (&*function.name, *function));
        let _ = module.by_name.set(by_name.collect());
        let _ = module.functions.set(functions);
        Ok(module)
    }

    pub fn functions(&self) -> &[&'static Function] {
        self.functions.get().map_or(&[], Vec::as_slice)
    }

    pub fn function(&self, name: &CStr) -> Result<&'static Function> {
        let found = self.by_name.get().and_then(|names| names.get(name));
        found.copied().ok_or(Error::NOT_FOUND)
    }

    /// Address and size of a variable, which gets its memory now.
    pub fn variable(&self, name: &CStr) -> Result<(u64, u64)> {
        let mut variables = self
            .variables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let variable = variables.get_mut(name).ok_or(Error::NOT_FOUND)?;
        if variable.address == 0 {
            variable.address = memory::allocate(context::current()?.handle, variable.bytes)?;
        }
        Ok((variable.address, variable.bytes))
    }

    pub fn unload(&self) -> Result {
        MODULES.remove(self.handle)?;
        for function in self.functions() {
            function.unload();
        }
        let variables = self
            .variables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for variable in variables.values().filter(|variable| variable.address != 0) {
            // With its context it has gone before.
            let _ = memory::free(variable.address);
        }
        Ok(())
    }
}

/// As many functions as there is room for.
pub fn enumerate(module: &Module, places: Out<u64>, count: u32) -> Result {
    for (index, function) in module.functions().iter().take(count as usize).enumerate() {
        places.put_at(index, function.handle)?;
    }
    Ok(())
}

pub fn put_variable(
    module: &Module,
    address: Out<u64>,
    bytes: Out<usize>,
    name: In<c_char>,
) -> Result {
    let (at, size) = module.variable(name.text()?)?;
    address.put_if(at);
    bytes.put_if(size as usize);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: Out<u64>, image: In<u8>) -> u32 {
    cuModuleLoadDataEx(module, image, 0, In::from(0), Out::from(0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadFatBinary(module: Out<u64>, image: In<u8>) -> u32 {
    cuModuleLoadData(module, image)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadDataEx(
    module: Out<u64>,
    image: In<u8>,
    count: u32,
    names: In<u32>,
    values: Out<u64>,
) -> u32 {
    answer(|| {
        context::current()?;
        module.check()?;
        let options = Options {
            count,
            names,
            values,
        };
        module.put(Module::load(image, options, 0)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: u64) -> u32 {
    answer(|| match find(module)? {
        module if module.library == 0 => module.unload(),
        _ => Err(Error::INVALID_HANDLE),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(function: Out<u64>, module: u64, name: In<c_char>) -> u32 {
    answer(|| function.put(find(module)?.function(name.text()?)?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunctionCount(count: Out<u32>, module: u64) -> u32 {
    answer(|| count.put(find(module)?.functions().len() as u32))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleEnumerateFunctions(functions: Out<u64>, count: u32, module: u64) -> u32 {
    answer(|| enumerate(find(module)?, functions, count))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetGlobal_v2(
    address: Out<u64>,
    bytes: Out<usize>,
    module: u64,
    name: In<c_char>,
) -> u32 {
    answer(|| put_variable(find(module)?, address, bytes, name))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetLoadingMode(mode: Out<u32>) -> u32 {
    answer(|| mode.put(EAGER))
}
