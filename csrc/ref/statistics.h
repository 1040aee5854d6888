/* Mean and standard deviation of one map, for moments and adain. */
#ifndef DS_REF_STATISTICS_H
#define DS_REF_STATISTICS_H

#include "ref/ref.h"

#include <math.h>

typedef struct ds_statistics {
    double mean;
    double deviation; /* sqrt(var + epsilon) */
    double divisor;   /* of the variance: pixels, less one where it is unbiased */
} ds_statistics;

static inline ds_statistics ds_map_statistics(const ds_real *map, int64_t pixels, double epsilon,
                                              int64_t unbiased)
{
    double sum = 0, squares = 0;
    ds_statistics s = {.divisor = (double)(pixels - (unbiased ? 1 : 0))};
    for (int64_t k = 0; k < pixels; k++)
        sum += (double)map[k];
    s.mean = sum / (double)pixels;
    for (int64_t k = 0; k < pixels; k++)
        squares += ((double)map[k] - s.mean) * ((double)map[k] - s.mean);
    s.deviation = sqrt(squares / s.divisor + epsilon);
    return s;
}

#endif
