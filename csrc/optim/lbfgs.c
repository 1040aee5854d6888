#include "optim/lbfgs.h"

#include <math.h>

static const double LEAST_CURVATURE = 1e-10;

struct ds_lbfgs {
    ds_alloc *alloc;
    ds_vectors v;
    int64_t length, history;
    double rate;
    float *memory;          /* (2 history + 2, length): the four below lie in it */
    float *step;            /* (length) s of the step before */
    float *previous;        /* (length) the gradient there */
    float *steps, *changes; /* (history, length) s and y, a ring */
    const float **rows;     /* (2 history + 1) what the vector functions get */
    double *factors;        /* (2 history + 1) of the rows in d */
    double *sums;           /* (2 history + 3, 2) of the rows with y and with g */
    double *products;       /* (2, history, history): the two below lie in it */
    double *mixed, *square; /* s . y and y . y */
    double *slopes;         /* (2, history) g . s and g . y */
    double *alphas;         /* (history) the first loop's factors */
    ds_lbfgs_state state;
    double slope;
};

static ds_code allocate(ds_lbfgs *self, ds_status *status)
{
    const size_t history = (size_t)self->history, rows = (size_t)ds_lbfgs_rows(self->history);
    size_t floats = 0, bytes = 0, products = 0;
    if (!ds_multiply((size_t)self->length, 2 * history + 2, &floats) ||
        !ds_multiply(floats, sizeof(float), &bytes) ||
        !ds_multiply(history * history, 2 * sizeof(double), &products))
        return ds_fail(status, DS_NO_MEMORY, "lbfgs: history=%lld of %lld values is too large",
                       (long long)self->history, (long long)self->length);
    DS_TRY(self->v.allocate(self->v.context, bytes, &self->memory, status));
    DS_TRY(ds_alloc_raw(self->alloc, rows * sizeof *self->rows, &self->rows, status));
    DS_TRY(ds_alloc_raw(self->alloc, rows * sizeof(double), &self->factors, status));
    DS_TRY(ds_alloc_raw(self->alloc, (rows + 2) * 2 * sizeof(double), &self->sums, status));
    DS_TRY(ds_alloc_zeroed(self->alloc, products, &self->products, status));
    DS_TRY(ds_alloc_raw(self->alloc, history * 2 * sizeof(double), &self->slopes, status));
    DS_TRY(ds_alloc_raw(self->alloc, history * sizeof(double), &self->alphas, status));
exit:
    return status->code;
}

ds_code ds_lbfgs_create(ds_alloc *alloc, ds_vectors vectors, int64_t length, int64_t history,
                        double rate, ds_lbfgs **out, ds_status *status)
{
    ds_lbfgs *self = NULL;
    DS_TRY(ds_alloc_zeroed(alloc, sizeof *self, &self, status));
    *self = (ds_lbfgs){.alloc = alloc,
                       .v = vectors,
                       .length = length,
                       .history = history,
                       .rate = rate,
                       .state = {.newest = -1}};
    DS_TRY(allocate(self, status));
    self->step = self->memory;
    self->previous = self->step + length;
    self->steps = self->previous + length;
    self->changes = self->steps + history * length;
    self->mixed = self->products;
    self->square = self->mixed + history * history;
exit:
    if (status->code != DS_OK)
        ds_lbfgs_destroy(&self);
    *out = self;
    return status->code;
}

void ds_lbfgs_destroy(ds_lbfgs **address)
{
    ds_lbfgs *self = *address;
    if (!self)
        return;
    ds_alloc *alloc = self->alloc;
    if (self->memory)
        self->v.release(self->v.context, &self->memory);
    ds_release(alloc, &self->rows);
    ds_release(alloc, &self->factors);
    ds_release(alloc, &self->sums);
    ds_release(alloc, &self->products);
    ds_release(alloc, &self->slopes);
    ds_release(alloc, &self->alphas);
    ds_release(alloc, address);
}

/* The slot of the pair that is `age` pairs older than the newest. */
static int64_t slot_of(const ds_lbfgs *self, int64_t age)
{
    return (self->state.newest - age + self->history) % self->history;
}

/* Lists a vector, the kept s and the kept y; returns how many that are. */
static int64_t list_rows(ds_lbfgs *self, const float *first)
{
    const int64_t kept = self->state.kept;
    self->rows[0] = first;
    for (int64_t i = 0; i < kept; i++) {
        self->rows[1 + i] = self->steps + i * self->length;
        self->rows[1 + kept + i] = self->changes + i * self->length;
    }
    return 1 + 2 * kept;
}

static void combine_two(const ds_lbfgs *self, const float *a, const float *b, double factor,
                        float *out)
{
    self->v.combine(self->v.context, (const float *[]){a, b}, (const double[]){1, factor}, 2, out);
}

static void copy(const ds_lbfgs *self, const float *from, float *to)
{
    self->v.combine(self->v.context, &from, (const double[]){1}, 1, to);
}

/* Keeps the pair of the step before if its curvature allows; `sums` are of its s and the kept
   rows. */
