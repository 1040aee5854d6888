/* Products of tiles in AMX's registers: 0 to 3 hold four rows of sums, 4 to 6 packed tiles, 7 a row
   of pixels. Another thread of the system may find the registers in use, and the kernel takes
   longer to change threads then: a work item configures them when it begins and gives them back. */
#include "cpu/k/amx.h"

typedef struct ds_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16]; /* of a row of each tile */
    uint8_t rows[16];
} ds_tile_config;

static TILE_TARGET void ds_begin_amx(void)
{
    ds_tile_config config = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        config.bytes[t] = 64;
        config.rows[t] = DS_TILE_ROWS;
    }
    tile_fence();
    tile_configure(&config);
}

static TILE_TARGET void ds_end_amx(void)
{
    tile_release();
}

/* Three packed tiles: each of the six rows of pixels that four rows of sums need is loaded once. */
static inline TILE_TARGET void ds_tile_ladder(const ds_bf16 *x, int64_t step, int64_t row,
                                              const ds_bf16 *w)
{
    tile_load(4, w, 64);
    tile_load(5, w + DS_TILE_VALUES, 64);
    tile_load(6, w + 2 * DS_TILE_VALUES, 64);
    tile_load(7, x, step);
    tile_add(0, 7, 4);
    tile_load(7, x + row, step);
    tile_add(0, 7, 5);
    tile_add(1, 7, 4);
    tile_load(7, x + 2 * row, step);
    tile_add(0, 7, 6);
    tile_add(1, 7, 5);
    tile_add(2, 7, 4);
    tile_load(7, x + 3 * row, step);
    tile_add(1, 7, 6);
    tile_add(2, 7, 5);
    tile_add(3, 7, 4);
    tile_load(7, x + 4 * row, step);
    tile_add(2, 7, 6);
    tile_add(3, 7, 5);
    tile_load(7, x + 5 * row, step);
    tile_add(3, 7, 6);
}

/* One packed tile. */
static inline TILE_TARGET void ds_tile_single(const ds_bf16 *x, int64_t step, int64_t row,
                                              const ds_bf16 *w, int64_t rows)
{
    tile_load(4, w, 64);
    tile_load(5, x, step);
    tile_add(0, 5, 4);
    if (rows > 1) {
        tile_load(6, x + row, step);
        tile_add(1, 6, 4);
    }
    if (rows > 2) {
        tile_load(7, x + 2 * row, step);
        tile_add(2, 7, 4);
    }
    if (rows > 3) {
        tile_load(5, x + 3 * row, step);
        tile_add(3, 5, 4);
    }
}

static TILE_TARGET void ds_multiply_amx(const ds_tile_product *p)
{
    const int64_t step = p->x_step * (int64_t)sizeof(ds_bf16);
    const char *next = (const char *)p->next;
    tile_fence();
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    for (const ds_tile_tap *tap = p->tap; tap < p->tap + p->taps; tap++) {
        const ds_bf16 *x = p->x + tap->x, *w = p->w + tap->w;
        for (int64_t line = 0; line < p->next_lines; line++, next += 64)
            _mm_prefetch(next, _MM_HINT_T1);
        if (tap->count == DS_TILE_LADDER)
            ds_tile_ladder(x, step, p->y_step, w);
        else
            ds_tile_single(x, step, p->y_step, w, p->rows);
        /* While the tiles multiply, the vectors are free. */
        ds_tile_finish(p->behind, p->places);
    }
    tile_store(0, p->sum, 64);
    tile_store(1, p->sum + 256, 64);
    tile_store(2, p->sum + 512, 64);
    tile_store(3, p->sum + 768, 64);
    tile_fence();
}

/* to = the transposed 16x16 matrix of pairs: the bits of a row's number and of a column's change
   places, one after the other. */
static inline TARGET void ds_tile_transpose(const ds_bf16 *from, ds_bf16 *to)
{
    const __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i row[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        row[i] = _mm512_loadu_si512(from + i * DS_TILE_DEPTH);
#pragma GCC unroll 4
    for (int bit = 1; bit < 16; bit *= 2) {
        const __m512i moved = _mm512_xor_si512(place, _mm512_set1_epi32(bit));
        const __m512i other = _mm512_set1_epi32(16);
        const __mmask16 set = _mm512_test_epi32_mask(place, _mm512_set1_epi32(bit));
        const __m512i first = _mm512_mask_add_epi32(place, set, moved, other);
        const __m512i second = _mm512_mask_add_epi32(moved, set, place, other);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            if (!(i & bit)) {
                const __m512i low = row[i], high = row[i | bit];
                row[i] = _mm512_permutex2var_epi32(low, first, high);
                row[i | bit] = _mm512_permutex2var_epi32(low, second, high);
            }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        _mm512_storeu_si512(to + i * DS_TILE_DEPTH, row[i]);
}

/* The left factor has a row of 32 pixels for each channel. */
static TARGET void ds_gram_pack_amx(const ds_bf16 *x, int64_t pixels, int64_t tiles, ds_bf16 *left,
                                    ds_bf16 *right)
{
    for (int64_t t = 0; t < tiles; t++) {
        ds_bf16 *low = right + t * DS_TILE_VALUES, *high = low + tiles * DS_TILE_VALUES;
        ds_tile_pack(x + t * 32 * DS_TILE_DEPTH, pixels - t * 32, low, high);
        if (!left)
            continue;
        ds_tile_transpose(low, left + t * DS_TILE_VALUES);
        ds_tile_transpose(high, left + (tiles + t) * DS_TILE_VALUES);
    }
}

static TILE_TARGET void ds_gram_add_amx(const ds_bf16 *left, const ds_bf16 *right, int64_t tiles,
                                        bool first, float *g, int64_t stride)
{
    const int64_t half = tiles * DS_TILE_VALUES, bytes = stride * (int64_t)sizeof(float);
    tile_fence();
    if (first) {
        tile_zero(0);
        tile_zero(1);
        tile_zero(2);
        tile_zero(3);
    } else {
        tile_load(0, g, bytes);
        tile_load(1, g + 16, bytes);
        tile_load(2, g + 16 * stride, bytes);
        tile_load(3, g + 16 * stride + 16, bytes);
    }
    for (int64_t t = 0; t < tiles; t++, left += DS_TILE_VALUES, right += DS_TILE_VALUES) {
        tile_load(4, left, 64);
        tile_load(5, right, 64);
        tile_add(0, 4, 5);
        tile_load(6, right + half, 64);
        tile_add(1, 4, 6);
        tile_load(7, left + half, 64);
        tile_add(2, 7, 5);
        tile_add(3, 7, 6);
    }
    tile_store(0, g, bytes);
    tile_store(1, g + 16, bytes);
    tile_store(2, g + 16 * stride, bytes);
    tile_store(3, g + 16 * stride + 16, bytes);
    tile_fence();
}
