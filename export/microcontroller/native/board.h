// The board that the example runs on: Arm's MPS2 with the AN500 image, a Cortex-M7, as qemu emulates it. Another board
// needs another board.cc, and a linker script for its memories.
#pragma once

#include <cstddef>
#include <cstdint>

namespace board {

// Write a text, a number in decimal, and a number as eight hexadecimal digits to the serial line.
void Print(const char* text);
void Print(int64_t number);
void PrintHex(uint32_t number);

// End the program and tell qemu or a debugger the status; Fail() prints the reason first, and its status is 1.
[[noreturn]] void Exit(int status);
[[noreturn]] void Fail(const char* reason);

// The largest sizes that the heap and the stack have had, in bytes.
size_t HeapReached();
size_t StackReached();

}  // namespace board
