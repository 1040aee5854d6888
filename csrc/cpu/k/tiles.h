/* What stands before and behind the products of tiles, on vectors of AVX-512 with bf16. */
#include "cpu/tiles.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))

static inline TARGET __m512 ds_tile_widen(__m256i half)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline TARGET __m512i ds_tile_narrow(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* What a float loses as bf16. */
static inline TARGET __m512 ds_tile_lost(__m512 value)
{
    return _mm512_sub_ps(value, ds_tile_widen((__m256i)_mm512_cvtneps_pbh(value)));
}

/* ds_tile_copy's norm and activation. */
typedef struct ds_tile_norm {
    __m512 scale[2], shift[2], slope, high;
    bool active;
} ds_tile_norm;

static inline TARGET ds_tile_norm ds_tile_load_norm(const ds_tile_copy *c)
{
    ds_tile_norm n = {
        .slope = _mm512_set1_ps(c->slope), .high = _mm512_set1_ps(c->high), .active = c->active};
    for (int half = 0; half < 2; half++) {
        n.scale[half] = n.shift[half] = _mm512_setzero_ps();
        if (half * DS_TILE_ROWS >= c->channels)
            continue;
        n.scale[half] = _mm512_loadu_ps(c->scale + half * DS_TILE_ROWS);
        n.shift[half] = _mm512_loadu_ps(c->shift + half * DS_TILE_ROWS);
    }
    return n;
}

static inline TARGET __m512 ds_tile_normalise(const ds_tile_norm *n, int half, __m512 x)
{
    const __m512 zero = _mm512_setzero_ps(), r = _mm512_fmadd_ps(x, n->scale[half], n->shift[half]);
    const __m512 low = _mm512_mul_ps(r, n->slope);
    if (!n->active)
        return r;
    return _mm512_min_ps(n->high,
                         _mm512_mask_blend_ps(_mm512_cmp_ps_mask(zero, r, _CMP_GT_OQ), r, low));
}

/* The values are those that a step of its own would have stored. */
static TARGET void ds_tile_copy_normalised(const ds_tile_copy *c)
{
    const ds_tile_norm n = ds_tile_load_norm(c);
    const ds_bf16 *row = c->row;
    for (int64_t i = 0; i < c->pixels; i++) {
        __m512i pixel = _mm512_setzero_si512();
        if (c->column[i] >= 0) {
            pixel = _mm512_loadu_si512(row + c->column[i] * (int64_t)DS_TILE_DEPTH);
            const __m512 a = ds_tile_widen(_mm512_castsi512_si256(pixel));
            const __m512 b = ds_tile_widen(_mm512_extracti64x4_epi64(pixel, 1));
            pixel = ds_tile_narrow(ds_tile_normalise(&n, 0, a), ds_tile_normalise(&n, 1, b));
        }
        _mm512_storeu_si512(c->to + i * DS_TILE_DEPTH, pixel);
    }
}

static TARGET void ds_tile_copy_half(const ds_tile_copy *c)
{
    const ds_bf16 *row = c->row;
    for (int64_t i = 0; i < c->pixels; i++) {
        __m512i pixel = _mm512_setzero_si512();
        if (c->column[i] >= 0)
            pixel = _mm512_loadu_si512(row + c->column[i] * (int64_t)DS_TILE_DEPTH);
        _mm512_storeu_si512(c->to + i * DS_TILE_DEPTH, pixel);
    }
}

static TARGET void ds_tile_copy_float(const ds_tile_copy *c)
{
    ds_tile_norm n = {0};
    if (c->scale)
        n = ds_tile_load_norm(c);
    for (int64_t i = 0; i < c->pixels; i++) {
        __m512 a = _mm512_setzero_ps(), b = a;
        const float *at = (const float *)c->row + c->column[i] * (int64_t)DS_TILE_ROWS;
        if (c->column[i] >= 0) {
            a = _mm512_loadu_ps(at);
            if (c->channels > DS_TILE_ROWS)
                b = _mm512_loadu_ps(at + c->plane);
            if (c->scale) {
                a = ds_tile_normalise(&n, 0, a);
                b = ds_tile_normalise(&n, 1, b);
            }
        }
        _mm512_storeu_si512(c->to + i * DS_TILE_DEPTH, ds_tile_narrow(a, b));
        if (c->low)
            _mm512_storeu_si512(c->low + i * DS_TILE_DEPTH,
                                ds_tile_narrow(ds_tile_lost(a), ds_tile_lost(b)));
    }
}

/* 16 pixels of 4 planes, interleaved: pixels 0 to 7, and 8 to 15. */
static inline TARGET void ds_tile_interleave(const __m512 plane[4], __m512i pixels[2])
{
    __m512i pair[2];
    for (int i = 0; i < 2; i++) {
        __m512i even = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(plane[2 * i]));
        __m512i odd = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(plane[2 * i + 1]));
        pair[i] = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
    }
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    pixels[0] = _mm512_permutex2var_epi32(pair[0], first, pair[1]);
    pixels[1] = _mm512_permutex2var_epi32(pair[0], second, pair[1]);
}

