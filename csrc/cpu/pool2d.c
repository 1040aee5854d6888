/* Pooling of maps in blocks of 16 channels; rules: ops/pool2d.c. */
#include "cpu/half.h"

#include <string.h>

typedef struct window {
    int64_t kernel, stride, pad;
} window;

/* Both directions: x and y as in the forward pass, g the gradient to x. */
typedef struct job {
    const ds_slots *slots;
    window window;
    const ds_tensor *x; /* NULL in the backward pass of the average */
    const ds_tensor *y; /* or its gradient */
    const ds_tensor *g;
    const ds_tensor *gate;
    ds_pairs pairs;
    int64_t items; /* of a pair of blocks */
    int64_t most;  /* input rows of an item */
    float *rows;   /* of each worker: three times `most` rows of x and one of y, for bf16 */
    bool max;
} job;

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_is_blocked(step->in[0]) && ds_no_epilogue(step);
}

/* Whether windows share no pixel, so that a row of them has input rows of its own. */
static bool is_apart(window w)
{
    return w.kernel <= w.stride && w.pad == 0;
}

/* The attributes of the backward ops begin as those of the forward ones. */
static window window_of(const ds_step *step)
{
    if (step->op == DS_OP_max_pool || step->op == DS_OP_max_pool_backward) {
        const ds_max_pool_attr a = DS_ATTR(max_pool, step->attr);
        return (window){a.kernel, a.stride, a.pad};
    }
    const ds_avg_pool_attr a = DS_ATTR(avg_pool, step->attr);
    return (window){a.kernel, a.stride, 0};
}

/* The gradient may end with the derivative of the ReLU that made x. Where windows overlap it grows
   in place, in float. */
static bool accepts_gate(const ds_backend *backend, const ds_step *step)
{
    const ds_epilogue *e = &step->epilogue;
    (void)backend;
    return ds_is_blocked(step->in[0]) && !e->addend &&
           (!e->active || (e->gate && e->activation == DS_RELU)) &&
           (!ds_step_has_half(step) || is_apart(window_of(step)));
}

/* Input rows [*begin, *end) under output row `row`. */
static void rows_under(const job *j, int64_t height, int64_t row, int64_t *begin, int64_t *end)
{
    const int64_t at = row * j->window.stride - j->window.pad;
    *begin = at < 0 ? 0 : at;
    *end = at + j->window.kernel < height ? at + j->window.kernel : height;
}

/* The floats of a worker: rows of x, then of its gradient, of the gate, and one of y. */
static int64_t own_floats(const job *j)
{
    const ds_tensor *x = j->x ? j->x : j->g;
    return (3 * j->most * x->shape.w + j->y->shape.w) * DS_BLOCK;
}

static void forward_row(const job *j, int64_t block, int64_t row, int worker)
{
    const ds_shape x = j->x->shape, y = j->y->shape;
    float *own = j->rows + worker * own_floats(j);
    float *to = ds_pixels_to_write(j->y, block, row * y.w, own + j->most * x.w * DS_BLOCK);
    int64_t begin, end;
    rows_under(j, x.h, row, &begin, &end);
    const float *from =
        ds_read_pixels(j->slots, j->x, block, begin * x.w, (end - begin) * x.w, own);
    if (j->max)
        j->slots->max_pool_row(from, x.w, end - begin, j->window.kernel, j->window.stride,
                               j->window.pad, to, y.w);
    else
        j->slots->avg_pool_row(from, x.w, end - begin, j->window.kernel, j->window.stride, to, y.w);
    ds_write_pixels(j->slots, j->y, block, row * y.w, y.w, to);
}

/* Item: one output row of a pair of blocks. */
static void forward_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    int64_t end, block = ds_pair_blocks(&j->pairs, item / j->items, &end);
    for (; block < end; block++)
        forward_row(j, block, item % j->items, worker);
}

