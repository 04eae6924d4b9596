// What the parts of the C++ library that build_web.py compiles for WebAssembly want from the rest of it.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>

// The tag of all C++ exceptions: each is thrown with a pointer to it.
__asm__(
    ".globl __cpp_exception\n"
    ".tagtype __cpp_exception i32\n"
    "__cpp_exception:\n");

// The library's own can fail, and says so with much of it.
std::chrono::steady_clock::time_point std::chrono::steady_clock::now() noexcept {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time_point(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

extern "C" {

// JavaScript reads decimal numbers; the C library would take 16 KB for it. NaN where the text is none.
__attribute__((import_module("r2b"), import_name("number"))) double r2b_parsed_number(const char* text, size_t length);

// What the engine's files call strtod().
__attribute__((visibility("hidden"))) double r2b_strtod(const char* text, char** end) {
  const size_t length = std::strlen(text);
  *end = const_cast<char*>(text) + length;
  return r2b_parsed_number(text, length);
}

// Printing why would need files.
__attribute__((noreturn, visibility("hidden"))) void __abort_message(const char*, ...) { std::abort(); }

// The only thread never ends.
__attribute__((visibility("hidden"))) int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }

}  // extern "C"
