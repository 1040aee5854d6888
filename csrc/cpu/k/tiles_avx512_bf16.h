/* Products of tiles on vectors: each instruction multiplies a pair of values of a pixel, repeated
   in all lanes, with the pairs of 16 columns. */

static void ds_begin_avx512_bf16(void)
{
}

static void ds_end_avx512_bf16(void)
{
}

/* 16 sums += one packed tile and the rows of 32 values at x. */
static inline __attribute__((always_inline)) TARGET void
ds_tile_add(const ds_bf16 *x, const int64_t step, const ds_bf16 *w, __m512 sum[16])
{
#pragma GCC unroll 1
    for (int64_t k = 0; k < DS_TILE_DEPTH; k += 2, w += DS_TILE_DEPTH) {
        const __m512bh right = (__m512bh)_mm512_loadu_si512(w);
#pragma GCC unroll 16
        for (int64_t i = 0; i < 16; i++) {
            int32_t pair;
            __builtin_memcpy(&pair, x + i * step + k, sizeof pair);
            sum[i] = _mm512_dpbf16_ps(sum[i], right, (__m512bh)_mm512_set1_epi32(pair));
        }
    }
}

static inline __attribute__((always_inline)) TARGET void
ds_multiply_row(const ds_tile_product *p, int64_t row, const int64_t step)
{
    __m512 sum[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        sum[i] = _mm512_setzero_ps();
    for (const ds_tile_tap *tap = p->tap; tap < p->tap + p->taps; tap++)
        for (int64_t k = 0; k < tap->count; k++)
            ds_tile_add(p->x + tap->x + (row + k) * p->y_step, step,
                        p->w + tap->w + k * DS_TILE_VALUES, sum);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        _mm512_storeu_ps(p->sum + (row * 16 + i) * 16, sum[i]);
}

static TARGET void ds_multiply_avx512_bf16(const ds_tile_product *p)
{
    for (int64_t row = 0; row < p->rows; row++)
        if (p->x_step == DS_TILE_DEPTH)
            ds_multiply_row(p, row, DS_TILE_DEPTH);
        else
            ds_multiply_row(p, row, p->x_step);
}

/* Both factors are packed in the same way. */
static TARGET void ds_gram_pack_avx512_bf16(const ds_bf16 *x, int64_t pixels, int64_t tiles,
                                            ds_bf16 *left, ds_bf16 *right)
{
    for (int64_t t = 0; t < tiles; t++) {
        ds_bf16 *low = right + t * DS_TILE_VALUES, *high = low + tiles * DS_TILE_VALUES;
        ds_tile_pack(x + t * 32 * DS_TILE_DEPTH, pixels - t * 32, low, high);
    }
    if (left)
        __builtin_memcpy(left, right, (size_t)(2 * tiles * DS_TILE_VALUES) * sizeof *left);
}

static TARGET void ds_gram_add_avx512_bf16(const ds_bf16 *left, const ds_bf16 *right, int64_t tiles,
                                           bool first, float *g, int64_t stride)
{
    const int64_t half = tiles * DS_TILE_VALUES;
    for (int64_t a = 0; a < 2; a++)
        for (int64_t b = 0; b < 2; b++) {
            const ds_bf16 *l = left + a * half, *r = right + b * half;
            float *to = g + a * 16 * stride + b * 16;
            __m512 sum[16];
#pragma GCC unroll 16
            for (int64_t i = 0; i < 16; i++)
                sum[i] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(to + i * stride);
            for (int64_t k = 0; k < tiles * 16; k++, l += DS_TILE_DEPTH, r += DS_TILE_DEPTH) {
                const __m512bh row = (__m512bh)_mm512_loadu_si512(r);
#pragma GCC unroll 16
                for (int64_t i = 0; i < 16; i++) {
                    int32_t pair;
                    __builtin_memcpy(&pair, l + 2 * i, sizeof pair);
                    sum[i] = _mm512_dpbf16_ps(sum[i], row, (__m512bh)_mm512_set1_epi32(pair));
                }
            }
#pragma GCC unroll 16
            for (int64_t i = 0; i < 16; i++)
                _mm512_storeu_ps(to + i * stride, sum[i]);
        }
}
