// The board that the example runs on: Arm's MPS2 with the AN500 image, a Cortex-M7, as qemu has it. Another board needs
// another board.cc, and a linker script with its memories.
#pragma once

#include <cstddef>
#include <cstdint>

namespace board {

// Writes a text to the serial line.
void Print(const char* text);
void Print(int64_t number);
void PrintHex(uint32_t number);

// Ends the program: under qemu or a debugger, which hear of the status.
[[noreturn]] void Exit(int status);
[[noreturn]] void Fail(const char* reason);

// Bytes of memory that were ever reached: by the heap, and by the stack.
size_t HeapReached();
size_t StackReached();

}  // namespace board
