/* Runs one small network on the CPU backend and on ref in double, then in bf16 on the CPU backend
   and on ref, and prints the relative L2 distance of each output. Plain C, so that it can be built
   for another processor and run in an emulator: the way in which the NEON kernels are tested where
   there is no such machine. */
#include "core/backend.h"
#include "core/graph.h"
#include "core/plan.h"

#include <math.h>
#include <stdio.h>

enum { CHANNELS = 40, HEIGHT = 19, WIDTH = 22, OUTPUTS = 4, VALUES = 3 * HEIGHT * WIDTH };

static float image[VALUES], first[CHANNELS * 3 * 9], second[CHANNELS * CHANNELS * 9];
static float pointwise[CHANNELS * CHANNELS], own[CHANNELS * 9], bias[CHANNELS],
    mask[HEIGHT * WIDTH];
static double results[2][OUTPUTS][CHANNELS * CHANNELS + VALUES];

/* Values in [-scale, scale) of a linear congruential generator. */
static void fill(float *values, size_t count, double scale)
{
    static uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (float)(scale * ((double)state / 2147483648.0 - 1));
    }
}

static ds_id leaf(ds_graph *g, ds_op op, ds_kind kind, ds_shape shape, void *data,
                  ds_status *status)
{
    ds_id id = DS_NONE;
    const ds_tensor tensor = {.shape = shape, .kind = kind, .dtype = DS_F32, .data = data};
    ds_graph_leaf(g, op, "", tensor, &id, status);
    return id;
}

static ds_id add(ds_graph *g, ds_op op, int count, const ds_id *in, const void *attr,
                 ds_status *status)
{
    ds_id id = DS_NONE;
    ds_graph_add(g, op, in, count, attr, &id, status);
    return id;
}

/* Loss, gradient, Gram matrix and last map of a network that has every kind of kernel. */
static ds_id define(ds_graph *g, ds_id out[OUTPUTS], ds_status *status)
{
    const ds_id x = leaf(g, DS_OP_variable, DS_MAP, (ds_shape){1, 3, HEIGHT, WIDTH}, image, status);
    const ds_id w1 =
        leaf(g, DS_OP_constant, DS_PLAIN, (ds_shape){CHANNELS, 3, 3, 3}, first, status);
    const ds_id w2 =
        leaf(g, DS_OP_constant, DS_PLAIN, (ds_shape){CHANNELS, CHANNELS, 3, 3}, second, status);
    const ds_id w3 =
        leaf(g, DS_OP_constant, DS_PLAIN, (ds_shape){CHANNELS, CHANNELS, 1, 1}, pointwise, status);
    const ds_id w4 = leaf(g, DS_OP_constant, DS_PLAIN, (ds_shape){CHANNELS, 1, 3, 3}, own, status);
    const ds_id b = leaf(g, DS_OP_constant, DS_PLAIN, (ds_shape){1, CHANNELS, 1, 1}, bias, status);
    const ds_id m =
        leaf(g, DS_OP_constant, DS_PLAIN, (ds_shape){1, 1, HEIGHT, WIDTH}, mask, status);
    const ds_conv2d_attr same = {.stride = 1, .pad = 1, .dilation = 1, .groups = 1};
    const ds_conv2d_attr half = {.stride = 2, .pad = 1, .dilation = 1, .groups = 1};
    const ds_conv2d_attr depthwise = {.stride = 1, .dilation = 1, .groups = CHANNELS};
    const ds_conv2d_attr one = {.stride = 1, .dilation = 1, .groups = 1};
    ds_id y = add(g, DS_OP_conv2d, 3, (ds_id[]){x, w1, b}, &same, status);
    const ds_id tapped = add(g, DS_OP_activation, 1, &y, NULL, status);
    out[2] = add(g, DS_OP_gram, 2, (ds_id[]){tapped, m}, NULL, status);
    y = add(g, DS_OP_conv2d, 3, (ds_id[]){tapped, w2, b}, &same, status);
    y = add(g, DS_OP_activation, 1, &y, NULL, status);
    y = add(g, DS_OP_max_pool, 1, &y, NULL, status);
    y = add(g, DS_OP_conv2d, 3, (ds_id[]){y, w3, b}, &one, status);
    const ds_pad_attr border = {.top = 1, .bottom = 1, .left = 1, .right = 1};
    y = add(g, DS_OP_pad, 1, &y, &border, status);
    y = add(g, DS_OP_conv2d, 3, (ds_id[]){y, w4, b}, &depthwise, status);
    y = add(g, DS_OP_conv2d, 3, (ds_id[]){y, w2, b}, &half, status);
    out[3] = add(g, DS_OP_activation, 1, &y, NULL, status);
    const ds_id pooled = add(g, DS_OP_avg_pool, 1, &out[3], NULL, status);
    const ds_id zero = add(g, DS_OP_affine, 1, &pooled, &(ds_affine_attr){0}, status);
    const ds_id none = add(g, DS_OP_affine, 1, &out[2], &(ds_affine_attr){0}, status);
    const ds_feature_loss_attr scale = {.scale = 1e-3};
    const ds_id content = add(g, DS_OP_feature_loss, 2, (ds_id[]){pooled, zero}, &scale, status);
    const ds_id style = add(g, DS_OP_feature_loss, 2, (ds_id[]){out[2], none}, &scale, status);
    out[0] = add(g, DS_OP_add, 2, (ds_id[]){content, style}, NULL, status);
    if (status->code == DS_OK)
        ds_graph_gradient(g, out[0], &x, 1, &out[1], status);
    return x;
}

