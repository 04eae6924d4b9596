#include "heap.h"

#include <malloc.h>
#include <sys/reent.h>

#include <algorithm>

#include "board.h"

namespace {

bool forbidden = false;
size_t times = 0, bytes = 0, most_bytes = 0;

void Check() {
  if (!forbidden) return;
  forbidden = false;
  board::Fail("memory was allocated or freed during an inference");
}

// Calls `take`, which allocates memory, and updates the counts. `old` is the memory that the new one replaces, or null.
// While `take` runs, the C library's functions may call each other through these wrappers and change `bytes`. So
// `bytes` is computed from its value before the call, and no byte is counted twice.
template <class Take>
void* Counted(void* old, const Take& take) {
  Check();
  const size_t before = bytes, freed = old ? malloc_usable_size(old) : 0;
  void* const made = take();
  ++times;
  bytes = made ? before - freed + malloc_usable_size(made) : before;
  most_bytes = std::max(most_bytes, bytes);
  return made;
}

}  // namespace

namespace heap {

void Forbid(bool now) { forbidden = now; }
size_t Times() { return times; }
size_t Bytes() { return bytes; }
size_t MostBytes() { return most_bytes; }

}  // namespace heap

extern "C" {

void* __real__malloc_r(_reent*, size_t);
void* __real__calloc_r(_reent*, size_t, size_t);
void* __real__memalign_r(_reent*, size_t, size_t);
void* __real__realloc_r(_reent*, void*, size_t);
void __real__free_r(_reent*, void*);

void* __wrap__malloc_r(_reent* state, size_t size) {
  return Counted(nullptr, [&] { return __real__malloc_r(state, size); });
}

void* __wrap__calloc_r(_reent* state, size_t count, size_t size) {
  return Counted(nullptr, [&] { return __real__calloc_r(state, count, size); });
}

void* __wrap__memalign_r(_reent* state, size_t align, size_t size) {
  return Counted(nullptr, [&] { return __real__memalign_r(state, align, size); });
}

void* __wrap__realloc_r(_reent* state, void* memory, size_t size) {
  return Counted(memory, [&] { return __real__realloc_r(state, memory, size); });
}

void __wrap__free_r(_reent* state, void* memory) {
  Check();
  if (memory) bytes -= malloc_usable_size(memory);
  __real__free_r(state, memory);
}

}  // extern "C"
