/* Updates of a run of values, in double as ref has them; formulas: ops/update.c. The compiler makes
   vectors of these loops. */

static TARGET void DS_SLOT(adam)(float *restrict x, float *restrict m, float *restrict v,
                                 const float *restrict gradient, const ds_adam *adam, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const double g = (double)gradient[i] + adam->weight_decay * (double)x[i];
        m[i] = (float)((double)m[i] + (1 - adam->beta1) * (g - (double)m[i]));
        v[i] = (float)(adam->beta2 * (double)v[i] + (1 - adam->beta2) * g * g);
        x[i] =
            (float)((double)x[i] - adam->rate * (double)m[i] /
                                       (__builtin_sqrt((double)v[i]) / adam->root + adam->epsilon));
    }
}

static TARGET void DS_SLOT(sgd)(float *restrict x, float *restrict velocity,
                                const float *restrict gradient, const ds_sgd *sgd, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const double g = (double)gradient[i] + sgd->weight_decay * (double)x[i];
        velocity[i] = (float)(sgd->momentum * (double)velocity[i] + g);
        x[i] = (float)((double)x[i] - sgd->rate * (double)velocity[i]);
    }
}

/* A NaN stays one. */
static TARGET void DS_SLOT(clamp_plane)(float *x, float low, float high, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const float raised = x[i] < low ? low : x[i];
        x[i] = raised > high ? high : raised;
    }
}
