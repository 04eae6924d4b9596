// The start-up code, the serial line, and the functions that the C library needs from a system, such as _sbrk() for
// its heap.
#include "board.h"

#include <sys/stat.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

extern "C" {

// Set by the linker script.
extern uint32_t r2b_data_load[], r2b_data_begin[], r2b_data_end[], r2b_bss_begin[], r2b_bss_end[];
extern char r2b_heap_begin[], r2b_heap_end[], r2b_stack_end[];
extern uint32_t r2b_stack_begin[];
using Constructor = void (*)();
extern const Constructor __preinit_array_start[], __init_array_start[], __init_array_end[];

int main();
void r2b_reset();

}  // extern "C"

namespace {

// The board's first serial line, the UART of Arm's CMSDK (DDI 0479).
struct Uart {
  volatile uint32_t data, state, control, interrupt, divider;
};
Uart* const kUart = reinterpret_cast<Uart*>(0x40004000);
constexpr uint32_t kFull = 1, kTransmit = 1;  // bits of `state` and of `control`

constexpr uint32_t kUntouched = 0xa5a5a5a5;  // fills the stack before it is used
char *heap_top = r2b_heap_begin, *heap_reached = r2b_heap_begin;

void Put(char c) {
  while (kUart->state & kFull) continue;
  kUart->data = uint8_t(c);
}

// Ends the program by semihosting's SYS_EXIT_EXTENDED, with the reason ADP_Stopped_ApplicationExit. A board without a
// debugger stops in a fault instead.
void Stop(int status) {
  const uint32_t block[2] = {0x20026, uint32_t(status)};
  register uint32_t operation __asm__("r0") = 0x20;
  register const uint32_t* parameters __asm__("r1") = block;
  __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(parameters) : "memory");
}

void Fault() { board::Fail("the processor stopped in a fault"); }

// Fills the unused stack, below this function's own frame, with kUntouched.
__attribute__((noinline)) void PaintStack() {
  const uintptr_t end = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - 64;
  for (uint32_t* at = r2b_stack_begin; reinterpret_cast<uintptr_t>(at) < end; ++at) *at = kUntouched;
}

}  // namespace

// Replaces the C++ library's handler of uncaught exceptions, which takes 40 KB of code to print the exception.
void __gnu_cxx::__verbose_terminate_handler() { board::Fail("an exception was not caught"); }

namespace board {

void Print(const char* text) {
  for (; *text; ++text) {
    if (*text == '\n') Put('\r');
    Put(*text);
  }
}

void Print(int64_t number) {
  char digits[21];
  char* at = digits + sizeof digits;
  *--at = 0;
  uint64_t left = number < 0 ? -uint64_t(number) : uint64_t(number);
  do {
    *--at = char('0' + left % 10);
    left /= 10;
  } while (left);
  if (number < 0) *--at = '-';
  Print(at);
}

void PrintHex(uint32_t number) {
  for (int shift = 28; shift >= 0; shift -= 4) Put("0123456789abcdef"[number >> shift & 15]);
}

void Exit(int status) {
  Stop(status);
  for (;;) continue;
}

void Fail(const char* reason) {
  Print("FAILED: ");
  Print(reason);
  Print("\n");
  Exit(1);
}

size_t HeapReached() { return size_t(heap_reached - r2b_heap_begin); }

size_t StackReached() {
  const uint32_t* at = r2b_stack_begin;
  while (*at == kUntouched) ++at;
  return size_t(r2b_stack_end - reinterpret_cast<const char*>(at));
}

}  // namespace board

extern "C" {

void* __dso_handle = nullptr;  // destructors of statics are registered with it; they never run

// The vector table, in the first words of the flash: the initial stack pointer, then the exception handlers, reset
// first.
__attribute__((section(".vectors"), used)) const void* const r2b_vectors[16] = {
    r2b_stack_end,
    reinterpret_cast<const void*>(r2b_reset),
    reinterpret_cast<const void*>(Fault),  // NMI
    reinterpret_cast<const void*>(Fault),  // HardFault
    reinterpret_cast<const void*>(Fault),  // MemManage
    reinterpret_cast<const void*>(Fault),  // BusFault
    reinterpret_cast<const void*>(Fault),  // UsageFault
};

void r2b_reset() {
  // Coprocessors 10 and 11 are the floating-point unit, which is off after a reset.
  *reinterpret_cast<volatile uint32_t*>(0xe000ed88) |= 0xfu << 20;
  __asm__ volatile("dsb\n isb" ::: "memory");
  std::memcpy(r2b_data_begin, r2b_data_load, size_t(r2b_data_end - r2b_data_begin) * sizeof(uint32_t));
  std::memset(r2b_bss_begin, 0, size_t(r2b_bss_end - r2b_bss_begin) * sizeof(uint32_t));
  PaintStack();
  kUart->divider = 16;
  kUart->control = kTransmit;
  for (const Constructor* at = __preinit_array_start; at < __init_array_end; ++at) (*at)();
  board::Exit(main());
}

// Grows the heap by `bytes`, or shrinks it if `bytes` is negative. Returns the heap's old end, or -1 if the heap would
// reach into the memory reserved for the stack.
void* _sbrk(ptrdiff_t bytes) {
  if (bytes > r2b_heap_end - heap_top) {
    errno = ENOMEM;
    return reinterpret_cast<void*>(-1);
  }
  char* const begin = heap_top;
  heap_top += bytes;
  heap_reached = std::max(heap_reached, heap_top);
  return begin;
}

void _exit(int status) { board::Exit(status); }
int _kill(int, int) { board::Fail("the C library ended the program"); }
int _getpid() { return 1; }

// What the C and C++ libraries print goes to the serial line; there are no files.
int _write(int, const char* text, int count) {
  for (int i = 0; i < count; ++i) Put(text[i]);
  return count;
}
int _read(int, char*, int) { return 0; }
int _close(int) { return -1; }
int _lseek(int, int, int) { return -1; }
int _isatty(int) { return 1; }
int _open(const char*, int, int) {
  errno = ENOENT;
  return -1;
}
int _fstat(int, struct stat* about) {
  about->st_mode = S_IFCHR;
  return 0;
}
// There is no clock. Only profiles (r2b_options.profile) ask for the time.
int _gettimeofday(struct timeval* time, void*) {
  *time = {};
  return 0;
}

}  // extern "C"
