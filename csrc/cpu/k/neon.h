/* Vector words, NEON of AArch64. */
#include <arm_neon.h>

#define DS_SLOT(name) ds_##name##_neon
#define TARGET
#define LANES 4
#define MICRO_VECTORS 4 /* of output channels in one register tile */
#define STRIP 16        /* output channels that lie side by side in packed weights */
#define PLANAR_PIXELS 8 /* of one register tile into planes */
#define vec float32x4_t

#define v_load(p) vld1q_f32(p)
#define v_store(p, a) vst1q_f32(p, a)
#define v_stream(p, a) vst1q_f32(p, a)
#define v_splat(x) vdupq_n_f32(x)
#define v_add(a, b) vaddq_f32(a, b)
#define v_sub(a, b) vsubq_f32(a, b)
#define v_mul(a, b) vmulq_f32(a, b)
#define v_div(a, b) vdivq_f32(a, b)
#define v_min(a, b) vminq_f32(a, b)
#define v_fma(a, b, c) vfmaq_f32(c, a, b)  /* a b + c */
#define v_fnma(a, b, c) vfmsq_f32(c, a, b) /* c - a b */
#define v_sum(a) vaddvq_f32(a)
/* where a > b: x, else y */
#define v_greater(a, b, x, y) vbslq_f32(vcgtq_f32(a, b), x, y)
/* 2^n, where n is the whole number in the low bits of a sum with 1.5 * 2^23 */
#define v_power_of_two(a)                                                                          \
    vreinterpretq_f32_s32(                                                                         \
        vaddq_s32(vshlq_n_s32(vreinterpretq_s32_f32(a), 23), vdupq_n_s32(127 << 23)))

/* Words whose upper halves are bf16, rounded as by ds_narrow. */
static inline uint32x4_t DS_SLOT(bf16_words)(vec a)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(a);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t sum = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vbslq_u32(vceqq_f32(a, a), sum, quiet);
}

/* Between bf16 in memory and floats. */
#define v_widen(p) vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))
#define v_narrow(p, a) vst1_u16(p, vshrn_n_u32(DS_SLOT(bf16_words)(a), 16))
/* The floats that are left of a. */
#define v_round(a) vreinterpretq_f32_u32(vandq_u32(DS_SLOT(bf16_words)(a), vdupq_n_u32(0xffff0000)))
