/* Weighted sums of rows and of pixels; formulas: ops/resize.c. */

/* y = start + sum over rows k of weight[k] x[k stride]. */
static TARGET void DS_SLOT(combine_rows)(const float *x, int64_t stride, const float *weight,
                                         int64_t rows, float start, float *y, int64_t floats)
{
    int64_t i = 0;
    for (; i + LANES <= floats; i += LANES) {
        vec sum = v_splat(start);
        for (int64_t k = 0; k < rows; k++)
            sum = v_fma(v_splat(weight[k]), v_load(x + k * stride + i), sum);
        v_store(y + i, sum);
    }
    for (; i < floats; i++) {
        float sum = start;
        for (int64_t k = 0; k < rows; k++)
            sum += weight[k] * x[k * stride + i];
        y[i] = sum;
    }
}

/* Pixel i of y = sum over k of weight[i most + k] times pixel begin[i] + k of x, of 16 channels. */
static TARGET void DS_SLOT(resample_pixels)(const float *x, const int64_t *begin,
                                            const int64_t *count, const float *weight, int64_t most,
                                            float *y, int64_t pixels)
{
    for (int64_t i = 0; i < pixels; i++, y += DS_BLOCK, weight += most) {
        const float *from = x + begin[i] * DS_BLOCK;
        vec sum[DS_BLOCK / LANES];
#pragma GCC unroll 4
        for (int j = 0; j < DS_BLOCK / LANES; j++)
            sum[j] = v_splat(0.0f);
        for (int64_t k = 0; k < count[i]; k++)
#pragma GCC unroll 4
            for (int j = 0; j < DS_BLOCK / LANES; j++)
                sum[j] = v_fma(v_splat(weight[k]), v_load(from + k * DS_BLOCK + j * LANES), sum[j]);
#pragma GCC unroll 4
        for (int j = 0; j < DS_BLOCK / LANES; j++)
            v_store(y + j * LANES, sum[j]);
    }
}
