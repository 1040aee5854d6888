/* Between 16 of the 32 channels of bf16 pixels and floats; and floats rounded as both. */

static TARGET void DS_SLOT(widen)(const ds_bf16 *x, float *y, int64_t pixels)
{
    for (int64_t p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int j = 0; j < DS_BLOCK; j += LANES)
            v_store(y + p * DS_BLOCK + j, v_widen(x + p * DS_HALF_BLOCK + j));
}

/* alone: the other 16 channels, behind these, are empty lanes. */
static TARGET void DS_SLOT(narrow)(const float *x, ds_bf16 *y, int64_t pixels, bool alone)
{
    for (int64_t p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int j = 0; j < DS_BLOCK; j += LANES) {
            ds_bf16 *to = y + p * DS_HALF_BLOCK + j;
            v_narrow(to, v_load(x + p * DS_BLOCK + j));
            if (alone)
                v_narrow(to + DS_BLOCK, v_splat(0.0f));
        }
}

/* What is left of floats as bf16, or as the sums of two: as ds_round_to_bf16 and
   ds_round_to_two_bf16. y may be x. */
static TARGET void DS_SLOT(round)(const float *x, bool two, float *y, int64_t count)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec value = v_load(x + i), high = v_round(value);
        v_store(y + i, two ? v_add(high, v_round(v_sub(value, high))) : high);
    }
    for (; i < count; i++)
        y[i] = two ? ds_round_to_two_bf16(x[i]) : ds_round_to_bf16(x[i]);
}
