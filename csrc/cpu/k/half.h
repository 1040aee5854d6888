/* Between 16 of the 32 channels of bf16 pixels and floats. */

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
