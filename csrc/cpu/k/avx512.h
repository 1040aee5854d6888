/* Vector words, AVX-512. */
#include <immintrin.h>

#define DS_SLOT(name) ds_##name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define LANES 16
#define MICRO_VECTORS 4 /* of output channels in one register tile */
#define STRIP 64        /* output channels that lie side by side in packed weights */
#define PLANAR_PIXELS 8 /* of one register tile into planes */
#define vec __m512

#define v_load(p) _mm512_loadu_ps(p)
#define v_store(p, a) _mm512_storeu_ps(p, a)
#define v_stream(p, a) _mm512_stream_ps(p, a)
#define v_splat(x) _mm512_set1_ps(x)
#define v_add(a, b) _mm512_add_ps(a, b)
#define v_sub(a, b) _mm512_sub_ps(a, b)
#define v_mul(a, b) _mm512_mul_ps(a, b)
#define v_div(a, b) _mm512_div_ps(a, b)
#define v_min(a, b) _mm512_min_ps(a, b)
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)   /* a b + c */
#define v_fnma(a, b, c) _mm512_fnmadd_ps(a, b, c) /* c - a b */
#define v_sum(a) _mm512_reduce_add_ps(a)
/* where a > b: x, else y */
#define v_greater(a, b, x, y) _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), y, x)
/* 2^n, where n is the whole number in the low bits of a sum with 1.5 * 2^23 */
#define v_power_of_two(a)                                                                          \
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(a), 23),            \
                                         _mm512_set1_epi32(127 << 23)))

/* Words whose upper halves are bf16, rounded as by ds_narrow. */
static inline TARGET __m512i DS_SLOT(bf16_words)(vec a)
{
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_mask_or_epi32(sum, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), bits,
                                _mm512_set1_epi32(0x400000));
}

/* Between bf16 in memory and floats. */
#define v_widen(p)                                                                                 \
    _mm512_castsi512_ps(                                                                           \
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))), 16))
#define v_narrow(p, a)                                                                             \
    _mm256_storeu_si256((__m256i *)(p),                                                            \
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(DS_SLOT(bf16_words)(a), 16)))
/* The floats that are left of a. */
#define v_round(a)                                                                                 \
    _mm512_castsi512_ps(_mm512_and_si512(DS_SLOT(bf16_words)(a), _mm512_set1_epi32(-0x10000)))
