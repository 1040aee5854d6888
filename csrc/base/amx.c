#define _GNU_SOURCE /* syscall */
#include "base/cpu.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Bits of leaf 7, EDX, and of what the kernel saves of a thread. */
enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, OSXSAVE = 1 << 27, TILE_STATE = 3 << 17 };

/* <asm/prctl.h> of older systems lacks the request. */
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };

static bool is_saved(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0, low, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & OSXSAVE))
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & TILE_STATE) == TILE_STATE;
}

bool ds_cpu_has_amx(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0, wanted = AMX_BF16 | AMX_TILE;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & wanted) == wanted &&
           is_saved() && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#else
bool ds_cpu_has_amx(void)
{
    return false;
}
#endif
