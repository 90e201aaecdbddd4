//! CUDA result codes.

/// A CUresult other than CUDA_SUCCESS. Never an enum: C callers may hand back any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub u32);

pub type Result<T = ()> = std::result::Result<T, Error>;

macro_rules! codes {
    ($($code:literal $name:ident $text:literal;)*) => {
        impl Error { $(pub const $name: Error = Error($code);)* }

        /// Code, name without its terminator, description; ascending.
        static TABLE: &[(u32, &std::ffi::CStr, &std::ffi::CStr)] = &[$((
            $code,
            match std::ffi::CStr::from_bytes_with_nul(concat!("CUDA_", stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!(),
            },
            match std::ffi::CStr::from_bytes_with_nul(concat!($text, "\0").as_bytes()) {
                Ok(text) => text,
                Err(_) => panic!(),
            },
        ),)*];
    };
}

codes! {
    0 SUCCESS "no error";
    1 ERROR_INVALID_VALUE "invalid argument";
    2 ERROR_OUT_OF_MEMORY "out of memory";
    3 ERROR_NOT_INITIALIZED "initialization error";
    4 ERROR_DEINITIALIZED "driver shutting down";
    5 ERROR_PROFILER_DISABLED "profiler disabled";
    6 ERROR_PROFILER_NOT_INITIALIZED "profiler not initialized";
    7 ERROR_PROFILER_ALREADY_STARTED "profiler already started";
    8 ERROR_PROFILER_ALREADY_STOPPED "profiler already stopped";
    34 ERROR_STUB_LIBRARY "stub library loaded instead of a driver";
    36 ERROR_CALL_REQUIRES_NEWER_DRIVER "call requires a newer driver";
    46 ERROR_DEVICE_UNAVAILABLE "device busy or unavailable";
    47 ERROR_MULTICAST_RESOURCE_FULL "multicast resources exhausted";
    100 ERROR_NO_DEVICE "no CUDA-capable device is detected";
    101 ERROR_INVALID_DEVICE "invalid device ordinal";
    102 ERROR_DEVICE_NOT_LICENSED "device has no valid license";
    200 ERROR_INVALID_IMAGE "device kernel image is invalid";
    201 ERROR_INVALID_CONTEXT "invalid device context";
    202 ERROR_CONTEXT_ALREADY_CURRENT "context already current";
    205 ERROR_MAP_FAILED "mapping of memory failed";
    206 ERROR_UNMAP_FAILED "unmapping of memory failed";
    207 ERROR_ARRAY_IS_MAPPED "array is mapped";
    208 ERROR_ALREADY_MAPPED "resource already mapped";
    209 ERROR_NO_BINARY_FOR_GPU "no kernel image is available for execution on the device";
    210 ERROR_ALREADY_ACQUIRED "resource already acquired";
    211 ERROR_NOT_MAPPED "resource not mapped";
    212 ERROR_NOT_MAPPED_AS_ARRAY "resource not mapped as array";
    213 ERROR_NOT_MAPPED_AS_POINTER "resource not mapped as pointer";
    214 ERROR_ECC_UNCORRECTABLE "uncorrectable ECC error encountered";
    215 ERROR_UNSUPPORTED_LIMIT "limit is not supported on this architecture";
    216 ERROR_CONTEXT_ALREADY_IN_USE "exclusive-thread device already in use by a different thread";
    217 ERROR_PEER_ACCESS_UNSUPPORTED "peer access is not supported between these two devices";
    218 ERROR_INVALID_PTX "a PTX JIT compilation failed";
    219 ERROR_INVALID_GRAPHICS_CONTEXT "invalid OpenGL or DirectX context";
    220 ERROR_NVLINK_UNCORRECTABLE "uncorrectable NVLink error detected during the execution";
    221 ERROR_JIT_COMPILER_NOT_FOUND "PTX JIT compiler library not found";
    222 ERROR_UNSUPPORTED_PTX_VERSION "the provided PTX was compiled with an unsupported toolchain";
    223 ERROR_JIT_COMPILATION_DISABLED "PTX JIT compilation was disabled";
    224 ERROR_UNSUPPORTED_EXEC_AFFINITY "the provided execution affinity is not supported";
    225 ERROR_UNSUPPORTED_DEVSIDE_SYNC "device-side synchronization is not supported";
    226 ERROR_CONTAINED "contained memory error";
    227 ERROR_INSUFFICIENT_LOADER_VERSION "a newer loader is needed for this module";
    300 ERROR_INVALID_SOURCE "device kernel source is invalid";
    301 ERROR_FILE_NOT_FOUND "file not found";
    302 ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND "shared object symbol not found";
    303 ERROR_SHARED_OBJECT_INIT_FAILED "shared object initialization failed";
    304 ERROR_OPERATING_SYSTEM "OS call failed or operation not supported on this OS";
    400 ERROR_INVALID_HANDLE "invalid resource handle";
    401 ERROR_ILLEGAL_STATE "the operation cannot be performed in the present state";
    402 ERROR_LOSSY_QUERY "query would lose information";
    500 ERROR_NOT_FOUND "named symbol not found";
    600 ERROR_NOT_READY "device not ready";
    700 ERROR_ILLEGAL_ADDRESS "an illegal memory access was encountered";
    701 ERROR_LAUNCH_OUT_OF_RESOURCES "too many resources requested for launch";
    702 ERROR_LAUNCH_TIMEOUT "the launch timed out and was terminated";
    703 ERROR_LAUNCH_INCOMPATIBLE_TEXTURING "launch uses incompatible texturing mode";
    704 ERROR_PEER_ACCESS_ALREADY_ENABLED "peer access is already enabled";
    705 ERROR_PEER_ACCESS_NOT_ENABLED "peer access has not been enabled";
    708 ERROR_PRIMARY_CONTEXT_ACTIVE "cannot set while device is active in this process";
    709 ERROR_CONTEXT_IS_DESTROYED "context is destroyed";
    710 ERROR_ASSERT "device-side assert triggered";
    711 ERROR_TOO_MANY_PEERS "peer mapping resources exhausted";
    712 ERROR_HOST_MEMORY_ALREADY_REGISTERED "part or all of the requested memory range is already mapped";
    713 ERROR_HOST_MEMORY_NOT_REGISTERED "pointer does not correspond to a registered memory region";
    714 ERROR_HARDWARE_STACK_ERROR "hardware stack error";
    715 ERROR_ILLEGAL_INSTRUCTION "an illegal instruction was encountered";
    716 ERROR_MISALIGNED_ADDRESS "misaligned address";
    717 ERROR_INVALID_ADDRESS_SPACE "operation not supported on global/shared address space";
    718 ERROR_INVALID_PC "invalid program counter";
    719 ERROR_LAUNCH_FAILED "unspecified launch failure";
    720 ERROR_COOPERATIVE_LAUNCH_TOO_LARGE "too many blocks in cooperative launch";
    721 ERROR_TENSOR_MEMORY_LEAK "tensor memory was not released";
    800 ERROR_NOT_PERMITTED "operation not permitted";
    801 ERROR_NOT_SUPPORTED "operation not supported";
    802 ERROR_SYSTEM_NOT_READY "system not yet initialized";
    803 ERROR_SYSTEM_DRIVER_MISMATCH "system has unsupported display driver / cuda driver combination";
    804 ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE "forward compatibility was attempted on non supported HW";
    805 ERROR_MPS_CONNECTION_FAILED "MPS client failed to connect to the MPS control daemon or the MPS server";
    806 ERROR_MPS_RPC_FAILURE "the remote procedural call between the MPS server and the MPS client failed";
    807 ERROR_MPS_SERVER_NOT_READY "MPS server is not ready to accept new MPS client requests";
    808 ERROR_MPS_MAX_CLIENTS_REACHED "the hardware resources required to create MPS client have been exhausted";
    809 ERROR_MPS_MAX_CONNECTIONS_REACHED "the hardware resources required to support device connections have been exhausted";
    810 ERROR_MPS_CLIENT_TERMINATED "the MPS client has been terminated by the server";
    811 ERROR_CDP_NOT_SUPPORTED "dynamic parallelism is not supported";
    812 ERROR_CDP_VERSION_MISMATCH "unsupported interaction between versions of dynamic parallelism";
    900 ERROR_STREAM_CAPTURE_UNSUPPORTED "operation not permitted when stream is capturing";
    901 ERROR_STREAM_CAPTURE_INVALIDATED "operation failed due to a previous error during capture";
    902 ERROR_STREAM_CAPTURE_MERGE "operation would result in a merge of separate capture sequences";
    903 ERROR_STREAM_CAPTURE_UNMATCHED "capture was not ended in the same stream as it began";
    904 ERROR_STREAM_CAPTURE_UNJOINED "capturing stream has unjoined work";
    905 ERROR_STREAM_CAPTURE_ISOLATION "dependency created on uncaptured work in another stream";
    906 ERROR_STREAM_CAPTURE_IMPLICIT "operation would make the legacy stream depend on a capturing blocking stream";
    907 ERROR_CAPTURED_EVENT "operation not permitted on an event last recorded in a capturing stream";
    908 ERROR_STREAM_CAPTURE_WRONG_THREAD "attempt to terminate a thread-local capture sequence from another thread";
    909 ERROR_TIMEOUT "wait operation timed out";
    910 ERROR_GRAPH_EXEC_UPDATE_FAILURE "the graph update was not performed because it included changes which violated constraints";
    911 ERROR_EXTERNAL_DEVICE "an async error has occurred in external entity outside of CUDA";
    912 ERROR_INVALID_CLUSTER_SIZE "a kernel launch error has occurred due to cluster misconfiguration";
    913 ERROR_FUNCTION_NOT_LOADED "the function is not loaded";
    914 ERROR_INVALID_RESOURCE_TYPE "one or more resources are not valid resource types";
    915 ERROR_INVALID_RESOURCE_CONFIGURATION "one or more resources are insufficient or not applicable";
    916 ERROR_KEY_ROTATION "key rotation in progress";
    917 ERROR_STREAM_DETACHED "the stream is detached";
    918 ERROR_GRAPH_RECAPTURE_FAILURE "graph recapture failed";
    919 ERROR_FABRIC_NOT_READY "fabric is not ready";
    999 ERROR_UNKNOWN "unknown error";
}

/// Name and description, both static, of a code that CUDA defines.
pub fn describe(code: u32) -> Option<(&'static std::ffi::CStr, &'static std::ffi::CStr)> {
    let at = TABLE.binary_search_by_key(&code, |row| row.0).ok()?;
    Some((TABLE[at].1, TABLE[at].2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_codes_are_described_and_ascending() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let (name, text) = describe(2).unwrap();
        assert_eq!(name.to_str(), Ok("CUDA_ERROR_OUT_OF_MEMORY"));
        assert_eq!(text.to_str(), Ok("out of memory"));
        assert_eq!(describe(12345), None);
    }
}
