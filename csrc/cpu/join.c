/* Joining and cutting of maps of either layout; rules: ops/join.c. */
#include "cpu/cpu.h"

#include <string.h>

/* Pixels of one work item. */
enum { CHUNK = 2048 };

/* How a tensor is walked: channel c of pixel p of picture n. */
typedef struct layout {
    char *data;
    int64_t picture; /* bytes of a picture */
    int64_t pixels;
    int64_t lanes; /* channels of a pixel that lie side by side: those of a block, or 1 */
    int64_t size;  /* bytes of a value */
} layout;

static layout layout_of(const ds_tensor *t)
{
    return (layout){.data = t->data,
                    .picture = (int64_t)ds_stored_bytes(t) / t->shape.n,
                    .pixels = t->shape.h * t->shape.w,
                    .lanes = ds_block_lanes(t),
                    .size = (int64_t)ds_dtype_bytes(t->dtype)};
}

static char *at(const layout *l, int64_t n, int64_t c, int64_t p)
{
    const int64_t value = (c / l->lanes * l->pixels + p) * l->lanes + c % l->lanes;
    return l->data + n * l->picture + value * l->size;
}

/* What is only moved may be of any type, but of one. */
static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    for (int i = 0; i < step->inputs; i++)
        if (step->in[i]->dtype != step->out->dtype)
            return false;
    return ds_no_epilogue(step);
}

/* `channels` channels from `begin` on of `from` go to those from `to_begin` on of `to`. */
typedef struct part {
    layout from;
    int64_t begin, to_begin, channels;
} part;

typedef struct job {
    layout to;
    part part[DS_MAX_INPUTS];
    int parts;
    int64_t stored; /* channels of `to`, empty lanes included */
    int64_t clear;  /* channels of `to` from which on it is cleared first */
    int64_t chunks; /* of a picture */
} job;

static void copy_part(const job *j, const part *p, int64_t n, int64_t pixel, int64_t pixels)
{
    for (int64_t c = 0; c < p->channels;) {
        /* Channels that lie side by side in both. */
        const int64_t from_run = p->from.lanes - (p->begin + c) % p->from.lanes;
        const int64_t to_run = j->to.lanes - (p->to_begin + c) % j->to.lanes;
        int64_t run = from_run < to_run ? from_run : to_run;
        run = run < p->channels - c ? run : p->channels - c;
        const char *from = at(&p->from, n, p->begin + c, pixel);
        char *to = at(&j->to, n, p->to_begin + c, pixel);
        const size_t bytes = (size_t)(run * j->to.size);
        if (run == p->from.lanes && run == j->to.lanes)
            memcpy(to, from, (size_t)pixels * bytes);
        else
            for (int64_t i = 0; i < pixels; i++)
                memcpy(to + i * j->to.lanes * j->to.size, from + i * p->from.lanes * j->to.size,
                       bytes);
        c += run;
    }
}

/* Item: one chunk of pixels of one picture. */
static void task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t n = item / j->chunks, pixel = item % j->chunks * CHUNK;
    const int64_t left = j->to.pixels - pixel, pixels = left < CHUNK ? left : CHUNK;
    const int64_t step = j->to.lanes;
    (void)worker;
    for (int64_t c = j->clear / step * step; c < j->stored; c += step)
        memset(at(&j->to, n, c, pixel), 0, (size_t)(pixels * step * j->to.size));
    for (int i = 0; i < j->parts; i++)
        copy_part(j, &j->part[i], n, pixel, pixels);
}

/* Empty lanes are cleared; the parts fill the rest. */
static job job_to(const ds_tensor *to)
{
    return (job){.to = layout_of(to),
                 .stored = ds_stored(to) / (to->shape.n * to->shape.h * to->shape.w),
                 .clear = to->shape.c,
                 .chunks = (to->shape.h * to->shape.w + CHUNK - 1) / CHUNK};
}

/* Where whole blocks of one picture go. The empty lanes of the last input are those of the output.
 */