/* What output row `row` sends to the rows from `first` on of x's gradient g. */
static void backward_row(const job *j, int64_t row, int64_t first, const float *dy, const float *x,
                         float *g)
{
    const ds_shape s = j->g->shape, y = j->y->shape;
    int64_t begin, end;
    rows_under(j, s.h, row, &begin, &end);
    const int64_t at = (begin - first) * s.w * DS_BLOCK;
    if (j->max)
        j->slots->max_pool_row_backward(dy, x + at, s.w, end - begin, j->window.kernel,
                                        j->window.stride, j->window.pad, g + at, y.w);
    else
        j->slots->avg_pool_row_backward(dy, s.w, end - begin, j->window.kernel, j->window.stride,
                                        g + at, y.w);
}

/* The input rows of one output row where windows do not overlap, else a whole plane. */
static void backward_part(const job *j, int64_t block, int64_t part, int worker)
{
    const ds_shape s = j->g->shape, y = j->y->shape;
    const bool whole = j->items == 1;
    const int64_t begin = part * j->window.stride;
    const int64_t end = part == j->items - 1 ? s.h : begin + j->window.stride;
    const int64_t pixel = begin * s.w, count = (end - begin) * s.w, wide = j->most * s.w * DS_BLOCK;
    float *own = j->rows + worker * own_floats(j);
    const float *x = ds_read_pixels(j->slots, j->x, block, pixel, count, own);
    float *to = ds_pixels_to_write(j->g, block, pixel, own + wide);
    memset(to, 0, (size_t)(count * DS_BLOCK) * sizeof *to);
    for (int64_t row = part; row < (whole ? y.h : part + 1); row++)
        backward_row(j, row, begin,
                     ds_read_pixels(j->slots, j->y, block, row * y.w, y.w, own + 3 * wide), x, to);
    if (j->gate) {
        const ds_finish finish = {
            .gate = ds_read_pixels(j->slots, j->gate, block, pixel, count, own + 2 * wide),
            .active = true,
            .high = __builtin_inff()};
        j->slots->finish_pixels(to, &finish, to, count * DS_BLOCK);
    }
    ds_write_pixels(j->slots, j->g, block, pixel, count, to);
}

/* Item: one part of a pair of blocks. */
static void backward_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    int64_t end, block = ds_pair_blocks(&j->pairs, item / j->items, &end);
    for (; block < end; block++)
        backward_part(j, block, item % j->items, worker);
}

static job job_of(const ds_backend *backend, const ds_step *step)
{
    const bool max = step->op == DS_OP_max_pool || step->op == DS_OP_max_pool_backward;
    const bool forward = step->op == DS_OP_max_pool || step->op == DS_OP_avg_pool;
    const ds_tensor *x = forward ? step->in[0] : step->out;
    job j = {.slots = ds_cpu_slots(backend->level),
             .window = window_of(step),
             .x = forward ? x
                  : max   ? step->in[1]
                          : NULL,
             .y = forward ? step->out : step->in[0],
             .g = forward ? NULL : x,
             .gate = step->epilogue.gate,
             .pairs = ds_pairs_of(x, ds_step_has_half(step)),
             .rows = step->workspace,
             .max = max};
    /* Behind the last row of windows there may be rows that none covers. */
    const int64_t last = x->shape.h - (j.y->shape.h - 1) * j.window.stride;
    j.most = forward ? j.window.kernel : last > j.window.stride ? last : j.window.stride;
    j.items = forward || is_apart(j.window) ? j.y->shape.h : 1;
    return j;
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const job j = job_of(backend, step);
    if (ds_step_has_half(step))
        step->workspace_bytes =
            (size_t)(ds_pool_threads(backend->pool) * own_floats(&j)) * sizeof(float);
    return status->code;
}

static void run(ds_backend *backend, const ds_step *step)
{
    job j = job_of(backend, step);
    ds_pool_run(backend->pool, j.pairs.count * j.items, j.g ? backward_task : forward_task, &j);
}

const ds_kernel ds_cpu_max_pool = {
    .accepts = accepts, .prepare = prepare, .run = run, .takes_half = true};
const ds_kernel ds_cpu_max_pool_backward = {
    .accepts = accepts_gate, .prepare = prepare, .run = run, .takes_half = true};
const ds_kernel ds_cpu_avg_pool = {
    .accepts = accepts, .prepare = prepare, .run = run, .takes_half = true};
const ds_kernel ds_cpu_avg_pool_backward = {
    .accepts = accepts_gate, .prepare = prepare, .run = run, .takes_half = true};
