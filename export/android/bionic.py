"""The symbols of Android's C library (bionic) that the compiled library may use.

Each has been in bionic since API level 23 (Android 6) on 64-bit and 32-bit processors. The sources are compiled with
musl's headers, and each function takes the same arguments there as in bionic. Functions that differ are not listed;
`native/bionic.c` replaces them. The API levels are from bionic's `libc/libc.map.txt` and `libdl/libdl.map.txt`, the
arguments from its `libc/include`.
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
# On 32-bit ARM, only bionic.c calls strtold. It takes the result from the registers in which Android returns it.
_LIBC_ARM = "strtold"
# These take or return floating-point numbers, for which musl and Android use the same registers only on 64-bit
# processors.
_LIBC_64 = "strtod strtof"
_LIBM_64 = """
    cos exp exp2 expf floor floorf fmod fmodf log log2 logf lrintf nearbyintf pow powf rint rintf round roundf sin sqrt
"""
_LIBDL = "dl_iterate_phdr dladdr"

# Symbols that are variables; the rest are functions.
DATA = {"stderr"}


def libraries(arch):
    """Returns {file name of an Android library: its usable symbols}, for a processor (`build_native.Target.arch`)."""
    narrow = arch == "armv7"
    return {
        "libc.so": [*_LIBC.split(), *(_LIBC_ARM if narrow else _LIBC_64).split()],
        "libm.so": [] if narrow else _LIBM_64.split(),
        "libdl.so": _LIBDL.split(),
    }


def stub(symbols):
    """Returns the C source of a library that defines these symbols, with empty functions, to link against."""
    lines = [f"char {name}[8] = {{1}};" if name in DATA else f"void {name}(void) {{}}" for name in symbols]
    return "\n".join(lines) + "\n"
