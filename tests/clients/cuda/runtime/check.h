// What the programs of this folder share: every call is checked, and so is every value.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            std::printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorName(error_));   \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

#define IS(value, expected)                                                                                       \
    do {                                                                                                          \
        double value_ = double(value), expected_ = double(expected);                                              \
        if (!(value_ == expected_)) {                                                                             \
            std::printf("%s:%d: %s is %g, not %g\n", __FILE__, __LINE__, #value, value_, expected_);              \
            std::exit(1);                                                                                         \
        }                                                                                                         \
    } while (0)