static bool gathers(const ds_step *step, int input, size_t *offset)
{
    const ds_tensor *in = step->in[input], *out = step->out;
    int64_t begin = 0;
    for (int i = 0; i < input; i++)
        begin += step->in[i]->shape.c;
    const int64_t lanes = ds_block_lanes(out);
    *offset = (size_t)(begin * out->shape.h * out->shape.w) * ds_dtype_bytes(out->dtype);
    return out->shape.n == 1 && ds_is_blocked(out) && ds_is_blocked(in) && begin % lanes == 0 &&
           (in->shape.c % lanes == 0 || input == step->inputs - 1);
}

static bool is_there(const ds_step *step, int input)
{
    size_t offset = 0;
    return gathers(step, input, &offset) &&
           (char *)step->out->data + offset == (char *)step->in[input]->data;
}

static void concat_run(ds_backend *backend, const ds_step *step)
{
    job j = job_to(step->out);
    int64_t begin = 0;
    for (int i = 0; i < step->inputs; i++) {
        const int64_t channels = step->in[i]->shape.c;
        if (!is_there(step, i))
            j.part[j.parts++] = (part){layout_of(step->in[i]), 0, begin, channels};
        begin += channels;
    }
    if (is_there(step, step->inputs - 1))
        j.clear = j.stored;
    if (j.parts)
        ds_pool_run(backend->pool, step->out->shape.n * j.chunks, task, &j);
}

/* A cut along rows or columns: a run of each row of pixels, or of each plane. All in bytes. */
typedef struct cut {
    const char *from;
    char *to;
    int64_t from_pitch, to_pitch; /* between two runs */
    int64_t begin;                /* before the run: in `from`, or backward in `to` */
    int64_t run;
    bool backward;
} cut;

/* Item: one row or plane. */
static void cut_task(void *context, int64_t item, int worker)
{
    const cut *c = context;
    const char *from = c->from + item * c->from_pitch + (c->backward ? 0 : c->begin);
    char *to = c->to + item * c->to_pitch;
    (void)worker;
    if (c->backward) {
        memset(to, 0, (size_t)c->to_pitch);
        to += c->begin;
    }
    memcpy(to, from, (size_t)c->run);
}

/* Cuts along axis 2 or 3 from `begin` on. */
static void cut_planes(ds_backend *backend, const ds_step *step, int64_t axis, int64_t begin,
                       bool backward)
{
    const ds_tensor *x = step->in[0], *y = step->out;
    const int64_t pixel = ds_block_lanes(x) * (int64_t)ds_dtype_bytes(x->dtype);
    const int64_t rows = axis == 3 ? x->shape.h : 1;
    const int64_t runs = (int64_t)ds_stored_bytes(x) / (x->shape.h * x->shape.w * pixel) * rows;
    cut c = {.from = x->data,
             .to = y->data,
             .from_pitch = (int64_t)ds_stored_bytes(x) / runs,
             .to_pitch = (int64_t)ds_stored_bytes(y) / runs,
             .begin = begin * pixel * (axis == 2 ? x->shape.w : 1),
             .backward = backward};
    c.run = backward ? c.from_pitch : c.to_pitch;
    ds_pool_run(backend->pool, runs, cut_task, &c);
}

static void slice_run(ds_backend *backend, const ds_step *step)
{
    const ds_slice_attr a = DS_ATTR(slice, step->attr);
    if (a.axis != 1) {
        cut_planes(backend, step, a.axis, a.begin, false);
        return;
    }
    job j = job_to(step->out);
    j.part[j.parts++] = (part){layout_of(step->in[0]), a.begin, 0, step->out->shape.c};
    ds_pool_run(backend->pool, step->out->shape.n * j.chunks, task, &j);
}

static void slice_backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_slice_backward_attr a = DS_ATTR(slice_backward, step->attr);
    if (a.axis != 1) {
        cut_planes(backend, step, a.axis, a.begin, true);
        return;
    }
    job j = job_to(step->out);
    j.clear = 0;
    j.part[j.parts++] = (part){layout_of(step->in[0]), 0, a.begin, step->in[0]->shape.c};
    ds_pool_run(backend->pool, step->out->shape.n * j.chunks, task, &j);
}

const ds_kernel ds_cpu_concat = {
    .accepts = accepts, .run = concat_run, .gathers = gathers, .takes_half = true};
const ds_kernel ds_cpu_slice = {.accepts = accepts, .run = slice_run, .takes_half = true};
const ds_kernel ds_cpu_slice_backward = {
    .accepts = accepts, .run = slice_backward_run, .takes_half = true};
