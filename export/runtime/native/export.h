// The library's version, and the macro for functions that the shared object exports. The patterns in exports.map must
// match their names too.
#pragma once

#ifndef R2B_VERSION
#define R2B_VERSION "0.0.0"
#endif

#if defined(_WIN32)
#define R2B_EXPORT extern "C" __declspec(dllexport)
#else
#define R2B_EXPORT extern "C" __attribute__((visibility("default")))
#endif
