// The library's version, and the macro for functions that the shared object exports (exports.map must match them too).
#pragma once

#ifndef R2B_VERSION
#define R2B_VERSION "0.0.0"
#endif

#if defined(_WIN32)
#define R2B_EXPORT extern "C" __declspec(dllexport)
#else
#define R2B_EXPORT extern "C" __attribute__((visibility("default")))
#endif
