/* Between pixels of 32 bf16 channels and the two blocks of 16 floats that they stand for: channels
   0 to 15 in `low`, the rest in `high`, which may be NULL: not wanted, or zero. */

static TARGET void DS_SLOT(widen)(const ds_bf16 *x, float *low, float *high, int64_t pixels)
{
    for (int64_t p = 0; p < pixels; p++, x += DS_HALF_BLOCK)
#pragma GCC unroll 4
        for (int j = 0; j < DS_BLOCK; j += LANES) {
            v_store(low + p * DS_BLOCK + j, v_widen(x + j));
            if (high)
                v_store(high + p * DS_BLOCK + j, v_widen(x + DS_BLOCK + j));
        }
}

static TARGET void DS_SLOT(narrow)(const float *low, const float *high, ds_bf16 *y, int64_t pixels)
{
    for (int64_t p = 0; p < pixels; p++, y += DS_HALF_BLOCK)
#pragma GCC unroll 4
        for (int j = 0; j < DS_BLOCK; j += LANES) {
            v_narrow(y + j, v_load(low + p * DS_BLOCK + j));
            v_narrow(y + DS_BLOCK + j, high ? v_load(high + p * DS_BLOCK + j) : v_splat(0.0f));
        }
}
