/* Rows of planes; formulas: ops/total_variation.c. */

/* *sum += the squared differences of a row of x to its right neighbours and to the row below. */
static TARGET void DS_SLOT(variation_row)(const float *x, const float *below, int64_t width,
                                          double *sum)
{
    vec squares = v_splat(0.0f);
    int64_t j = 0;
    for (; j + LANES < width; j += LANES) {
        const vec here = v_load(x + j);
        const vec right = v_sub(v_load(x + j + 1), here), down = v_sub(v_load(below + j), here);
        squares = v_fma(right, right, v_fma(down, down, squares));
    }
    *sum += (double)v_sum(squares);
    for (; j < width; j++) {
        const float right = j + 1 < width ? x[j + 1] - x[j] : 0, down = below[j] - x[j];
        *sum += (double)right * (double)right + (double)down * (double)down;
    }
}

/* y = factor times the sum of each pixel's differences to its neighbours. */
static TARGET void DS_SLOT(variation_row_backward)(const float *above, const float *x,
                                                   const float *below, float factor, float *y,
                                                   int64_t width)
{
    for (int64_t j = 0; j < width; j++)
        y[j] = (x[j] - above[j]) + (x[j] - below[j]);
    for (int64_t j = 1; j < width; j++)
        y[j] += x[j] - x[j - 1];
    for (int64_t j = 0; j + 1 < width; j++)
        y[j] += x[j] - x[j + 1];
    for (int64_t j = 0; j < width; j++)
        y[j] *= factor;
}
