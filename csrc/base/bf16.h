/* bf16, the upper half of a float, as its bits. Shared by the engine and by CUDA's kernels. */
#ifndef DS_BASE_BF16_H
#define DS_BASE_BF16_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define DS_ANYWHERE __host__ __device__
#else
#define DS_ANYWHERE
#endif

typedef uint16_t ds_bf16;

DS_ANYWHERE static inline float ds_widen(ds_bf16 bits)
{
    const uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* Rounds to nearest, ties to even; a NaN stays one. */
DS_ANYWHERE static inline ds_bf16 ds_narrow(float value)
{
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    if ((word & 0x7fffffffu) > 0x7f800000u)
        return (ds_bf16)(word >> 16 | 0x40u);
    return (ds_bf16)((word + 0x7fffu + (word >> 16 & 1u)) >> 16);
}

/* The float that is left of a value stored as bf16. */
DS_ANYWHERE static inline float ds_round_to_bf16(float value)
{
    return ds_widen(ds_narrow(value));
}

/* value = the bf16 nearest to it plus a small rest that is rounded too: together 16 bits. */
DS_ANYWHERE static inline ds_bf16 ds_rest(float value, ds_bf16 rounded)
{
    return ds_narrow(value - ds_widen(rounded));
}

/* The float that is left of a value stored as a bf16 and its rest, whose sum is exact. */
DS_ANYWHERE static inline float ds_round_to_two_bf16(float value)
{
    const ds_bf16 rounded = ds_narrow(value);
    return ds_widen(rounded) + ds_widen(ds_rest(value, rounded));
}

#endif
