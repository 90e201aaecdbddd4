//! C prototypes of cuda.h and cuda_runtime_api.h as Rust signatures of the same ABI.

use anyhow::{Context, Result, ensure};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};

use super::emit::ident;

pub struct Prototype {
    pub name: String,
    /// As C has it: `cudaError_t`, `const char*`, …
    pub returns: String,
    pub params: Vec<Param>,
}

#[derive(Debug, PartialEq)]
pub struct Param {
    pub name: String,
    base: String,
    constant: bool,
    stars: usize,
}

/// Handles and functions of the program's, all of them pointers, that are passed by value.
const POINTERS: &[&str] = &[
    "cudaArray_const_t",
    "cudaArray_t",
    "cudaAsyncCallback",
    "cudaAsyncCallbackHandle_t",
    "cudaDevResourceDesc_t",
    "cudaEvent_t",
    "cudaExecutionContext_t",
    "cudaExternalMemory_t",
    "cudaExternalSemaphore_t",
    "cudaFunction_t",
    "cudaGraph_t",
    "cudaGraphExec_t",
    "cudaGraphNode_t",
    "cudaGraphicsResource_t",
    "cudaHostFn_t",
    "cudaKernel_t",
    "cudaLibrary_t",
    "cudaLogsCallbackHandle",
    "cudaLogsCallback_t",
    "cudaMemPool_t",
    "cudaMipmappedArray_const_t",
    "cudaMipmappedArray_t",
    "cudaStreamCallback_t",
    "cudaStream_t",
    "cudaUserObject_t",
    "CUarray",
    "CUasyncCallback",
    "CUasyncCallbackHandle",
    "CUcontext",
    "CUdevResourceDesc",
    "CUevent",
    "CUfunction",
    "CUgraph",
    "CUgraphExec",
    "CUgraphNode",
    "CUgreenCtx",
    "CUhostFn",
    "CUkernel",
    "CUlibrary",
    "CUlinkState",
    "CUlogsCallback",
    "CUlogsCallbackHandle",
    "CUmemoryPool",
    "CUmipmappedArray",
    "CUmodule",
    "CUstream",
    "CUstreamCallback",
    "CUuserObject",
    "EGLImageKHR",
    "EGLStreamKHR",
    "EGLSyncKHR",
];

/// Structures that the runtime's own code has, by their C names.
const STRUCTURES: &[(&str, &str)] = &[
    ("cudaChannelFormatDesc", "ChannelDesc"),
    ("cudaExtent", "Extent"),
    ("cudaFuncAttributes", "FuncAttributes"),
    ("cudaGraphNodeParams", "NodeParams"),
    ("cudaIpcEventHandle_t", "IpcHandle"),
    ("cudaIpcMemHandle_t", "IpcHandle"),
    ("CUipcEventHandle", "IpcHandle"),
    ("CUipcMemHandle", "IpcHandle"),
    ("cudaKernelNodeParams", "KernelNodeParams"),
    ("cudaLaunchConfig_t", "LaunchConfig"),
    ("cudaLaunchParams", "LaunchParams"),
    ("cudaMemLocation", "Location"),
    ("CUmemLocation", "Location"),
    ("cudaMemcpy3DBatchOp", "BatchCopy3D"),
    ("cudaMemcpy3DParms", "Copy3D"),
    ("cudaMemcpy3DPeerParms", "PeerCopy3D"),
    ("cudaMemcpyAttributes", "CopyAttributes"),
    ("cudaMemsetParams", "MemsetParams"),
    ("cudaPitchedPtr", "PitchedPtr"),
    ("cudaTextureDesc", "TextureDesc"),
    ("dim3", "Dim3"),
];

