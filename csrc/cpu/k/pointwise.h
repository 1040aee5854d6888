/* Element-wise loops over tensors of one layout. Counts are multiples of 16. */

static TARGET void DS_SLOT(axpy)(float alpha, const float *a, const float *b, float *y,
                                 int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES)
        v_store(y + i, v_fma(v_splat(alpha), v_load(a + i), v_load(b + i)));
}

static TARGET void DS_SLOT(multiply)(const float *a, const float *b, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES)
        v_store(y + i, v_mul(v_load(a + i), v_load(b + i)));
}

/* What finish.h does at the end of a kernel, on its own: y = finish(x). */
static TARGET void DS_SLOT(finish_pixels)(const float *x, const ds_finish *finish, float *y,
                                          int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES)
        v_store(y + i, DS_SLOT(finish)(v_load(x + i), finish, i, i % DS_BLOCK));
}

/* *sum += sum of (weight (a - b))^2 over pixels of 16 channels; no weight: 1. */
static TARGET void DS_SLOT(squared_distance)(const float *a, const float *b, const float *weight,
                                             int64_t pixels, double *sum)
{
    vec part[DS_BLOCK / LANES];
    float lanes[DS_BLOCK];
    for (int j = 0; j < DS_BLOCK / LANES; j++)
        part[j] = v_splat(0.0f);
    for (int64_t p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int j = 0; j < DS_BLOCK / LANES; j++) {
            const int64_t at = p * DS_BLOCK + j * LANES;
            vec d = v_sub(v_load(a + at), v_load(b + at));
            if (weight)
                d = v_mul(d, v_splat(weight[p]));
            part[j] = v_fma(d, d, part[j]);
        }
    for (int j = 0; j < DS_BLOCK / LANES; j++)
        v_store(lanes + j * LANES, part[j]);
    for (int i = 0; i < DS_BLOCK; i++)
        *sum += (double)lanes[i];
}

/* y = factor weight^2 (a - b) over pixels of 16 channels. */
static TARGET void DS_SLOT(scaled_difference)(const float *a, const float *b, const float *weight,
                                              float factor, int64_t pixels, float *y)
{
    for (int64_t p = 0; p < pixels; p++) {
        const vec by = v_splat(weight ? factor * weight[p] * weight[p] : factor);
#pragma GCC unroll 4
        for (int j = 0; j < DS_BLOCK / LANES; j++) {
            const int64_t at = p * DS_BLOCK + j * LANES;
            v_store(y + at, v_mul(by, v_sub(v_load(a + at), v_load(b + at))));
        }
    }
}
