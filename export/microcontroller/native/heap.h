// Watches the C library's heap, which operator new takes its memory from too. The linker puts these functions before
// the library's own (--wrap).
#pragma once

#include <cstddef>

namespace heap {

// While it is forbidden, whoever takes memory or gives it back ends the program with an error.
void Forbid(bool forbidden);
// How many times memory was taken so far, how much is taken, and how much ever was at a time.
size_t Times();
size_t Bytes();
size_t MostBytes();

}  // namespace heap
