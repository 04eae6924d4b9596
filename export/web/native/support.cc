// Replacements for functions that the engine and its C++ library need but that build_web.py does not compile for
// WebAssembly.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>

// The WebAssembly tag of all C++ exceptions, which are thrown by pointer.
__asm__(
    ".globl __cpp_exception\n"
    ".tagtype __cpp_exception i32\n"
    "__cpp_exception:\n");

// The C++ library's own version can fail, and reporting that needs much of the library.
std::chrono::steady_clock::time_point std::chrono::steady_clock::now() noexcept {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time_point(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

extern "C" {

// JavaScript parses decimal numbers, for which the C library would take 16 KB. NaN if the text is not a number.
__attribute__((import_module("r2b"), import_name("number"))) double r2b_parsed_number(const char* text, size_t length);

// build_web.py makes the engine call this instead of strtod().
__attribute__((visibility("hidden"))) double r2b_strtod(const char* text, char** end) {
  const size_t length = std::strlen(text);
  *end = const_cast<char*>(text) + length;
  return r2b_parsed_number(text, length);
}

// Printing the reason would need files.
__attribute__((noreturn, visibility("hidden"))) void __abort_message(const char*, ...) { std::abort(); }

// The only thread never ends, so no destructor has to run.
__attribute__((visibility("hidden"))) int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }

}  // extern "C"
