// What the shared object shows to the world (and exports.map lets through).
#pragma once

#ifndef R2B_VERSION
#define R2B_VERSION "0.0.0"
#endif

#if defined(_WIN32)
#define R2B_EXPORT extern "C" __declspec(dllexport)
#else
#define R2B_EXPORT extern "C" __attribute__((visibility("default")))
#endif