/* 16 pixels, of each the 4 high parts and the 4 low ones. */
static inline TARGET void ds_tile_store_image(const __m512 plane[4], ds_bf16 *to)
{
    __m512 lost[4];
    __m512i high[2], low[2];
    for (int channel = 0; channel < 4; channel++)
        lost[channel] = ds_tile_lost(plane[channel]);
    ds_tile_interleave(plane, high);
    ds_tile_interleave(lost, low);
    const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i second = _mm512_add_epi64(first, _mm512_set1_epi64(4));
    for (int i = 0; i < 2; i++, to += 2 * DS_TILE_DEPTH) {
        _mm512_storeu_si512(to, _mm512_permutex2var_epi64(high[i], first, low[i]));
        _mm512_storeu_si512(to + DS_TILE_DEPTH, _mm512_permutex2var_epi64(high[i], second, low[i]));
    }
}

static TARGET void ds_tile_copy_image(const ds_tile_copy *c)
{
    for (int64_t i = 0; i < c->pixels; i += DS_TILE_ROWS) {
        __m512i column = _mm512_loadu_si512(c->column + i);
        __mmask16 inside = _mm512_cmpge_epi32_mask(column, _mm512_setzero_si512());
        __m512 plane[4];
        for (int64_t channel = 0; channel < 4; channel++) {
            const float *from = (const float *)c->row + channel * c->plane;
            plane[channel] = _mm512_setzero_ps();
            if (channel < c->channels)
                plane[channel] = _mm512_mask_i32gather_ps(plane[channel], inside, column, from, 4);
        }
        ds_tile_store_image(plane, c->to + i * 8);
    }
}

/* bf16 as integers of the same order; both zeros become 0. */
static inline TARGET __m512i ds_tile_order(const void *pixel)
{
    const __m512i bits = _mm512_loadu_si512(pixel);
    return _mm512_mask_sub_epi16(bits, _mm512_movepi16_mask(bits), _mm512_set1_epi16((short)0x8000),
                                 bits);
}

/* The channels in which the first pixel of this row and a window, and in which the second, is the
   first largest of the window's four. */
static inline TARGET void ds_tile_largest_half(const ds_tile_windows *w, int64_t window,
                                               __mmask32 largest[2])
{
    const int64_t at = window * 2 * DS_TILE_DEPTH;
    const ds_bf16 *x = (const ds_bf16 *)w->x + at, *beside = (const ds_bf16 *)w->beside + at;
    const __m512i first = ds_tile_order(x), second = ds_tile_order(x + DS_TILE_DEPTH);
    const __m512i other =
        _mm512_max_epi16(ds_tile_order(beside), ds_tile_order(beside + DS_TILE_DEPTH));
    const __m512i most = _mm512_max_epi16(first, second);
    __mmask32 here =
        w->below ? _mm512_cmpgt_epi16_mask(most, other) : _mm512_cmpge_epi16_mask(most, other);
    if (w->rectified)
        here &= _mm512_cmpgt_epi16_mask(most, _mm512_setzero_si512());
    largest[0] = here & _mm512_cmpge_epi16_mask(first, second);
    largest[1] = here & ~largest[0];
}

static inline TARGET void ds_tile_largest_float(const ds_tile_windows *w, int64_t window,
                                                __mmask32 largest[2])
{
    largest[0] = largest[1] = 0;
    for (int half = 0; half < 2 && half * DS_TILE_ROWS < w->channels; half++) {
        const int64_t at = half * w->plane + window * 2 * DS_TILE_ROWS;
        const float *x = (const float *)w->x + at, *beside = (const float *)w->beside + at;
        const __m512 first = _mm512_loadu_ps(x), second = _mm512_loadu_ps(x + DS_TILE_ROWS);
        const __m512 other =
            _mm512_max_ps(_mm512_loadu_ps(beside), _mm512_loadu_ps(beside + DS_TILE_ROWS));
        const __m512 most = _mm512_max_ps(first, second);
        __mmask32 here = w->below ? _mm512_cmp_ps_mask(most, other, _CMP_GT_OQ)
                                  : _mm512_cmp_ps_mask(most, other, _CMP_GE_OQ);
        if (w->rectified)
            here &= _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
        const __mmask32 left = here & _mm512_cmp_ps_mask(first, second, _CMP_GE_OQ);
        largest[0] |= left << half * DS_TILE_ROWS;
        largest[1] |= (here & ~left) << half * DS_TILE_ROWS;
    }
}

