/* Words for AMX's tile registers, numbered 0 to 7. The tests have a twin of this file in plain C.
 */
#include <immintrin.h>

#define TILE_TARGET __attribute__((target("amx-tile,amx-bf16,avx512f")))

#define tile_configure(config) _tile_loadconfig(config)
#define tile_release() _tile_release()
#define tile_zero(t) _tile_zero(t)
/* Rows `stride` bytes apart. */
#define tile_load(t, from, stride) _tile_loadd(t, from, stride)
#define tile_store(t, to, stride) _tile_stored(t, to, stride)
/* c += a b, b packed. */
#define tile_add(c, a, b) _tile_dpbf16ps(c, a, b)
/* Compilers do not know that a tile is loaded from what was stored before. */
#define tile_fence() __asm__ volatile("" ::: "memory")
