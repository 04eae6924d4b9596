/* Lets code that was compiled with musl's headers, which come with the compiler, run with Android's C library (bionic).
 *
 * bionic.py lists the functions that take the same arguments and constants in both; they are called directly. The
 * functions below replace those that differ. Other libraries do not see them, since their symbols are hidden.
 *
 * This is why each type that the library shares with bionic is safe, although it was compiled with musl's layout (sizes
 * on 32-bit processors in parentheses):
 *
 * - pthread_mutex_t, pthread_cond_t: musl has 40 and 48 bytes (24 and 48), bionic 40 and 48 (4 and 4), which is never
 *   more. In both, a mutex of zeros is unlocked, and a condition variable of zeros has no waiters.
 * - pthread_key_t, pthread_once_t: as long as an int in both; a pthread_once_t starts as zero in both.
 * - pthread_t: as long as a pointer in both.
 * - pthread_rwlock_t: musl has 56 bytes (32), bionic 56 (40). On 32-bit processors musl's is too small for bionic's
 *   functions, so the functions below use its memory for a mutex.
 * - pthread_mutexattr_t, pthread_condattr_t: musl has 4 bytes, bionic a long; no function that takes one is listed.
 * - pthread_attr_t: of the listed functions only pthread_create takes one, and std::thread passes NULL.
 * - cpu_set_t: callers pass its size, and both libraries have the kernel's layout.
 * - FILE: only pointers are passed on.
 * - struct lconv: only decimal_point is read, and it is the first member in both.
 * - struct timespec: the same on 64-bit processors; on 32-bit ones bionic's seconds have 32 bits (bionic_timespec).
 * - float, double: the same on 64-bit processors. On 32-bit ARM the library passes them in floating-point registers and
 *   bionic in general ones. Only for variadic functions such as printf do both use general registers. So for 32-bit
 *   ARM, bionic.py lists only variadic functions and strtold (see strtod below) among those with a float or double.
 * - off_t, struct stat, struct dirent: different on 32-bit processors; no function that takes one is listed.
 * - struct dl_phdr_info: the same first fields; libunwind is compiled to read no later ones.
 * - errno's values and the constants of system calls are the kernel's, so both libraries have the same.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#pragma GCC visibility push(hidden)

extern int* __errno(void) __attribute__((visibility("default")));
int* __errno_location(void) { return __errno(); }

int bcmp(const void* one, const void* other, size_t size) { return memcmp(one, other, size); }

/* bionic has aligned_alloc only since Android 9. This function does not change errno on success: an exception's memory
 * is allocated before its message is made, and the message may be that of errno. */
void* aligned_alloc(size_t alignment, size_t size) {
  void* memory = NULL;
  const int failed = posix_memalign(&memory, alignment < sizeof(void*) ? sizeof(void*) : alignment, size);
  if (!failed) return memory;
  errno = failed;
  return NULL;
}

/* bionic has other constants for `name`. The only caller is std::thread::hardware_concurrency(), so this function
 * supports only the constant that it passes. */
long sysconf(int name) {
  cpu_set_t set;
  if (name == _SC_NPROCESSORS_ONLN && sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  errno = EINVAL;
  return -1;
}

_Static_assert(sizeof(pthread_rwlock_t) >= sizeof(pthread_mutex_t), "a lock for readers has room for a mutex");
int pthread_rwlock_rdlock(pthread_rwlock_t* lock) { return pthread_mutex_lock((pthread_mutex_t*)lock); }
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) { return pthread_mutex_lock((pthread_mutex_t*)lock); }
int pthread_rwlock_unlock(pthread_rwlock_t* lock) { return pthread_mutex_unlock((pthread_mutex_t*)lock); }

#if __SIZEOF_POINTER__ == 4
/* musl's headers turn a call of clock_gettime() into one of __clock_gettime64(), whose seconds have 64 bits. bionic has
 * only clock_gettime(), whose seconds have 32 bits. */