static TARGET void ds_tile_copy_unpooled(const ds_tile_copy *c)
{
    const ds_tile_windows *w = &c->windows;
    ds_bf16 *to = c->to;
    for (int64_t i = 0; i < c->pixels; i++, to += DS_TILE_DEPTH) {
        const int64_t column = c->column[i], window = column / 2;
        __m512i dy = _mm512_setzero_si512();
        __mmask32 largest[2] = {0, 0};
        if (column >= 0 && window < w->count) {
            dy = _mm512_loadu_si512((const ds_bf16 *)c->row + window * DS_TILE_DEPTH);
            if (w->half)
                ds_tile_largest_half(w, window, largest);
            else
                ds_tile_largest_float(w, window, largest);
        }
        _mm512_storeu_si512(to, _mm512_maskz_mov_epi16(largest[column & 1], dy));
        if (column % 2 || i + 1 == c->pixels || c->column[i + 1] != column + 1)
            continue;
        i++;
        to += DS_TILE_DEPTH;
        _mm512_storeu_si512(to, _mm512_maskz_mov_epi16(largest[1], dy));
    }
}

static TARGET void ds_tile_copy_row(const ds_tile_copy *c)
{
    if (c->windows.x)
        ds_tile_copy_unpooled(c);
    else if (c->half && c->scale)
        ds_tile_copy_normalised(c);
    else if (c->half)
        ds_tile_copy_half(c);
    else if (c->image)
        ds_tile_copy_image(c);
    else
        ds_tile_copy_float(c);
}

static inline TARGET __m512 ds_tile_load(const ds_tile_map *map, int64_t half, int64_t pixel)
{
    if (!map->half)
        return _mm512_loadu_ps((const float *)map->data + half * map->plane + pixel * 16);
    const ds_bf16 *at = (const ds_bf16 *)map->data + pixel * DS_TILE_DEPTH + half * 16;
    return ds_tile_widen(_mm256_loadu_si256((const void *)at));
}

/* 16 channels of a pixel; `from` counts its values in the sums. */
static inline TARGET __m512 ds_tile_value(const ds_tile_end *e, int64_t half, int64_t from,
                                          int64_t pixel)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 r = _mm512_loadu_ps(e->sum + half * DS_TILE_GROUP * 256 + from);
    if (e->bias)
        r = _mm512_add_ps(r, _mm512_loadu_ps(e->bias + half * 16));
    if (e->addend.data)
        r = _mm512_add_ps(r, ds_tile_load(&e->addend, half, pixel));
    if (!e->active)
        return r;
    __m512 low = _mm512_mul_ps(r, _mm512_set1_ps(e->slope)), high = _mm512_set1_ps(e->high);
    if (e->gate.data) {
        __m512 gate = ds_tile_load(&e->gate, half, pixel);
        r = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(gate, zero, _CMP_GT_OQ), low, r);
        return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(high, gate, _CMP_GT_OQ), zero, r);
    }
    /* In this order of operands a NaN passes through. */
    return _mm512_min_ps(high,
                         _mm512_mask_blend_ps(_mm512_cmp_ps_mask(zero, r, _CMP_GT_OQ), r, low));
}

/* Writes a pixel; `value` becomes its 32 channels as they are stored. */
static inline TARGET void ds_tile_store(const ds_tile_end *e, int64_t from, int64_t pixel,
                                        __m512 value[2])
{
    value[0] = ds_tile_value(e, 0, from, pixel);
    value[1] = e->halves > 1 ? ds_tile_value(e, 1, from, pixel) : _mm512_setzero_ps();
    if (e->y.half) {
        ds_bf16 *to = (ds_bf16 *)e->y.data + pixel * DS_TILE_DEPTH;
        const __m512i line = ds_tile_narrow(value[0], value[1]);
        if (e->stream)
            _mm512_stream_si512((void *)to, line);
        else
            _mm512_storeu_si512(to, line);
        value[0] = ds_tile_widen(_mm512_castsi512_si256(line));
        value[1] = ds_tile_widen(_mm512_extracti64x4_epi64(line, 1));
        return;
    }
    float *to = (float *)e->y.data + pixel * 16;
    for (int64_t half = 0; half < e->halves; half++, to += e->y.plane)
        if (e->stream)
            _mm512_stream_ps(to, value[half]);
        else
            _mm512_storeu_ps(to, value[half]);
}