static void remember(ds_lbfgs *self, const float *gradient)
{
    const int64_t history = self->history, kept = self->state.kept;
    const double *with_steps = self->sums + 2, *with_changes = with_steps + 2 * kept;
    const double *with_itself = with_changes + 2 * kept;
    if (self->sums[0] <= LEAST_CURVATURE)
        return;
    const int64_t slot = (self->state.newest + 1) % history;
    for (int64_t i = 0; i < kept; i++) {
        self->mixed[i * history + slot] = with_steps[2 * i];
        self->mixed[slot * history + i] = 0;
        self->square[i * history + slot] = with_changes[2 * i];
        self->square[slot * history + i] = with_changes[2 * i];
    }
    self->mixed[slot * history + slot] = self->sums[0];
    self->square[slot * history + slot] = with_itself[0];
    self->slopes[slot] = self->sums[1];
    self->slopes[history + slot] = with_itself[1];
    self->state.newest = slot;
    self->state.kept += kept < history;
    copy(self, self->step, self->steps + slot * self->length);
    combine_two(self, gradient, self->previous, -1, self->changes + slot * self->length);
}

/* The first loop: the factors -alpha of the y in q = -g - sum of alpha y. */
static void find_alphas(ds_lbfgs *self)
{
    for (int64_t age = 0; age < self->state.kept; age++) {
        const int64_t i = slot_of(self, age);
        const double *mixed = self->mixed + i * self->history;
        double product = -self->slopes[i]; /* s . q */
        for (int64_t newer = 0; newer < age; newer++)
            product -= self->alphas[slot_of(self, newer)] * mixed[slot_of(self, newer)];
        self->alphas[i] = product / mixed[i];
    }
}

/* The second loop: the factors of all in d, and its slope. `square_of_gradient` is g . g. */
static void find_factors(ds_lbfgs *self, double square_of_gradient)
{
    const int64_t history = self->history, kept = self->state.kept;
    const int64_t diagonal = self->state.newest * (history + 1);
    const double scale = kept ? self->mixed[diagonal] / self->square[diagonal] : 1;
    const double *slopes_of_changes = self->slopes + history;
    double *of_steps = self->factors + 1, *of_changes = of_steps + kept;
    self->factors[0] = -scale;
    self->slope = -scale * square_of_gradient;
    for (int64_t age = kept - 1; age >= 0; age--) {
        const int64_t i = slot_of(self, age);
        double product = slopes_of_changes[i]; /* y . -q, then y . r */
        for (int64_t j = 0; j < kept; j++)
            product += self->alphas[j] * self->square[i * history + j];
        product *= -scale;
        for (int64_t older = kept - 1; older > age; older--) {
            const int64_t j = slot_of(self, older);
            product += of_steps[j] * self->mixed[j * history + i];
        }
        of_steps[i] = self->alphas[i] - product / self->mixed[i * history + i];
        of_changes[i] = -scale * self->alphas[i];
        self->slope += of_steps[i] * self->slopes[i] + of_changes[i] * slopes_of_changes[i];
    }
}

/* Makes s of this step, of length t. */
static void make_step(ds_lbfgs *self, const float *gradient, double t)
{
    const int64_t count = list_rows(self, gradient);
    for (int64_t i = 0; i < count; i++)
        self->factors[i] *= t;
    self->v.combine(self->v.context, self->rows, self->factors, count, self->step);
}

ds_code ds_lbfgs_step(ds_lbfgs *self, double loss, const float *gradient, float *x,
                      ds_status *status)
{
    const bool first = !self->state.started;
    const int64_t kept = self->state.kept, count = list_rows(self, first ? gradient : self->step);
    const double *sums = self->sums, *of_gradient = sums + 2 * (count + 1);
    self->v.dots(self->v.context, gradient, first ? gradient : self->previous, self->rows, count,
                 self->sums);
    const double norm = of_gradient[0];
    if (!isfinite(loss) || !isfinite(norm))
        return ds_fail(status, DS_NUMERICAL, "lbfgs: the %s is not finite",
                       isfinite(loss) ? "gradient" : "loss");
    for (int64_t i = 0; i < kept; i++) {
        self->slopes[i] = sums[2 * (1 + i) + 1];
        self->slopes[self->history + i] = sums[2 * (1 + kept + i) + 1];
    }
    if (!first)
        remember(self, gradient);
    find_alphas(self);
    find_factors(self, of_gradient[1]);
    make_step(self, gradient, first ? fmin(1, 1 / norm) * self->rate : self->rate);
    copy(self, gradient, self->previous);
    self->state.started = true;
    if (self->slope <= 0)
        combine_two(self, x, self->step, 1, x);
    return DS_OK;
}

double ds_lbfgs_slope(const ds_lbfgs *self)
{
    return self->slope;
}

ds_lbfgs_state ds_lbfgs_get(const ds_lbfgs *self)
{
    return self->state;
}

void ds_lbfgs_set(ds_lbfgs *self, ds_lbfgs_state state)
{
    self->state = state;
}

double *ds_lbfgs_products(ds_lbfgs *self)
{
    return self->products;
}

float *ds_lbfgs_memory(ds_lbfgs *self)
{
    return self->memory;
}
