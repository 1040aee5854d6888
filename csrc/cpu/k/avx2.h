/* Vector words, AVX2 with FMA. */
#include <immintrin.h>

#define DS_SLOT(name) ds_##name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define MICRO_VECTORS 2 /* of output channels in one register tile */
#define STRIP 16        /* output channels that lie side by side in packed weights */
#define PLANAR_PIXELS 4 /* of one register tile into planes */
#define vec __m256

#define v_load(p) _mm256_loadu_ps(p)
#define v_store(p, a) _mm256_storeu_ps(p, a)
#define v_stream(p, a) _mm256_stream_ps(p, a)
#define v_splat(x) _mm256_set1_ps(x)
#define v_add(a, b) _mm256_add_ps(a, b)
#define v_sub(a, b) _mm256_sub_ps(a, b)
#define v_mul(a, b) _mm256_mul_ps(a, b)
#define v_div(a, b) _mm256_div_ps(a, b)
#define v_min(a, b) _mm256_min_ps(a, b)
#define v_fma(a, b, c) _mm256_fmadd_ps(a, b, c)   /* a b + c */
#define v_fnma(a, b, c) _mm256_fnmadd_ps(a, b, c) /* c - a b */
/* where a > b: x, else y */
#define v_greater(a, b, x, y) _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GT_OQ))

static inline TARGET float DS_SLOT(sum)(vec a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#define v_sum(a) DS_SLOT(sum)(a)
/* 2^n, where n is the whole number in the low bits of a sum with 1.5 * 2^23 */
#define v_power_of_two(a)                                                                          \
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(a), 23),            \
                                         _mm256_set1_epi32(127 << 23)))

/* Words whose upper halves are bf16, rounded as by ds_narrow. */
static inline TARGET __m256i DS_SLOT(bf16_words)(vec a)
{
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(sum, quiet, _mm256_castps_si256(nan));
}

/* Between bf16 in memory and floats. */
static inline TARGET __m128i DS_SLOT(to_bf16)(vec a)
{
    const __m256i high = _mm256_srli_epi32(DS_SLOT(bf16_words)(a), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
#define v_widen(p)                                                                                 \
    _mm256_castsi256_ps(                                                                           \
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))), 16))
#define v_narrow(p, a) _mm_storeu_si128((__m128i *)(p), DS_SLOT(to_bf16)(a))
/* The floats that are left of a. */
#define v_round(a)                                                                                 \
    _mm256_castsi256_ps(_mm256_and_si256(DS_SLOT(bf16_words)(a), _mm256_set1_epi32(-0x10000)))
