/* Element-wise ops on tensors of one layout, whatever the layout is: empty lanes are zero and stay
   zero under everything that is taken here. */
#include "cpu/cpu.h"
#include "cpu/slots.h"

/* Floats of one work item: its operands fill a part of the second-level cache. */
enum { PIECE = 1 << 14 };

typedef struct job {
    const ds_slots *slots;
    void (*apply)(const struct job *, int64_t at, int64_t count);
    const float *a, *b;
    ds_finish finish;
    float *y;
    int64_t count;
} job;

/* Both operands in blocks: a multiple of 16 floats, no tail. */
static bool accepts_pair(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) && ds_is_blocked(step->in[0]) && ds_is_blocked(step->in[1]) &&
           ds_same_shape(step->in[0]->shape, step->in[1]->shape);
}

/* A clamp between two lines through zero: relu, relu6, leaky_relu. */
static bool is_linear_piecewise(int64_t kind)
{
    return kind == DS_RELU || kind == DS_RELU6 || kind == DS_LEAKY_RELU;
}

static bool accepts_activation(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) && ds_is_blocked(step->out) &&
           is_linear_piecewise(DS_ATTR(activation, step->attr).kind);
}

static ds_finish finish_of(int64_t kind, double alpha)
{
    return (ds_finish){.active = true,
                       .slope = kind == DS_LEAKY_RELU ? (float)alpha : 0,
                       .high = kind == DS_RELU6 ? 6 : __builtin_inff()};
}

static void apply_add(const job *j, int64_t at, int64_t count)
{
    j->slots->add(j->a + at, j->b + at, j->y + at, count);
}

static void apply_multiply(const job *j, int64_t at, int64_t count)
{
    j->slots->multiply(j->a + at, j->b + at, j->y + at, count);
}

static void apply_finish(const job *j, int64_t at, int64_t count)
{
    ds_finish finish = j->finish;
    finish.gate = finish.gate ? finish.gate + at : NULL;
    j->slots->finish_pixels(j->a + at, &finish, j->y + at, count);
}

static void task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t at = item * PIECE;
    (void)worker;
    j->apply(j, at, j->count - at < PIECE ? j->count - at : PIECE);
}

static void run(ds_backend *backend, const ds_step *step, job j)
{
    j.slots = ds_cpu_slots(backend->level);
    j.a = step->in[0]->data;
    j.y = step->out->data;
    j.count = ds_stored(step->out);
    ds_pool_run(backend->pool, (j.count + PIECE - 1) / PIECE, task, &j);
}

static void add_run(ds_backend *backend, const ds_step *step)
{
    run(backend, step, (job){.apply = apply_add, .b = step->in[1]->data});
}

static void multiply_run(ds_backend *backend, const ds_step *step)
{
    run(backend, step, (job){.apply = apply_multiply, .b = step->in[1]->data});
}

static void activation_run(ds_backend *backend, const ds_step *step)
{
    const ds_activation_attr a = DS_ATTR(activation, step->attr);
    run(backend, step, (job){.apply = apply_finish, .finish = finish_of(a.kind, a.alpha)});
}

static void activation_backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_activation_backward_attr a = DS_ATTR(activation_backward, step->attr);
    job j = {.apply = apply_finish, .finish = finish_of(a.kind, a.alpha)};
    j.finish.gate = step->in[1]->data;
    run(backend, step, j);
}

const ds_kernel ds_cpu_add = {.accepts = accepts_pair, .run = add_run, .in_place = 3};
const ds_kernel ds_cpu_multiply = {.accepts = accepts_pair, .run = multiply_run, .in_place = 3};
const ds_kernel ds_cpu_activation = {
    .accepts = accepts_activation, .run = activation_run, .in_place = 1};
const ds_kernel ds_cpu_activation_backward = {
    .accepts = accepts_activation, .run = activation_backward_run, .in_place = 3};
