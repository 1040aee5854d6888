#define _GNU_SOURCE /* sched_getaffinity */
#include "base/cpu.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>

/* Bit of leaf 7, subleaf 1, EAX. */
enum { AVX512_BF16 = 1 << 5 };
#endif

const char *ds_cpu_name(ds_cpu_level level)
{
    static const char *const names[] = {"portable",    "neon", "avx2",   "avx512",
                                        "avx512_bf16", "amx",  "unknown"};
    return names[level];
}

#if defined(__x86_64__)
/* The levels beyond AVX-512 whose code the compiler could make: see setup.py. */
#if !defined(DS_HAS_AVX512_BF16)
static const ds_cpu_level MADE = DS_CPU_AVX512;
#elif !defined(DS_HAS_AMX)
static const ds_cpu_level MADE = DS_CPU_AVX512_BF16;
#else
static const ds_cpu_level MADE = DS_CPU_AMX;
#endif

static ds_cpu_level best_avx512(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (MADE == DS_CPU_AVX512 || !__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) ||
        !(eax & AVX512_BF16))
        return DS_CPU_AVX512;
    return MADE == DS_CPU_AMX && ds_cpu_has_amx() ? DS_CPU_AMX : DS_CPU_AVX512_BF16;
}
#endif

static ds_cpu_level best_level(void)
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return DS_CPU_PORTABLE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return best_avx512();
    return DS_CPU_AVX2;
#elif defined(__aarch64__)
    return DS_CPU_NEON;
#else
    return DS_CPU_PORTABLE;
#endif
}

ds_cpu_level ds_cpu_detect(const char *limit)
{
    ds_cpu_level best = best_level();
    if (!limit || !*limit)
        return best;
    for (int level = 0; level < DS_CPU_LEVELS; level++) {
        if (strcmp(limit, ds_cpu_name((ds_cpu_level)level)) != 0)
            continue;
        /* NEON stands between portable and AVX2 in the order but is in no x86 processor. */
        if (level == DS_CPU_NEON && best != DS_CPU_NEON)
            return DS_CPU_PORTABLE;
        return (ds_cpu_level)level < best ? (ds_cpu_level)level : best;
    }
    return DS_CPU_LEVELS;
}

int ds_cpu_count(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
#endif
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}