/* ds_tile_end.statistics in registers. Differences from the first value are of about the size of
   the deviation: their sums do not cancel as those of a large mean's squares would. */
typedef struct ds_tile_statistics {
    __m512 first[2], sum[2], square[2];
} ds_tile_statistics;

static inline TARGET ds_tile_statistics ds_tile_load_statistics(const float *from)
{
    ds_tile_statistics s;
    for (int half = 0; half < 2; half++) {
        s.first[half] = _mm512_loadu_ps(from + half * 16);
        s.sum[half] = _mm512_loadu_ps(from + DS_TILE_DEPTH + half * 16);
        s.square[half] = _mm512_loadu_ps(from + 2 * DS_TILE_DEPTH + half * 16);
    }
    return s;
}

static inline TARGET void ds_tile_store_statistics(const ds_tile_statistics *s, float *to)
{
    for (int half = 0; half < 2; half++) {
        _mm512_storeu_ps(to + half * 16, s->first[half]);
        _mm512_storeu_ps(to + DS_TILE_DEPTH + half * 16, s->sum[half]);
        _mm512_storeu_ps(to + 2 * DS_TILE_DEPTH + half * 16, s->square[half]);
    }
}

static inline TARGET void ds_tile_add_statistics(ds_tile_statistics *s, const __m512 value[2],
                                                 bool first)
{
    for (int half = 0; half < 2; half++) {
        if (first) {
            s->first[half] = value[half];
            s->sum[half] = s->square[half] = _mm512_setzero_ps();
        }
        const __m512 more = _mm512_sub_ps(value[half], s->first[half]);
        s->sum[half] = _mm512_add_ps(s->sum[half], more);
        s->square[half] = _mm512_fmadd_ps(more, more, s->square[half]);
    }
}

/* Into planes: only bias and addend. */
static inline TARGET void ds_tile_store_planes(const ds_tile_end *e, int64_t from, int64_t pixel)
{
    for (int64_t channel = 0; channel < e->planes; channel++) {
        float r = e->sum[from + channel] + e->bias[channel];
        if (e->addend.data)
            r += ((const float *)e->addend.data)[channel * e->addend.plane + pixel];
        ((float *)e->y.data)[channel * e->y.plane + pixel] = r;
    }
}

static TARGET void ds_tile_finish(ds_tile_end *e, int64_t places)
{
    const int64_t all = e->rows * DS_TILE_ROWS;
    const int64_t stop = e->done + places < all ? e->done + places : all;
    ds_tile_statistics statistics = {0};
    if (e->statistics && e->done > 0)
        statistics = ds_tile_load_statistics(e->statistics);
    for (int64_t place = e->done; place < stop; place++) {
        const int64_t row = place / DS_TILE_ROWS, i = place % DS_TILE_ROWS;
        const int64_t pixel = e->at + row * e->y_step + i * e->x_step;
        __m512 value[2];
        if (i >= e->pixels)
            continue;
        if (e->planes) {
            ds_tile_store_planes(e, place * 16, pixel);
            continue;
        }
        ds_tile_store(e, place * 16, pixel, value);
        if (e->statistics)
            ds_tile_add_statistics(&statistics, value, place == 0);
    }
    if (e->statistics)
        ds_tile_store_statistics(&statistics, e->statistics);
    e->done = stop;
}

/* 32 pixels of 32 channels as two packed tiles: row k has pixels 2 k and 2 k + 1 of 16 channels. */
static inline TARGET void ds_tile_pack(const ds_bf16 *x, int64_t pixels, ds_bf16 *low,
                                       ds_bf16 *high)
{
    for (int64_t k = 0; k < 16; k++) {
        __m512i even = _mm512_setzero_si512(), odd = even;
        if (2 * k < pixels)
            even = _mm512_loadu_si512(x + 2 * k * DS_TILE_DEPTH);
        if (2 * k + 1 < pixels)
            odd = _mm512_loadu_si512(x + (2 * k + 1) * DS_TILE_DEPTH);
        for (int half = 0; half < 2; half++) {
            __m512i a = _mm512_cvtepu16_epi32(
                _mm512_castsi512_si256(half ? _mm512_shuffle_i64x2(even, even, 0xee) : even));
            __m512i b = _mm512_cvtepu16_epi32(
                _mm512_castsi512_si256(half ? _mm512_shuffle_i64x2(odd, odd, 0xee) : odd));
            _mm512_storeu_si512((half ? high : low) + k * DS_TILE_DEPTH,
                                _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
        }
    }
}