struct bionic_timespec {
  int32_t seconds, nanoseconds;
};
struct musl_timespec {
  int64_t seconds;
  int32_t nanoseconds, padding;
};
extern int bionic_clock_gettime(int, struct bionic_timespec*) __asm__("clock_gettime")
    __attribute__((visibility("default")));
int musl_clock_gettime(int clock, struct musl_timespec* time) __asm__("__clock_gettime64");
int musl_clock_gettime(int clock, struct musl_timespec* time) {
  struct bionic_timespec now = {0, 0};
  const int result = bionic_clock_gettime(clock, &now);
  time->seconds = now.seconds;
  time->nanoseconds = now.nanoseconds;
  return result;
}

/* Calls bionic's strtold, because a call of bionic's strtod would reach this function instead. Both do the same, since
 * a long double is a double here. "aapcs" takes the result from general registers. */
extern double bionic_strtold(const char*, char**) __asm__("strtold")
    __attribute__((visibility("default"), pcs("aapcs")));
double strtod(const char* text, char** end) { return bionic_strtold(text, end); }

/* Rounds to the nearest integer, ties to even. From 2^23 on every float is an integer. */
float nearbyintf(float x) {
  const float shift = __builtin_copysignf(8388608.0f, x);
  if (!(__builtin_fabsf(x) < 8388608.0f)) return x;
  const volatile float shifted = x + shift;
  return __builtin_copysignf(shifted - shift, x);
}
long lrintf(float x) { return (long)nearbyintf(x); }
#endif

/* Runs the destructors of the library's static objects when a program unloads it: at the program's end their code would
 * be gone. */
extern void* __dso_handle;
extern void __cxa_finalize(void*) __attribute__((visibility("default")));
__attribute__((destructor)) static void unload(void) { __cxa_finalize(&__dso_handle); }

/* Android's dynamic linker supports thread-local variables only since Android 10, so the compiler emulates them: each
 * access calls __emutls_get_address() with the variable's record, to get its address in the calling thread. */
struct variable {
  size_t size, alignment;
  uintptr_t place; /* index in each thread's list, from 1; 0 before the first use */
  const void* initial;
};
struct list {
  uintptr_t count;
  void* values[];
};
static pthread_mutex_t places_mutex = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t places;
static pthread_once_t lists_once = PTHREAD_ONCE_INIT;
static pthread_key_t lists;

static void free_list(void* freed) {
  struct list* list = freed;
  for (uintptr_t i = 0; i < list->count; ++i) free(list->values[i]);
  free(list);
}

static void make_lists(void) {
  if (pthread_key_create(&lists, free_list) != 0) abort();
}

static uintptr_t place_of(struct variable* variable) {
  uintptr_t place = __atomic_load_n(&variable->place, __ATOMIC_ACQUIRE);
  if (place) return place;
  pthread_mutex_lock(&places_mutex);
  if (!variable->place) __atomic_store_n(&variable->place, ++places, __ATOMIC_RELEASE);
  place = variable->place;
  pthread_mutex_unlock(&places_mutex);
  return place;
}

void* __emutls_get_address(void* record) {
  struct variable* variable = record;
  const uintptr_t place = place_of(variable);
  pthread_once(&lists_once, make_lists);
  struct list* list = pthread_getspecific(lists);
  const uintptr_t count = list ? list->count : 0;
  if (place > count) {
    list = realloc(list, sizeof *list + place * sizeof list->values[0]);
    if (!list) abort();
    memset(list->values + count, 0, (place - count) * sizeof list->values[0]);
    list->count = place;
    if (pthread_setspecific(lists, list) != 0) abort();
  }
  void** value = &list->values[place - 1];
  if (!*value) {
    *value = aligned_alloc(variable->alignment, variable->size);
    if (!*value) abort();
    if (variable->initial) memcpy(*value, variable->initial, variable->size);
    else memset(*value, 0, variable->size);
  }
  return *value;
}

#pragma GCC visibility pop