impl Prototype {
    /// `cudaError_t cudaMalloc(void **devPtr, size_t size)`
    pub fn parse(text: &str) -> Result<Prototype> {
        let (head, params) = text.split_once('(').context("no parameters")?;
        let params = params
            .trim_end()
            .strip_suffix(')')
            .context("no closing parenthesis")?;
        ensure!(!params.contains('('), "a function as a parameter: {text}");
        let head = head.trim();
        let at = head
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .context("no type")?;
        let params = match params.trim() {
            "" | "void" => Vec::new(),
            list => list
                .split(',')
                .map(Param::parse)
                .collect::<Result<_>>()
                .with_context(|| text.to_owned())?,
        };
        Ok(Prototype {
            name: head[at + 1..].to_owned(),
            returns: head[..=at].replace("struct ", "").trim().to_owned(),
            params,
        })
    }
}

impl Param {
    fn parse(text: &str) -> Result<Param> {
        let text = text.trim();
        let at = text
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .context("a parameter without a name")?;
        let name = match &text[at + 1..] {
            // Names in C.
            word @ ("fn" | "in" | "ref" | "type") => format!("{word}_"),
            name => name.to_owned(),
        };
        let ty = &text[..=at];
        let stars = ty.matches('*').count();
        let words = ty
            .split(|c: char| c.is_whitespace() || c == '*')
            .filter(|word| !word.is_empty());
        let mut base = Vec::new();
        let mut constant = false;
        for word in words {
            match word {
                "const" => constant |= base.is_empty(),
                "struct" => {}
                _ => base.push(word),
            }
        }
        Ok(Param {
            name,
            base: base.join(" "),
            constant,
            stars,
        })
    }

    /// The Rust type; `structures`: whether pointers to the runtime's structures are typed.
    pub fn rust(&self, structures: bool) -> TokenStream {
        let plain = match self.base.as_str() {
            "void" => quote!(c_void),
            "char" => quote!(c_char),
            "double" => quote!(f64),
            "float" => quote!(f32),
            "int" | "CUdevice" | "CUdevice_v1" | "EGLint" => quote!(i32),
            "size_t" => quote!(usize),
            "unsigned char" => quote!(u8),
            "unsigned int" | "unsigned" | "cuuint32_t" | "GLuint" | "GLenum"
            | "cudaLogIterator" | "CUlogIterator" => quote!(u32),
            "CUdeviceptr"
            | "CUgraphConditionalHandle"
            | "CUsurfObject"
            | "CUtexObject"
            | "cudaGraphConditionalHandle"
            | "cudaSurfaceObject_t"
            | "cudaTextureObject_t"
            | "cuuint64_t"
            | "unsigned long long" => quote!(u64),
            base if POINTERS.contains(&base) => quote!(Handle),
            base if base.starts_with("enum ") => quote!(u32),
            base => {
                let found = STRUCTURES.iter().find(|(name, _)| *name == base);
                match found {
                    Some((_, name)) if structures || self.stars == 0 => {
                        ident(name).into_token_stream()
                    }
                    // What is passed by value and nothing else is an enumeration.
                    None if self.stars == 0 => quote!(u32),
                    _ => quote!(c_void),
                }
            }
        };
        (0..self.stars).fold(plain, |inner, star| {
            if star == 0 && self.constant {
                quote!(*const #inner)
            } else {
                quote!(*mut #inner)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(text: &str) -> Vec<String> {
        let prototype = Prototype::parse(text).unwrap();
        let types = prototype.params.iter();
        types
            .map(|p| p.rust(true).to_string().replace(' ', ""))
            .collect()
    }

    #[test]
    fn prototypes_are_read() {
        let prototype =
            Prototype::parse("cudaError_t cudaMalloc(void **devPtr, size_t size)").unwrap();
        assert_eq!(prototype.name, "cudaMalloc");
        assert_eq!(prototype.returns, "cudaError_t");
        assert_eq!(
            types("cudaError_t f(void **p, const void *const *q, enum cudaX x, CUlimit y, dim3 d)"),
            ["*mut*mutc_void", "*mut*constc_void", "u32", "u32", "Dim3"]
        );
        assert_eq!(types("const char* cudaF(void)"), Vec::<String>::new());
        assert!(Prototype::parse("cudaError_t f(void (*g)(int))").is_err());
        assert!(Prototype::parse("nothing").is_err());
    }
}
