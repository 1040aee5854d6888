/* Between the two orders of a small matrix. */
#ifndef DS_CPU_TRANSPOSE_H
#define DS_CPU_TRANSPOSE_H

#include <stdint.h>
#include <string.h>

typedef float ds_four __attribute__((vector_size(16)));

/* to[j][i] = from[i][j] for i, j < 4; steps in floats from row to row. */
static inline void ds_transpose_4(const float *from, int64_t from_step, float *to, int64_t to_step)
{
    ds_four a, b, c, d;
    memcpy(&a, from, sizeof a);
    memcpy(&b, from + from_step, sizeof b);
    memcpy(&c, from + 2 * from_step, sizeof c);
    memcpy(&d, from + 3 * from_step, sizeof d);
    ds_four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    ds_four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    ds_four ab_end = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    ds_four cd_end = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    c = __builtin_shufflevector(ab_end, cd_end, 0, 1, 4, 5);
    d = __builtin_shufflevector(ab_end, cd_end, 2, 3, 6, 7);
    memcpy(to, &a, sizeof a);
    memcpy(to + to_step, &b, sizeof b);
    memcpy(to + 2 * to_step, &c, sizeof c);
    memcpy(to + 3 * to_step, &d, sizeof d);
}

#endif
