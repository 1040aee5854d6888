/* Activations built on the exponential function; formulas: ops/activation.c. Counts are multiples
   of 16. NaN passes through. */

/* exp(x) = scale (1 + rest), accurate to the last place or two, for -87 <= x <= 88. */
typedef struct DS_SLOT(power) {
    vec scale; /* 2^n, n = round(x / log 2) */
    vec rest;  /* exp(r) - 1, r = x - n log 2 */
} DS_SLOT(power);

static inline TARGET DS_SLOT(power) DS_SLOT(exponential)(vec x)
{
    /* Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits. */
    const vec shifted = v_fma(x, v_splat(1.44269504f), v_splat(12582912.0f));
    const vec n = v_sub(shifted, v_splat(12582912.0f));
    /* log 2 in two parts, so that n times the first is exact. */
    vec r = v_fnma(n, v_splat(0.693359375f), x);
    r = v_fnma(n, v_splat(-2.12194440e-4f), r);
    /* Taylor's series to r^7 / 7!; |r| < 0.35. */
    vec p = v_fma(r, v_splat(1.0f / 5040), v_splat(1.0f / 720));
    p = v_fma(p, r, v_splat(1.0f / 120));
    p = v_fma(p, r, v_splat(1.0f / 24));
    p = v_fma(p, r, v_splat(1.0f / 6));
    p = v_fma(p, r, v_splat(0.5f));
    return (DS_SLOT(power)){.scale = v_power_of_two(shifted), .rest = v_fma(v_mul(r, r), p, r)};
}

/* x between low and high; in this order of operands a NaN stays one. */
static inline TARGET vec DS_SLOT(clamp)(vec x, float low, float high)
{
    return v_min(v_splat(high), v_greater(v_splat(low), x, v_splat(low), x));
}

/* exp(x) - 1 for low <= x <= 88. */
static inline TARGET vec DS_SLOT(exponential_less_one)(vec x)
{
    const DS_SLOT(power) e = DS_SLOT(exponential)(x);
    return v_fma(e.scale, e.rest, v_sub(e.scale, v_splat(1.0f)));
}

static TARGET void DS_SLOT(elu)(const float *x, float alpha, float *y, int64_t count)
{
    const vec zero = v_splat(0.0f);
    for (int64_t i = 0; i < count; i += LANES) {
        const vec from = v_load(x + i);
        const vec low = DS_SLOT(exponential_less_one)(DS_SLOT(clamp)(from, -87.0f, 0.0f));
        v_store(y + i, v_greater(from, zero, from, v_mul(low, v_splat(alpha))));
    }
}

static TARGET void DS_SLOT(sigmoid)(const float *x, float *y, int64_t count)
{
    const vec one = v_splat(1.0f);
    for (int64_t i = 0; i < count; i += LANES) {
        const vec from = DS_SLOT(clamp)(v_load(x + i), -87.0f, 87.0f);
        const DS_SLOT(power) e = DS_SLOT(exponential)(v_sub(v_splat(0.0f), from));
        v_store(y + i, v_div(one, v_fma(e.scale, e.rest, v_add(e.scale, one))));
    }
}

/* tanh(x) = m / (m + 2) with m = exp(2 x) - 1, which has no cancellation. */
static TARGET void DS_SLOT(tanh)(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES) {
        const vec from = DS_SLOT(clamp)(v_load(x + i), -20.0f, 20.0f);
        const vec m = DS_SLOT(exponential_less_one)(v_add(from, from));
        v_store(y + i, v_div(m, v_add(m, v_splat(2.0f))));
    }
}

static TARGET void DS_SLOT(elu_backward)(const float *dy, const float *y, float alpha, float *dx,
                                         int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES) {
        const vec at = v_load(y + i), g = v_load(dy + i);
        const vec low = v_mul(g, v_add(at, v_splat(alpha)));
        v_store(dx + i, v_greater(at, v_splat(0.0f), g, low));
    }
}

static TARGET void DS_SLOT(sigmoid_backward)(const float *dy, const float *y, float *dx,
                                             int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES) {
        const vec at = v_load(y + i);
        v_store(dx + i, v_mul(v_load(dy + i), v_mul(at, v_sub(v_splat(1.0f), at))));
    }
}

static TARGET void DS_SLOT(tanh_backward)(const float *dy, const float *y, float *dx, int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES) {
        const vec at = v_load(y + i);
        v_store(dx + i, v_mul(v_load(dy + i), v_fnma(at, at, v_splat(1.0f))));
    }
}
