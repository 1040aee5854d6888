/* Pooling of rows of pixels of 16 channels; rules: ops/pool2d.c. */

/* One row of maxima. x: the first of `rows` input rows of `width` pixels that the windows cover. */
static TARGET void DS_SLOT(max_pool_row)(const float *x, int64_t width, int64_t rows,
                                         int64_t kernel, int64_t stride, int64_t pad, float *y,
                                         int64_t columns)
{
    for (int64_t o = 0; o < columns; o++) {
        const int64_t at = o * stride - pad;
        const int64_t begin = at < 0 ? 0 : at, end = at + kernel < width ? at + kernel : width;
        for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
            vec best = v_load(x + begin * DS_BLOCK + lane);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = begin; i < end; i++) {
                    const vec value = v_load(x + (r * width + i) * DS_BLOCK + lane);
                    best = v_greater(value, best, value, best);
                }
            v_store(y + o * DS_BLOCK + lane, best);
        }
    }
}

/* Adds one row of dy to the first largest pixel of each window. */
static TARGET void DS_SLOT(max_pool_row_backward)(const float *dy, const float *x, int64_t width,
                                                  int64_t rows, int64_t kernel, int64_t stride,
                                                  int64_t pad, float *dx, int64_t columns)
{
    for (int64_t o = 0; o < columns; o++) {
        const int64_t at = o * stride - pad;
        const int64_t begin = at < 0 ? 0 : at, end = at + kernel < width ? at + kernel : width;
        for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
            const vec zero = v_splat(0.0f);
            vec best = v_load(x + begin * DS_BLOCK + lane);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = begin; i < end; i++) {
                    const vec value = v_load(x + (r * width + i) * DS_BLOCK + lane);
                    best = v_greater(value, best, value, best);
                }
            /* `left` becomes zero in the lanes whose window has had its maximum. */
            vec left = v_load(dy + o * DS_BLOCK + lane);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = begin; i < end; i++) {
                    const int64_t p = (r * width + i) * DS_BLOCK + lane;
                    const vec smaller = v_greater(best, v_load(x + p), left, zero);
                    v_store(dx + p, v_add(v_load(dx + p), v_sub(left, smaller)));
                    left = smaller;
                }
        }
    }
}

/* One row of means. */
static TARGET void DS_SLOT(avg_pool_row)(const float *x, int64_t width, int64_t rows,
                                         int64_t kernel, int64_t stride, float *y, int64_t columns)
{
    for (int64_t o = 0; o < columns; o++) {
        const int64_t begin = o * stride;
        const int64_t end = begin + kernel < width ? begin + kernel : width;
        const vec share = v_splat(1.0f / (float)(rows * (end - begin)));
        for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
            vec sum = v_splat(0.0f);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = begin; i < end; i++)
                    sum = v_add(sum, v_load(x + (r * width + i) * DS_BLOCK + lane));
            v_store(y + o * DS_BLOCK + lane, v_mul(sum, share));
        }
    }
}

/* Adds one row of dy, shared out evenly, to the pixels of each window. */
static TARGET void DS_SLOT(avg_pool_row_backward)(const float *dy, int64_t width, int64_t rows,
                                                  int64_t kernel, int64_t stride, float *dx,
                                                  int64_t columns)
{
    for (int64_t o = 0; o < columns; o++) {
        const int64_t begin = o * stride;
        const int64_t end = begin + kernel < width ? begin + kernel : width;
        const vec share = v_splat(1.0f / (float)(rows * (end - begin)));
        for (int64_t lane = 0; lane < DS_BLOCK; lane += LANES) {
            const vec part = v_mul(v_load(dy + o * DS_BLOCK + lane), share);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = begin; i < end; i++) {
                    float *to = dx + (r * width + i) * DS_BLOCK + lane;
                    v_store(to, v_add(v_load(to), part));
                }
        }
    }
}
