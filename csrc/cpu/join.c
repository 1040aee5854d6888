/* Joining and cutting of maps of either layout; rules: ops/join.c. */
#include "cpu/cpu.h"

#include <string.h>

/* Pixels of one work item. */
enum { CHUNK = 2048 };

/* How a tensor is walked: channel c of pixel p of picture n. */
typedef struct layout {
    float *data;
    int64_t picture; /* floats of a picture */
    int64_t pixels;
    bool blocked;
} layout;

static layout layout_of(const ds_tensor *t)
{
    return (layout){.data = t->data,
                    .picture = ds_stored(t) / t->shape.n,
                    .pixels = t->shape.h * t->shape.w,
                    .blocked = ds_is_blocked(t)};
}

static float *at(const layout *l, int64_t n, int64_t c, int64_t p)
{
    float *picture = l->data + n * l->picture;
    if (!l->blocked)
        return picture + c * l->pixels + p;
    return picture + (c / DS_BLOCK * l->pixels + p) * DS_BLOCK + c % DS_BLOCK;
}

/* Channels from c on that lie side by side, or one plane. */
static int64_t run_from(const layout *l, int64_t c)
{
    return l->blocked ? DS_BLOCK - c % DS_BLOCK : 1;
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
        const int64_t from_run = run_from(&p->from, p->begin + c);
        const int64_t to_run = run_from(&j->to, p->to_begin + c);
        int64_t run = from_run < to_run ? from_run : to_run;
        run = run < p->channels - c ? run : p->channels - c;
        const float *from = at(&p->from, n, p->begin + c, pixel);
        float *to = at(&j->to, n, p->to_begin + c, pixel);
        const int64_t from_step = p->from.blocked ? DS_BLOCK : 1;
        const int64_t to_step = j->to.blocked ? DS_BLOCK : 1;
        if (run == from_step && run == to_step)
            memcpy(to, from, (size_t)(pixels * run) * sizeof *to);
        else
            for (int64_t i = 0; i < pixels; i++)
                for (int64_t lane = 0; lane < run; lane++)
                    to[i * to_step + lane] = from[i * from_step + lane];
        c += run;
    }
}

/* Item: one chunk of pixels of one picture. */
static void task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t n = item / j->chunks, pixel = item % j->chunks * CHUNK;
    const int64_t left = j->to.pixels - pixel, pixels = left < CHUNK ? left : CHUNK;
    const int64_t step = j->to.blocked ? DS_BLOCK : 1;
    (void)worker;
    for (int64_t c = j->clear / step * step; c < j->stored; c += step)
        memset(at(&j->to, n, c, pixel), 0, (size_t)(pixels * step) * sizeof(float));
    for (int i = 0; i < j->parts; i++)
        copy_part(j, &j->part[i], n, pixel, pixels);
}

/* Empty lanes are cleared; the parts fill the rest. */
static job job_to(const ds_tensor *to)
{
    const bool blocked = ds_is_blocked(to);
    return (job){.to = layout_of(to),
                 .stored = blocked ? ds_blocks(to->shape.c) * DS_BLOCK : to->shape.c,
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
    *offset = (size_t)(begin * out->shape.h * out->shape.w) * sizeof(float);
    return out->shape.n == 1 && ds_is_blocked(out) && ds_is_blocked(in) && begin % DS_BLOCK == 0 &&
           (in->shape.c % DS_BLOCK == 0 || input == step->inputs - 1);
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

/* A cut along rows or columns: a run of each row of pixels, or of each plane. */
typedef struct cut {
    const float *from;
    float *to;
    int64_t from_pitch, to_pitch; /* floats between two runs */
    int64_t begin;                /* floats before the run: in `from`, or backward in `to` */
    int64_t run;                  /* floats */
    bool backward;
} cut;

/* Item: one row or plane. */
static void cut_task(void *context, int64_t item, int worker)
{
    const cut *c = context;
    const float *from = c->from + item * c->from_pitch + (c->backward ? 0 : c->begin);
    float *to = c->to + item * c->to_pitch;
    (void)worker;
    if (c->backward) {
        memset(to, 0, (size_t)c->to_pitch * sizeof *to);
        to += c->begin;
    }
    memcpy(to, from, (size_t)c->run * sizeof *to);
}

/* Cuts along axis 2 or 3 from `begin` on. */
static void cut_planes(ds_backend *backend, const ds_step *step, int64_t axis, int64_t begin,
                       bool backward)
{
    const ds_tensor *x = step->in[0], *y = step->out;
    const int64_t lanes = ds_is_blocked(x) ? DS_BLOCK : 1;
    const int64_t planes = ds_stored(x) / (x->shape.h * x->shape.w * lanes);
    const int64_t rows = axis == 3 ? x->shape.h : 1;
    cut c = {.from = x->data,
             .to = y->data,
             .from_pitch = ds_stored(x) / (planes * rows),
             .to_pitch = ds_stored(y) / (planes * rows),
             .begin = begin * lanes * (axis == 2 ? x->shape.w : 1),
             .backward = backward};
    c.run = backward ? c.from_pitch : c.to_pitch;
    ds_pool_run(backend->pool, planes * rows, cut_task, &c);
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

const ds_kernel ds_cpu_concat = {.run = concat_run, .gathers = gathers};
const ds_kernel ds_cpu_slice = {.run = slice_run};
const ds_kernel ds_cpu_slice_backward = {.run = slice_backward_run};
