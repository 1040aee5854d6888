/* Compiles every template of k/ once per instruction set. */
#include "cpu/slots.h"

#if defined(__x86_64__)
#include "cpu/k/avx512.h"

#include "cpu/k/all.h"

#include "cpu/k/avx2.h"

#include "cpu/k/all.h"
#elif defined(__aarch64__)
#include "cpu/k/neon.h"

#include "cpu/k/all.h"
#endif

#include "cpu/k/portable.h"

#include "cpu/k/all.h"

const ds_slots *ds_cpu_slots(ds_cpu_level level)
{
#if defined(__x86_64__)
    if (level >= DS_CPU_AVX512)
        return &ds_table_avx512;
    if (level == DS_CPU_AVX2)
        return &ds_table_avx2;
#elif defined(__aarch64__)
    if (level == DS_CPU_NEON)
        return &ds_table_neon;
#endif
    (void)level;
    return &ds_table_portable;
}
