// Small replacements for functions of the C and C++ libraries, so that r2b.wasm does not contain the larger originals.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>

// The WebAssembly tag of all C++ exceptions; its i32 is the pointer to the exception.
__asm__(
    ".globl __cpp_exception\n"
    ".tagtype __cpp_exception i32\n"
    "__cpp_exception:\n");

// The C++ library's own version throws std::system_error if the clock fails, which would add much of the library.
std::chrono::steady_clock::time_point std::chrono::steady_clock::now() noexcept {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time_point(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

extern "C" {

// JavaScript parses decimal numbers, because the C library's parser would add 16 KB. The result is NaN if the text is
// not a number.
__attribute__((import_module("r2b"), import_name("number"))) double r2b_parsed_number(const char* text, size_t length);

// build_web.py makes the engine call this instead of strtod(). It always consumes the whole text.
__attribute__((visibility("hidden"))) double r2b_strtod(const char* text, char** end) {
  const size_t length = std::strlen(text);
  *end = const_cast<char*>(text) + length;
  return r2b_parsed_number(text, length);
}

// The original prints the message first, for which it needs the C library's output streams.
__attribute__((noreturn, visibility("hidden"))) void __abort_message(const char*, ...) { std::abort(); }

// Destructors registered here would run when their thread ends, but the only thread never ends.
__attribute__((visibility("hidden"))) int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }

}  // extern "C"
