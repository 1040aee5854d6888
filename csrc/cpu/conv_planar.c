/* 1x1 convolutions from images to images, such as a change of colours: each output plane is a
   weighted sum of the input planes. */
#include "cpu/conv.h"

/* Pixels of one work item. */
enum { PIECE = 1 << 12 };

typedef struct job {
    const ds_slots *slots;
    ds_conv conv;
    float weight[DS_IMAGE_CHANNELS][DS_IMAGE_CHANNELS]; /* (output, input) channels */
    int64_t pixels;                                     /* of a plane */
    int64_t pieces;                                     /* of a plane */
} job;

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    const ds_conv conv = ds_conv_of(step);
    const ds_shape w = conv.w->shape;
    (void)backend;
    return ds_no_epilogue(step) && !step->prologue.active && !ds_is_blocked(conv.x) &&
           !ds_is_blocked(conv.y) && w.h == 1 && w.w == 1 && conv.groups == 1 &&
           conv.x->shape.h == conv.y->shape.h && conv.x->shape.w == conv.y->shape.w &&
           conv.stride == 1;
}

/* Item: one piece of one output plane. */
static void task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t plane = item / j->pieces, at = item % j->pieces * PIECE;
    const int64_t inputs = j->conv.x->shape.c, outputs = j->conv.y->shape.c;
    const int64_t n = plane / outputs, c = plane % outputs;
    const float *bias = j->conv.bias ? j->conv.bias->data : NULL;
    (void)worker;
    j->slots->combine_rows((const float *)j->conv.x->data + n * inputs * j->pixels + at, j->pixels,
                           j->weight[c], inputs, bias ? bias[c] : 0,
                           (float *)j->conv.y->data + plane * j->pixels + at,
                           ds_minimum(j->pixels - at, PIECE));
}

static void run(ds_backend *backend, const ds_step *step)
{
    job j = {.slots = ds_cpu_slots(backend->level), .conv = ds_conv_of(step)};
    const float *w = j.conv.w->data;
    const int64_t inputs = j.conv.x->shape.c, outputs = j.conv.y->shape.c;
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t i = 0; i < inputs; i++)
            j.weight[o][i] = j.conv.backward ? w[i * outputs + o] : w[o * inputs + i];
    j.pixels = j.conv.x->shape.h * j.conv.x->shape.w;
    j.pieces = (j.pixels + PIECE - 1) / PIECE;
    ds_pool_run(backend->pool, j.conv.y->shape.n * outputs * j.pieces, task, &j);
}

const ds_kernel ds_cpu_conv2d_planar = {.accepts = accepts, .run = run};
