/* Borders around maps of either layout; rules: ops/pad.c. */
#include "cpu/conv.h"
#include "cpu/half.h"

#include <string.h>

/* Both directions: x without and y with the border. */
typedef struct job {
    const ds_tensor *x, *y;
    ds_pad_attr border;
    int64_t lanes; /* floats of a pixel; a pixel of bf16 is moved as one of floats */
    ds_pairs pairs;
    const ds_slots *slots;
    const ds_epilogue *end; /* of dx, and what it is in floats */
    ds_finish finish;
    float *rows; /* of each worker ROWS rows of y */
} job;

static job job_of(const ds_tensor *x, const ds_tensor *y, ds_pad_attr border)
{
    return (job){.x = x, .y = y, .border = border, .lanes = ds_is_blocked(x) ? DS_BLOCK : 1};
}

/* Maps, or blocks of them, in all pictures. */
static int64_t planes_of(const ds_tensor *x)
{
    return ds_stored(x) / (ds_block_lanes(x) * x->shape.h * x->shape.w);
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

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) && step->in[0]->dtype == step->out->dtype;
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

/* A row in floats; bf16 goes through a worker's own row `index`. */
enum { TO, FROM, ADDEND, GATE, ROWS };

static float *own_row(const job *j, int worker, int index)
{
    return j->rows + (worker * ROWS + index) * j->y->shape.w * DS_BLOCK;
}

static const float *read_row(const job *j, const ds_tensor *t, int64_t plane, int64_t row,
                             int worker, int index)
{
    const int64_t first = row * t->shape.w;
    if (ds_is_half(t))
        return ds_read_pixels(j->slots, t, plane, first, t->shape.w, own_row(j, worker, index));
    return (const float *)t->data + (plane * t->shape.h * t->shape.w + first) * j->lanes;
}

/* Adds row i of dy to the row of dx that it shows. */
static void add_row(const job *j, int64_t plane, int64_t i, int worker, float *to)
{
    const ds_shape x = j->x->shape, y = j->y->shape;
    const float *from = read_row(j, j->y, plane, i, worker, FROM);
    add_edge(j, from, to, 0, j->border.left);
    add_pixels(to, from + j->border.left * j->lanes, x.w * j->lanes);
    add_edge(j, from, to, j->border.left + x.w, y.w);
}

/* One row of one plane of dx: the sum of the row of dy that lies over it and of those in the
   borders that show it. */
static void gather_row(const job *j, int64_t plane, int64_t row, int worker)
{
    const ds_shape x = j->x->shape, y = j->y->shape;
    const int64_t top = j->border.top, width = x.w * j->lanes, at = plane * x.h + row;
    float *to = ds_is_half(j->x) ? own_row(j, worker, TO) : (float *)j->x->data + at * width;
    memset(to, 0, (size_t)width * sizeof *to);
    for (int64_t i = 0; i < top; i++)
        if (source(i - top, x.h, j->border.mode) == row)
            add_row(j, plane, i, worker, to);
    add_row(j, plane, top + row, worker, to);
    for (int64_t i = top + x.h; i < y.h; i++)
        if (source(i - top, x.h, j->border.mode) == row)
            add_row(j, plane, i, worker, to);
    if (j->finish.active || j->end->addend) {
        ds_finish finish = j->finish;
        if (j->end->addend)
            finish.addend = read_row(j, j->end->addend, plane, row, worker, ADDEND);
        if (j->end->gate)
            finish.gate = read_row(j, j->end->gate, plane, row, worker, GATE);
        j->slots->finish_pixels(to, &finish, to, width);
    }
    if (ds_is_half(j->x))
        ds_write_pixels(j->slots, j->x, plane, row * x.w, x.w, to);
}

/* Item: one row of a pair of planes of dx. */
static void backward_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t height = j->x->shape.h;
    int64_t end, plane = ds_pair_blocks(&j->pairs, item / height, &end);
    for (; plane < end; plane++)
        gather_row(j, plane, item % height, worker);
}

/* A gradient's end is taken in where its rows have no tail. */
static bool accepts_backward(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) || (ds_is_blocked(step->out) && ds_finish_accepts(step));
}

static ds_code backward_prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const int64_t rows = ds_pool_threads(backend->pool) * ROWS;
    if (ds_step_has_half(step))
        step->workspace_bytes = (size_t)(rows * step->in[0]->shape.w * DS_BLOCK) * sizeof(float);
    return status->code;
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_pad_backward_attr a = DS_ATTR(pad_backward, step->attr);
    job j = job_of(
        step->out, step->in[0],
        (ds_pad_attr){
            .top = a.top, .bottom = a.bottom, .left = a.left, .right = a.right, .mode = a.mode});
    j.pairs = ds_pairs_of(j.x, ds_step_has_half(step));
    j.slots = ds_cpu_slots(backend->level);
    j.end = &step->epilogue;
    j.finish = ds_finish_of(step, NULL);
    j.rows = step->workspace;
    ds_pool_run(backend->pool, j.pairs.count * j.x->shape.h, backward_task, &j);
}

const ds_kernel ds_cpu_pad = {.accepts = accepts, .run = run, .takes_half = true};
/* Apart from the addend, because rows are cleared before they are summed. */
const ds_kernel ds_cpu_pad_backward = {.accepts = accepts_backward,
                                       .prepare = backward_prepare,
                                       .run = backward_run,
                                       .apart = true,
                                       .takes_half = true};
