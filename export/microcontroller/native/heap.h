// Watches the C library's heap, from which operator new takes its memory too. The linker replaces calls to the
// library's functions by calls to the wrappers in heap.cc (--wrap).
#pragma once

#include <cstddef>

namespace heap {

// Forbids the use of the heap, or allows it again: while it is forbidden, every allocation and every release of memory
// ends the program with an error.
void Forbid(bool forbidden);
// The number of allocations so far, the bytes that are allocated now, and the most bytes that were allocated at any one
// time.
size_t Times();
size_t Bytes();
size_t MostBytes();

}  // namespace heap
