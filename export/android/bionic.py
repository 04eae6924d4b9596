"""What Android's C library offers: the functions that the library may call.

Each is in bionic since API level 23 (Android 6) on 64-bit and 32-bit processors, and takes the arguments that musl's
headers give it, with which the sources are compiled; `native/bionic.c` says what differs and stands for it. Sources, in
bionic: `libc/libc.map.txt` and `libdl/libdl.map.txt` for the levels, `libc/include` for the arguments.
"""

API_LEVEL = 23

_LIBC = """
    __cxa_atexit __cxa_finalize __cxa_thread_atexit_impl __errno abort
    malloc calloc realloc free posix_memalign getenv strtol strtoll strtoul strtoull
    localeconv memchr memcmp memcpy memmove memset strchr strcmp strcpy strlen strncmp strerror strerror_r
    wcslen wmemchr wmemcpy wmemmove wmemset
    fopen fread fwrite fclose ferror fflush fputc fputs fprintf vfprintf snprintf vsnprintf stderr
    clock_gettime getauxval sched_getaffinity sched_yield __sched_cpucount syscall
    pthread_atfork pthread_create pthread_detach pthread_join pthread_once pthread_self
    pthread_cond_broadcast pthread_cond_destroy pthread_cond_signal pthread_cond_wait
    pthread_getspecific pthread_key_create pthread_key_delete pthread_setspecific
    pthread_mutex_destroy pthread_mutex_lock pthread_mutex_trylock pthread_mutex_unlock
"""
# What bionic.c knows how to call on 32-bit ARM.
_LIBC_ARM = "strtold"
# These take or return numbers in registers that depend on the processor: 64-bit ones agree with Android.
_LIBC_64 = "strtod strtof"
_LIBM_64 = """
    cos exp exp2 expf floor floorf fmod fmodf log log2 logf lrintf nearbyintf pow powf rint rintf round roundf sin sqrt
"""
_LIBDL = "dl_iterate_phdr dladdr"

# Symbols that are variables; the rest are functions.
DATA = {"stderr"}


def libraries(arch):
    """The libraries' file names and the symbols of each, for a processor as build_native.Target names it."""
    narrow = arch == "armv7"
    return {
        "libc.so": [*_LIBC.split(), *(_LIBC_ARM if narrow else _LIBC_64).split()],
        "libm.so": [] if narrow else _LIBM_64.split(),
        "libdl.so": _LIBDL.split(),
    }


def stub(symbols):
    """The source of a library that has these symbols and nothing behind them, in C; to link against."""
    lines = [f"char {name}[8] = {{1}};" if name in DATA else f"void {name}(void) {{}}" for name in symbols]
    return "\n".join(lines) + "\n"
