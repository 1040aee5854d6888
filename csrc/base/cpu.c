#define _GNU_SOURCE /* sched_getaffinity */
#include "base/cpu.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

const char *ds_cpu_name(ds_cpu_level level)
{
    static const char *const names[] = {"portable", "neon", "avx2", "avx512", "unknown"};
    return names[level];
}

static ds_cpu_level best_level(void)
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return DS_CPU_PORTABLE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return DS_CPU_AVX512;
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