static ds_code run(ds_graph *g, const ds_id *out, ds_backend *backend, ds_precision precision,
                   int which, ds_status *status)
{
    ds_plan *plan = NULL;
    const ds_plan_options options = {.poison = true, .precision = precision};
    DS_TRY(ds_plan_create(g, backend, out, OUTPUTS, options, &plan, status));
    DS_TRY(ds_plan_run(plan, NULL, NULL, status));
    for (int i = 0; i < OUTPUTS; i++)
        backend->unpack(backend, ds_plan_tensor(plan, out[i]), results[which][i], DS_F64);
exit:
    ds_plan_destroy(&plan);
    return status->code;
}

static double distance(const ds_graph *g, const ds_id *out, int i)
{
    double difference = 0, norm = 0;
    for (int64_t k = 0; k < ds_count(g->nodes[out[i]].out.shape); k++) {
        const double a = results[0][i][k], b = results[1][i][k];
        difference += (a - b) * (a - b);
        norm += b * b;
    }
    return sqrt(difference / norm);
}

/* Prints how far the backend is from the definition. */
static ds_code compare(ds_graph *g, const ds_id *out, ds_backend *backend, ds_backend *definition,
                       ds_precision precision, ds_status *status)
{
    DS_TRY(run(g, out, backend, precision, 0, status));
    DS_TRY(run(g, out, definition, precision, 1, status));
    for (int i = 0; i < OUTPUTS; i++)
        printf(" %.3e", distance(g, out, i));
exit:
    return status->code;
}

int main(void)
{
    ds_alloc alloc = ds_alloc_make(-1);
    ds_status status = ds_status_ok();
    ds_backend *cpu = NULL, *ref = NULL, *ref_f32 = NULL;
    ds_graph graph;
    ds_id out[OUTPUTS];
    fill(image, VALUES, 2);
    fill(first, sizeof first / sizeof *first, 0.3);
    fill(second, sizeof second / sizeof *second, 0.1);
    fill(pointwise, sizeof pointwise / sizeof *pointwise, 0.2);
    fill(own, CHANNELS * 9, 0.5);
    fill(bias, CHANNELS, 0.1);
    fill(mask, HEIGHT * WIDTH, 1);
    ds_graph_init(&graph, &alloc);
    define(&graph, out, &status);
    DS_TRY(ds_cpu_create(&alloc, 2, ds_cpu_detect(NULL), &cpu, &status));
    DS_TRY(ds_ref_f64_create(&alloc, &ref, &status));
    DS_TRY(ds_ref_f32_create(&alloc, &ref_f32, &status));
    printf("%s", ds_cpu_name(cpu->level));
    DS_TRY(compare(&graph, out, cpu, ref, DS_PRECISION_FP32, &status));
    DS_TRY(compare(&graph, out, cpu, ref_f32, DS_PRECISION_BF16, &status));
    printf("\n");
exit:
    if (status.code != DS_OK)
        fprintf(stderr, "%s\n", status.text);
    ds_graph_clear(&graph);
    if (cpu)
        cpu->destroy(&cpu);
    if (ref)
        ref->destroy(&ref);
    if (ref_f32)
        ref_f32->destroy(&ref_f32);
    return status.code == DS_OK && alloc.live_bytes == 0 ? 0 : 1;
}
