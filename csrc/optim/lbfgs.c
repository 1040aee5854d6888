#include "optim/lbfgs.h"

#include <math.h>
#include <string.h>

static const double LEAST_CURVATURE = 1e-10;

struct ds_lbfgs {
    ds_alloc *alloc;
    ds_vectors v;
    int64_t length, history;
    double rate;
    float *memory;          /* (2 history + 2, length): the four below lie in it */
    float *direction;       /* (length) d */
    float *previous;        /* (length) gradient of the step before */
    float *steps, *changes; /* (history, length) s and y, a ring */
    double *alphas;         /* (history) the first loop's coefficients */
    ds_lbfgs_state state;   /* weights: (history) */
    double slope;
};

ds_code ds_lbfgs_create(ds_alloc *alloc, ds_vectors vectors, int64_t length, int64_t history,
                        double rate, ds_lbfgs **out, ds_status *status)
{
    ds_lbfgs *self = NULL;
    size_t floats = 0, bytes = 0;
    const size_t coefficients = (size_t)history * sizeof(double);
    *out = NULL;
    if (!ds_multiply((size_t)length, 2 * (size_t)history + 2, &floats) ||
        !ds_multiply(floats, sizeof(float), &bytes))
        return ds_fail(status, DS_NO_MEMORY, "lbfgs: history=%lld of %lld values is too large",
                       (long long)history, (long long)length);
    DS_TRY(ds_alloc_zeroed(alloc, sizeof *self, &self, status));
    *self = (ds_lbfgs){.alloc = alloc,
                       .v = vectors,
                       .length = length,
                       .history = history,
                       .rate = rate,
                       .state = {.newest = -1, .diagonal = 1}};
    DS_TRY(vectors.allocate(vectors.context, bytes, &self->memory, status));
    DS_TRY(ds_alloc_raw(alloc, coefficients, &self->state.weights, status));
    DS_TRY(ds_alloc_raw(alloc, coefficients, &self->alphas, status));
    self->direction = self->memory;
    self->previous = self->direction + length;
    self->steps = self->previous + length;
    self->changes = self->steps + history * length;
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
    ds_release(alloc, &self->state.weights);
    ds_release(alloc, &self->alphas);
    ds_release(alloc, address);
}

/* Turns the direction into the step s and the previous gradient into the change y, where they
   stand, and keeps the pair if its curvature allows. */
static void remember(ds_lbfgs *self, const float *gradient)
{
    const ds_vectors *v = &self->v;
    v->scale(v->context, (float)self->state.step_length, self->direction);
    v->scale(v->context, -1, self->previous);
    v->axpy(v->context, 1, gradient, self->previous);
    const double curvature = v->dot(v->context, self->direction, self->previous);
    if (curvature <= LEAST_CURVATURE)
        return;
    self->state.newest = (self->state.newest + 1) % self->history;
    self->state.kept += self->state.kept < self->history;
    v->copy(v->context, self->direction, self->steps + self->state.newest * self->length);
    v->copy(v->context, self->previous, self->changes + self->state.newest * self->length);
    self->state.weights[self->state.newest] = 1 / curvature;
    self->state.diagonal = curvature / v->dot(v->context, self->previous, self->previous);
}

/* direction = H direction. */
static void apply_inverse_hessian(ds_lbfgs *self)
{
    const ds_vectors *v = &self->v;
    for (int64_t age = 0; age < self->state.kept; age++) {
        const int64_t slot = (self->state.newest - age + self->history) % self->history;
        const float *s = self->steps + slot * self->length;
        const float *y = self->changes + slot * self->length;
        self->alphas[slot] = self->state.weights[slot] * v->dot(v->context, s, self->direction);
        v->axpy(v->context, (float)-self->alphas[slot], y, self->direction);
    }
    v->scale(v->context, (float)self->state.diagonal, self->direction);
    for (int64_t age = self->state.kept - 1; age >= 0; age--) {
        const int64_t slot = (self->state.newest - age + self->history) % self->history;
        const float *s = self->steps + slot * self->length;
        const float *y = self->changes + slot * self->length;
        const double beta = self->state.weights[slot] * v->dot(v->context, y, self->direction);
        v->axpy(v->context, (float)(self->alphas[slot] - beta), s, self->direction);
    }
}

ds_code ds_lbfgs_step(ds_lbfgs *self, double loss, const float *gradient, float *x,
                      ds_status *status)
{
    const ds_vectors *v = &self->v;
    const double norm = v->sum_abs(v->context, gradient);
    if (!isfinite(loss) || !isfinite(norm))
        return ds_fail(status, DS_NUMERICAL, "lbfgs: the %s is not finite",
                       isfinite(loss) ? "gradient" : "loss");
    if (self->state.started)
        remember(self, gradient);
    v->copy(v->context, gradient, self->previous);
    v->copy(v->context, gradient, self->direction);
    v->scale(v->context, -1, self->direction);
    apply_inverse_hessian(self);
    self->state.step_length = self->state.started ? self->rate : fmin(1, 1 / norm) * self->rate;
    self->state.started = true;
    self->slope = v->dot(v->context, gradient, self->direction);
    if (self->slope <= 0)
        v->axpy(v->context, (float)self->state.step_length, self->direction, x);
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

void ds_lbfgs_set(ds_lbfgs *self, const ds_lbfgs_state *state)
{
    double *weights = self->state.weights;
    memmove(weights, state->weights, (size_t)state->kept * sizeof *weights);
    self->state = *state;
    self->state.weights = weights;
}

float *ds_lbfgs_memory(ds_lbfgs *self)
{
    return self->memory;
}
