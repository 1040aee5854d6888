/* Adam, SGD and clamp in pieces, of any layout: empty lanes stay zero under the first two.
   Formulas: ops/update.c. */
#include "cpu/cpu.h"

#include <math.h>

/* Floats of one work item. */
enum { PIECE = 1 << 13 };

typedef struct job {
    const ds_slots *slots;
    float *x, *state, *second;
    const float *gradient;
    ds_adam adam;
    ds_sgd sgd;
    int64_t count;
} job;

static int64_t piece_at(const job *j, int64_t at)
{
    return j->count - at < PIECE ? j->count - at : PIECE;
}

static int64_t pieces(int64_t count)
{
    return (count + PIECE - 1) / PIECE;
}

static void adam_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t at = item * PIECE;
    (void)worker;
    j->slots->adam(j->x + at, j->state + at, j->second + at, j->gradient + at, &j->adam,
                   piece_at(j, at));
}

static void adam_run(ds_backend *backend, const ds_step *step)
{
    const ds_adam_update_attr a = DS_ATTR(adam_update, step->attr);
    float *steps = step->in[3]->data;
    const double t = (double)(*steps += 1);
    job j = {.slots = ds_cpu_slots(backend->level),
             .x = step->in[0]->data,
             .state = step->in[1]->data,
             .second = step->in[2]->data,
             .gradient = step->in[4]->data,
             .adam = {.beta1 = a.beta1,
                      .beta2 = a.beta2,
                      .epsilon = a.epsilon,
                      .weight_decay = a.weight_decay,
                      .rate = (double)*(const float *)step->in[5]->data / (1 - pow(a.beta1, t)),
                      .root = sqrt(1 - pow(a.beta2, t))},
             .count = ds_stored(step->in[0])};
    ds_pool_run(backend->pool, pieces(j.count), adam_task, &j);
}

static void sgd_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t at = item * PIECE;
    (void)worker;
    j->slots->sgd(j->x + at, j->state + at, j->gradient + at, &j->sgd, piece_at(j, at));
}

static void sgd_run(ds_backend *backend, const ds_step *step)
{
    const ds_sgd_update_attr a = DS_ATTR(sgd_update, step->attr);
    job j = {.slots = ds_cpu_slots(backend->level),
             .x = step->in[0]->data,
             .state = step->in[1]->data,
             .gradient = step->in[2]->data,
             .sgd = {.momentum = a.momentum,
                     .weight_decay = a.weight_decay,
                     .rate = (double)*(const float *)step->in[3]->data},
             .count = ds_stored(step->in[0])};
    ds_pool_run(backend->pool, pieces(j.count), sgd_task, &j);
}

static bool accepts_clamp(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) && !ds_is_blocked(step->in[0]);
}

typedef struct clamping {
    const ds_slots *slots;
    const ds_step *step;
} clamping;

/* Item: one piece of one plane. */
static void clamp_task(void *context, int64_t item, int worker)
{
    const clamping *clamp = context;
    const ds_step *step = clamp->step;
    const ds_shape s = step->in[0]->shape;
    const int64_t pixels = s.h * s.w, plane = item / pieces(pixels);
    const int64_t at = item % pieces(pixels) * PIECE, c = plane % s.c;
    (void)worker;
    clamp->slots->clamp_plane(
        (float *)step->in[0]->data + plane * pixels + at, ((const float *)step->in[1]->data)[c],
        ((const float *)step->in[2]->data)[c], pixels - at < PIECE ? pixels - at : PIECE);
}

static void clamp_run(ds_backend *backend, const ds_step *step)
{
    const ds_shape s = step->in[0]->shape;
    clamping clamp = {ds_cpu_slots(backend->level), step};
    ds_pool_run(backend->pool, s.n * s.c * pieces(s.h * s.w), clamp_task, &clamp);
}

const ds_kernel ds_cpu_adam_update = {.run = adam_run};
const ds_kernel ds_cpu_sgd_update = {.run = sgd_run};
const ds_kernel ds_cpu_clamp_update = {.accepts = accepts_clamp, .run = clamp_run};
