/* Loops over pixels of 16 channels, each with its own factor; a plane is walked as pixels of 16
   equal channels. */

enum { DS_SLOT(per_pixel) = DS_BLOCK / LANES };

/* mean (16) and squares (16), the sum of squared differences from it, of up to DS_CHUNK pixels. */
static TARGET void DS_SLOT(spread_pixels)(const float *x, int64_t pixels, float *mean,
                                          float *squares)
{
    const vec share = v_splat(1.0f / (float)pixels);
    for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
        vec sum[4] = {v_splat(0.0f), v_splat(0.0f), v_splat(0.0f), v_splat(0.0f)};
        const float *from = x + lane;
        int64_t p = 0;
        for (; p + 4 <= pixels; p += 4)
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                sum[i] = v_add(sum[i], v_load(from + (p + i) * DS_BLOCK));
        for (; p < pixels; p++)
            sum[0] = v_add(sum[0], v_load(from + p * DS_BLOCK));
        const vec middle = v_mul(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])), share);
        vec square[4] = {v_splat(0.0f), v_splat(0.0f), v_splat(0.0f), v_splat(0.0f)};
        for (p = 0; p + 4 <= pixels; p += 4)
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const vec d = v_sub(v_load(from + (p + i) * DS_BLOCK), middle);
                square[i] = v_fma(d, d, square[i]);
            }
        for (; p < pixels; p++) {
            const vec d = v_sub(v_load(from + p * DS_BLOCK), middle);
            square[0] = v_fma(d, d, square[0]);
        }
        v_store(mean + lane, middle);
        v_store(squares + lane, v_add(v_add(square[0], square[1]), v_add(square[2], square[3])));
    }
}

/* sum_g (16) and sum_gx (16) of s g and s g (x - mean); x NULL: sum_g alone; s NULL: 1. */
static TARGET void DS_SLOT(sum_pixels)(const float *g, const float *x, const float *mean,
                                       const float *s, int64_t pixels, float *sum_g, float *sum_gx)
{
    for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
        const vec middle = x ? v_load(mean + lane) : v_splat(0.0f);
        vec sum = v_splat(0.0f), product = v_splat(0.0f);
        for (int64_t p = 0; p < pixels; p++) {
            vec part = v_load(g + p * DS_BLOCK + lane);
            if (s)
                part = v_mul(part, v_splat(s[p]));
            sum = v_add(sum, part);
            if (x)
                product = v_fma(part, v_sub(v_load(x + p * DS_BLOCK + lane), middle), product);
        }
        v_store(sum_g + lane, sum);
        if (x)
            v_store(sum_gx + lane, product);
    }
}

/* y = finish(scale x + shift). */
static TARGET void DS_SLOT(scale_pixels)(const float *x, const float *scale, const float *shift,
                                         const ds_finish *finish, float *y, int64_t pixels)
{
    vec by[DS_SLOT(per_pixel)], plus[DS_SLOT(per_pixel)];
#pragma GCC unroll 4
    for (int j = 0; j < DS_SLOT(per_pixel); j++) {
        by[j] = v_load(scale + j * LANES);
        plus[j] = v_load(shift + j * LANES);
    }
    for (int64_t p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int j = 0; j < DS_SLOT(per_pixel); j++) {
            const int64_t at = p * DS_BLOCK + j * LANES;
            const vec r = v_fma(v_load(x + at), by[j], plus[j]);
            v_store(y + at, DS_SLOT(finish)(r, finish, at, j * LANES));
        }
}

/* y = a' g + b x + c; a' = a, or with a strength s: s a + 1 - s. */
static TARGET void DS_SLOT(combine_pixels)(const float *g, const float *x, const float *abc,
                                           const float *s, float *y, int64_t pixels)
{
    const vec one = v_splat(1.0f);
    for (int64_t p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int j = 0; j < DS_SLOT(per_pixel); j++) {
            const int64_t at = p * DS_BLOCK + j * LANES;
            vec a = v_load(abc + j * LANES);
            if (s)
                a = v_fma(v_splat(s[p]), v_sub(a, one), one);
            const vec r = v_fma(v_load(x + at), v_load(abc + DS_BLOCK + j * LANES),
                                v_load(abc + 2 * DS_BLOCK + j * LANES));
            v_store(y + at, v_fma(a, v_load(g + at), r));
        }
}

/* y = s (scale x + shift) + (1 - s) x, s of each pixel. */
static TARGET void DS_SLOT(blend_pixels)(const float *x, const float *scale, const float *shift,
                                         const float *s, float *y, int64_t pixels)
{
    for (int64_t p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int j = 0; j < DS_SLOT(per_pixel); j++) {
            const int64_t at = p * DS_BLOCK + j * LANES;
            const vec from = v_load(x + at);
            const vec to = v_fma(from, v_load(scale + j * LANES), v_load(shift + j * LANES));
            v_store(y + at, v_fma(v_splat(s[p]), v_sub(to, from), from));
        }
}
