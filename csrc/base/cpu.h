/* What this processor can do. Detected on request, never kept in a global. */
#ifndef DS_BASE_CPU_H
#define DS_BASE_CPU_H

#include <stdbool.h>

/* Levels are ordered: a processor of one level has all levels of its family below it. */
typedef enum ds_cpu_level {
    DS_CPU_PORTABLE = 0, /* plain C */
    DS_CPU_NEON,         /* AArch64 */
    DS_CPU_AVX2,         /* AVX2 and FMA */
    DS_CPU_AVX512,       /* AVX-512 F, BW, DQ, VL */
    DS_CPU_AVX512_BF16,  /* the same with products of bf16 */
    DS_CPU_AMX,          /* and with tiles, which the kernel has to allow */
    DS_CPU_LEVELS
} ds_cpu_level;

/* The best level of this machine, at most `limit` (a level's name as below; NULL or "": no limit).
   An unknown name gives DS_CPU_LEVELS: the caller reports it. */
ds_cpu_level ds_cpu_detect(const char *limit);

/* "portable", "neon", "avx2", "avx512", "avx512_bf16", "amx". */
const char *ds_cpu_name(ds_cpu_level level);

/* Whether the processor has AMX's tiles of bf16 and the kernel lets this process use them, which
   this call asks for. */
bool ds_cpu_has_amx(void);

/* Processors this process may run on. */
int ds_cpu_count(void);

#endif
