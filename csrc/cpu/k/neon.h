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
