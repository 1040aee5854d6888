/* Pooling of maps in blocks of 16 channels; rules: ops/pool2d.c. */
#include "cpu/cpu.h"
#include "cpu/slots.h"

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
    int64_t items; /* of one block of channels of one picture */
    bool max;
} job;

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_is_blocked(step->in[0]) && ds_no_epilogue(step);
}

/* The gradient may end with the derivative of the ReLU that made x. */
static bool accepts_gate(const ds_backend *backend, const ds_step *step)
{
    const ds_epilogue *e = &step->epilogue;
    (void)backend;
    return ds_is_blocked(step->in[0]) && !e->addend &&
           (!e->active || (e->gate && e->activation == DS_RELU));
}

/* Input rows [*begin, *end) under output row `row`. */
static void rows_under(const job *j, int64_t height, int64_t row, int64_t *begin, int64_t *end)
{
    const int64_t at = row * j->window.stride - j->window.pad;
    *begin = at < 0 ? 0 : at;
    *end = at + j->window.kernel < height ? at + j->window.kernel : height;
}

/* Item: one output row of one block of one picture. */
static void forward_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape x = j->x->shape, y = j->y->shape;
    const int64_t block = item / y.h, row = item % y.h;
    const float *plane = (const float *)j->x->data + block * x.h * x.w * DS_BLOCK;
    float *to = (float *)j->y->data + item * y.w * DS_BLOCK;
    int64_t begin, end;
    (void)worker;
    rows_under(j, x.h, row, &begin, &end);
    plane += begin * x.w * DS_BLOCK;
    if (j->max)
        j->slots->max_pool_row(plane, x.w, end - begin, j->window.kernel, j->window.stride,
                               j->window.pad, to, y.w);
    else
        j->slots->avg_pool_row(plane, x.w, end - begin, j->window.kernel, j->window.stride, to,
                               y.w);
}

static void backward_row(const job *j, int64_t block, int64_t row)
{
    const ds_shape g = j->g->shape, y = j->y->shape;
    const int64_t plane = block * g.h * g.w * DS_BLOCK;
    const float *dy = (const float *)j->y->data + (block * y.h + row) * y.w * DS_BLOCK;
    int64_t begin, end;
    rows_under(j, g.h, row, &begin, &end);
    const int64_t at = plane + begin * g.w * DS_BLOCK;
    if (j->max)
        j->slots->max_pool_row_backward(dy, (const float *)j->x->data + at, g.w, end - begin,
                                        j->window.kernel, j->window.stride, j->window.pad,
                                        (float *)j->g->data + at, y.w);
    else
        j->slots->avg_pool_row_backward(dy, g.w, end - begin, j->window.kernel, j->window.stride,
                                        (float *)j->g->data + at, y.w);
}

/* Item: the input rows of one output row where windows do not overlap, else a whole plane. */
static void backward_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape g = j->g->shape, y = j->y->shape;
    const int64_t block = item / j->items, part = item % j->items;
    const bool whole = j->items == 1, last = part == j->items - 1;
    const int64_t begin = whole ? 0 : part * j->window.stride;
    const int64_t end = last ? g.h : begin + j->window.stride;
    const int64_t at = (block * g.h + begin) * g.w * DS_BLOCK;
    const int64_t count = (end - begin) * g.w * DS_BLOCK;
    float *to = (float *)j->g->data + at;
    (void)worker;
    memset(to, 0, (size_t)count * sizeof *to);
    for (int64_t row = whole ? 0 : part; row < (whole ? y.h : part + 1); row++)
        backward_row(j, block, row);
    if (j->gate) {
        const ds_finish finish = {
            .gate = (const float *)j->gate->data + at, .active = true, .high = __builtin_inff()};
        j->slots->finish_pixels(to, &finish, to, count);
    }
}

static void run_forward(ds_backend *backend, const ds_step *step, window w, bool max)
{
    job j = {.slots = ds_cpu_slots(backend->level),
             .window = w,
             .x = step->in[0],
             .y = step->out,
             .max = max};
    const ds_shape y = step->out->shape;
    ds_pool_run(backend->pool, y.n * ds_blocks(y.c) * y.h, forward_task, &j);
}

static void run_backward(ds_backend *backend, const ds_step *step, window w, bool max)
{
    job j = {.slots = ds_cpu_slots(backend->level),
             .window = w,
             .x = max ? step->in[1] : NULL,
             .y = step->in[0],
             .g = step->out,
             .gate = step->epilogue.gate,
             .max = max};
    const ds_shape g = step->out->shape;
    const bool apart = w.kernel <= w.stride && w.pad == 0;
    j.items = apart ? step->in[0]->shape.h : 1;
    ds_pool_run(backend->pool, g.n * ds_blocks(g.c) * j.items, backward_task, &j);
}

static void max_run(ds_backend *backend, const ds_step *step)
{
    const ds_max_pool_attr a = DS_ATTR(max_pool, step->attr);
    run_forward(backend, step, (window){a.kernel, a.stride, a.pad}, true);
}

static void max_backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_max_pool_backward_attr a = DS_ATTR(max_pool_backward, step->attr);
    run_backward(backend, step, (window){a.kernel, a.stride, a.pad}, true);
}

static void avg_run(ds_backend *backend, const ds_step *step)
{
    const ds_avg_pool_attr a = DS_ATTR(avg_pool, step->attr);
    run_forward(backend, step, (window){a.kernel, a.stride, 0}, false);
}

static void avg_backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_avg_pool_backward_attr a = DS_ATTR(avg_pool_backward, step->attr);
    run_backward(backend, step, (window){a.kernel, a.stride, 0}, false);
}

const ds_kernel ds_cpu_max_pool = {.accepts = accepts, .run = max_run};
const ds_kernel ds_cpu_max_pool_backward = {.accepts = accepts_gate, .run = max_backward_run};
const ds_kernel ds_cpu_avg_pool = {.accepts = accepts, .run = avg_run};
const ds_kernel ds_cpu_avg_pool_backward = {.accepts = accepts_gate, .run = avg_backward_run};
