/* Gram matrix and its gradient on maps in blocks of 16 channels; formulas: ops/gram.c. */

/* Rows of a 16x16 tile of G that are accumulated together: as many as keep the FMA units busy
   without spilling. */
#if LANES == 16
#define GRAM_ROWS 16
#else
#define GRAM_ROWS 4
#endif

/* g (16, stride) += sum over pixels of weight * a (pixels, 16)' b (pixels, 16); no weight: 1. */
static TARGET void DS_SLOT(gram_tile)(const float *a, const float *b, const float *weight,
                                      int64_t pixels, float *g, int64_t stride)
{
    enum { VECTORS = DS_BLOCK / LANES };
    for (int first = 0; first < DS_BLOCK; first += GRAM_ROWS) {
        vec sum[GRAM_ROWS][VECTORS];
#pragma GCC unroll 16
        for (int i = 0; i < GRAM_ROWS; i++)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++)
                sum[i][j] = v_splat(0.0f);
        for (int64_t p = 0; p < pixels; p++) {
            vec right[VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++) {
                right[j] = v_load(b + p * DS_BLOCK + j * LANES);
                if (weight)
                    right[j] = v_mul(right[j], v_splat(weight[p]));
            }
#pragma GCC unroll 16
            for (int i = 0; i < GRAM_ROWS; i++) {
                const vec left = v_splat(a[p * DS_BLOCK + first + i]);
#pragma GCC unroll 4
                for (int j = 0; j < VECTORS; j++)
                    sum[i][j] = v_fma(left, right[j], sum[i][j]);
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < GRAM_ROWS; i++)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++) {
                float *at = g + (first + i) * stride + j * LANES;
                v_store(at, v_add(v_load(at), sum[i][j]));
            }
    }
}
#undef GRAM_ROWS

/* `rows` pixels by `vectors` vectors of output channels of y = S f. */
static inline __attribute__((always_inline)) TARGET void
DS_SLOT(gram_micro)(const float *f, int64_t f_plane, const float *s, int64_t width, float *y,
                    int64_t plane, int64_t channels, const float *weight, int64_t from,
                    const int rows, const int vectors)
{
    vec sum[6][MICRO_VECTORS];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[i][j] = v_splat(0.0f);
    for (int64_t c = 0; c < channels; c++, s += width) {
        const float *value = f + c / DS_BLOCK * f_plane + c % DS_BLOCK;
        vec w[MICRO_VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            w[j] = v_load(s + j * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const vec x = v_splat(value[i * DS_BLOCK]);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sum[i][j] = v_fma(x, w[j], sum[i][j]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            const int64_t to = from + j * LANES;
            float *at = y + to / DS_BLOCK * plane + i * DS_BLOCK + to % DS_BLOCK;
            v_store(at, weight ? v_mul(sum[i][j], v_splat(weight[i])) : sum[i][j]);
        }
}

/* y = weight S f for `pixels` pixels: f (channels / 16, f_plane), y (channels / 16, plane), s
   (channels / STRIP, channels, STRIP) with a narrower last strip; channels a multiple of 16. */
static TARGET void DS_SLOT(gram_apply)(const float *f, int64_t f_plane, const float *s,
                                       const float *weight, float *y, int64_t plane,
                                       int64_t channels, int64_t pixels)
{
    for (int64_t strip = 0; strip < channels; strip += STRIP) {
        const int64_t width = channels - strip < STRIP ? channels - strip : STRIP;
        for (int64_t p = 0; p < pixels;) {
            const int64_t rows = pixels - p >= 6 ? 6 : 1;
            const float *value = f + p * DS_BLOCK, *by = weight ? weight + p : NULL;
            float *to = y + p * DS_BLOCK;
            for (int64_t j = 0; j < width;) {
                const int64_t left = (width - j) / LANES;
                const float *part = s + strip * channels + j;
                const int64_t from = strip + j;
                if (left >= MICRO_VECTORS && rows == 6)
                    DS_SLOT(gram_micro)(value, f_plane, part, width, to, plane, channels, by, from,
                                        6, MICRO_VECTORS);
                else if (rows == 6)
                    DS_SLOT(gram_micro)(value, f_plane, part, width, to, plane, channels, by, from,
                                        6, 1);
                else
                    DS_SLOT(gram_micro)(value, f_plane, part, width, to, plane, channels, by, from,
                                        1, 1);
                j += left >= MICRO_VECTORS && rows == 6 ? MICRO_VECTORS * LANES : LANES;
            }
            p += rows;
        }
    }
}
