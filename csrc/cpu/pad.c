/* Borders around maps of either layout; rules: ops/pad.c. */
#include "cpu/conv.h"

#include <string.h>

/* Both directions: x without and y with the border. */
typedef struct job {
    const ds_tensor *x, *y;
    ds_pad_attr border;
    int64_t lanes; /* floats of a pixel */
    const ds_slots *slots;
    ds_finish finish; /* of dx */
} job;

static job job_of(const ds_tensor *x, const ds_tensor *y, ds_pad_attr border)
{
    return (job){.x = x, .y = y, .border = border, .lanes = ds_is_blocked(x) ? DS_BLOCK : 1};
}

static int64_t planes_of(const ds_tensor *x)
{
    return x->shape.n * (ds_is_blocked(x) ? ds_blocks(x->shape.c) : x->shape.c);
}

/* The pixel of a side of `size` that index i, counted from the inner map's edge, shows; -1 for a
   zero. */
static int64_t source(int64_t i, int64_t size, int64_t mode)
{
    if (i >= 0 && i < size)
        return i;
    if (mode == DS_PAD_ZERO)
        return -1;
    if (mode == DS_PAD_REPLICATE)
        return i < 0 ? 0 : size - 1;
    return i < 0 ? -i : 2 * (size - 1) - i;
}

/* Fills pixels [begin, end) of a row of y. */
static void copy_edge(const job *j, const float *from, float *to, int64_t begin, int64_t end)
{
    const size_t bytes = (size_t)j->lanes * sizeof *to;
    for (int64_t i = begin; i < end; i++) {
        const int64_t column = source(i - j->border.left, j->x->shape.w, j->border.mode);
        if (column < 0)
            memset(to + i * j->lanes, 0, bytes);
        else
            memcpy(to + i * j->lanes, from + column * j->lanes, bytes);
    }
}

/* Item: one row of one plane of y. */
static void row_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape x = j->x->shape, y = j->y->shape;
    const int64_t plane = item / y.h;
    const int64_t row = source(item % y.h - j->border.top, x.h, j->border.mode);
    const float *from = (const float *)j->x->data + (plane * x.h + row) * x.w * j->lanes;
    float *to = (float *)j->y->data + item * y.w * j->lanes;
    (void)worker;
    if (row < 0) {
        memset(to, 0, (size_t)(y.w * j->lanes) * sizeof *to);
        return;
    }
    copy_edge(j, from, to, 0, j->border.left);
    memcpy(to + j->border.left * j->lanes, from, (size_t)(x.w * j->lanes) * sizeof *to);
    copy_edge(j, from, to, j->border.left + x.w, y.w);
}

static void run(ds_backend *backend, const ds_step *step)
{
    job j = job_of(step->in[0], step->out, DS_ATTR(pad, step->attr));
    ds_pool_run(backend->pool, planes_of(j.y) * j.y->shape.h, row_task, &j);
}

static void add_pixels(float *to, const float *from, int64_t floats)
{
    for (int64_t i = 0; i < floats; i++)
        to[i] += from[i];
}

/* Adds pixels [begin, end) of a row of dy to the pixels that they show. */
static void add_edge(const job *j, const float *from, float *to, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++) {
        const int64_t column = source(i - j->border.left, j->x->shape.w, j->border.mode);
        if (column >= 0)
            add_pixels(to + column * j->lanes, from + i * j->lanes, j->lanes);
    }
}

/* Adds row i of dy to the row of dx that it shows. */
static void add_row(const job *j, int64_t plane, int64_t i, float *to)
{
    const ds_shape x = j->x->shape, y = j->y->shape;
    const float *from = (const float *)j->y->data + (plane * y.h + i) * y.w * j->lanes;
    add_edge(j, from, to, 0, j->border.left);
    add_pixels(to, from + j->border.left * j->lanes, x.w * j->lanes);
    add_edge(j, from, to, j->border.left + x.w, y.w);
}

/* Item: one row of one plane of dx: the sum of the row of dy that lies over it and of those in the
   borders that show it. */
static void backward_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape x = j->x->shape, y = j->y->shape;
    const int64_t plane = item / x.h, row = item % x.h, top = j->border.top;
    const int64_t width = x.w * j->lanes;
    float *to = (float *)j->x->data + item * width;
    (void)worker;
    memset(to, 0, (size_t)width * sizeof *to);
    for (int64_t i = 0; i < top; i++)
        if (source(i - top, x.h, j->border.mode) == row)
            add_row(j, plane, i, to);
    add_row(j, plane, top + row, to);
    for (int64_t i = top + x.h; i < y.h; i++)
        if (source(i - top, x.h, j->border.mode) == row)
            add_row(j, plane, i, to);
    if (j->finish.active || j->finish.addend) {
        const ds_finish finish = ds_finish_at(&j->finish, item * width, 0);
        j->slots->finish_pixels(to, &finish, to, width);
    }
}

/* A gradient's end is taken in where its rows have no tail. */
static bool accepts_backward(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) || (ds_is_blocked(step->out) && ds_finish_accepts(step));
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_pad_backward_attr a = DS_ATTR(pad_backward, step->attr);
    job j = job_of(
        step->out, step->in[0],
        (ds_pad_attr){
            .top = a.top, .bottom = a.bottom, .left = a.left, .right = a.right, .mode = a.mode});
    j.slots = ds_cpu_slots(backend->level);
    j.finish = ds_finish_of(step, NULL);
    ds_pool_run(backend->pool, planes_of(j.x) * j.x->shape.h, backward_task, &j);
}

const ds_kernel ds_cpu_pad = {.run = run};
/* Apart from the addend, because rows are cleared before they are summed. */
const ds_kernel ds_cpu_pad_backward = {
    .accepts = accepts_backward, .run = backward_run, .apart = true};
