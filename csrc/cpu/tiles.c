#include "cpu/tiles.h"

#include <stddef.h>

#if defined(DS_HAS_AVX512_BF16)
#include "cpu/k/tiles.h"

#include "cpu/k/tiles_avx512_bf16.h"

#define TABLE(level)                                                                               \
    {                                                                                              \
        .begin = ds_begin_##level,                                                                 \
        .end = ds_end_##level,                                                                     \
        .copy = ds_tile_copy_row,                                                                  \
        .multiply = ds_multiply_##level,                                                           \
        .finish = ds_tile_finish,                                                                  \
        .gram_pack = ds_gram_pack_##level,                                                         \
        .gram_add = ds_gram_add_##level,                                                           \
    }

static const ds_tile_slots AVX512_BF16 = TABLE(avx512_bf16);

#if defined(DS_HAS_AMX)
#include "cpu/k/tiles_amx.h"

static const ds_tile_slots AMX = TABLE(amx);
#endif
#endif

const ds_tile_slots *ds_cpu_tiles(ds_cpu_level level)
{
#if defined(DS_HAS_AMX)
    if (level == DS_CPU_AMX)
        return &AMX;
#endif
#if defined(DS_HAS_AVX512_BF16)
    if (level == DS_CPU_AVX512_BF16)
        return &AVX512_BF16;
#endif
    (void)level;
    return NULL;
}
