/* Adaptive instance normalisation with a strength per pixel (depth-aware AdaIN, papers 002 and
   004). Per map, with z = (x - mu) / sigma from x itself (ops/moments.c) and mu_s, sigma_s given:

     y = s (sigma_s z + mu_s) + (1 - s) x

   s = 1 is the full style and the default, s = 0 keeps x; the s of paper 002 is 1 - P. With g = s
   dy and D = M - 1 where unbiased, else M:

     dx = (1 - s) dy + sigma_s / sigma (g - mean(g) - z sum(g z) / D)
     dmu_s = sum(g),   dsigma_s = sum(g z)

   summed over the pictures that share one style. The strength is given: it has no gradient. */
#include "core/graph.h"
#include "ops/check.h"

/* x, style and strength (NULL: none) fit together. */
static ds_code check(const char *op, const ds_tensor *x, const ds_tensor *style,
                     const ds_tensor *strength, const ds_adain_attr *a, ds_status *status)
{
    const ds_shape s = style->shape, wanted = {s.n == 1 ? 1 : x->shape.n, x->shape.c, 1, 2};
    DS_TRY(ds_check_moments(op, x, a->epsilon, a->unbiased, status));
    DS_TRY(ds_check_shape(op, "style", style, wanted, status));
    DS_TRY(ds_check_kind(op, "style", style, DS_PLAIN, status));
    if (strength)
        DS_TRY(ds_check_mask(op, "strength", strength, x, status));
exit:
    return status->code;
}

static ds_code infer(const ds_tensor *const in[], int inputs, const int64_t *attr, ds_tensor *out,
                     ds_status *status)
{
    const ds_adain_attr a = DS_ATTR(adain, attr);
    *out = (ds_tensor){.shape = in[0]->shape, .kind = in[0]->kind};
    return check("adain", in[0], in[1], inputs > 2 ? in[2] : NULL, &a, status);
}

static ds_code gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                        ds_id *dx, ds_status *status)
{
    (void)id;
    const ds_adain_attr a = DS_ATTR(adain, node->attr);
    const ds_id in[] = {dy, node->in[0], node->in[1], node->in[2]};
    if (input == 2)
        return ds_no_gradient("adain", "strength", status);
    if (input == 1)
        return ds_graph_add(
            graph, DS_OP_adain_backward_style, in, 1 + node->inputs,
            &(ds_adain_backward_style_attr){.epsilon = a.epsilon, .unbiased = a.unbiased}, dx,
            status);
    return ds_graph_add(graph, DS_OP_adain_backward, in, 1 + node->inputs,
                        &(ds_adain_backward_attr){.epsilon = a.epsilon, .unbiased = a.unbiased}, dx,
                        status);
}

static ds_code check_backward(const char *op, const ds_tensor *const in[], int inputs,
                              const ds_adain_attr *a, ds_status *status)
{
    DS_TRY(ds_check_same(op, "dy", in[0], "x", in[1], status));
    DS_TRY(check(op, in[1], in[2], inputs > 3 ? in[3] : NULL, a, status));
exit:
    return status->code;
}

static ds_code infer_backward(const ds_tensor *const in[], int inputs, const int64_t *attr,
                              ds_tensor *out, ds_status *status)
{
    const ds_adain_backward_attr a = DS_ATTR(adain_backward, attr);
    *out = (ds_tensor){.shape = in[1]->shape, .kind = in[1]->kind};
    return check_backward("adain_backward", in, inputs,
                          &(ds_adain_attr){.epsilon = a.epsilon, .unbiased = a.unbiased}, status);
}

static ds_code infer_backward_style(const ds_tensor *const in[], int inputs, const int64_t *attr,
                                    ds_tensor *out, ds_status *status)
{
    const ds_adain_backward_style_attr a = DS_ATTR(adain_backward_style, attr);
    *out = (ds_tensor){.shape = in[2]->shape, .kind = DS_PLAIN};
    return check_backward("adain_backward_style", in, inputs,
                          &(ds_adain_attr){.epsilon = a.epsilon, .unbiased = a.unbiased}, status);
}

const ds_meaning ds_op_adain = {.infer = infer, .gradient = gradient};
const ds_meaning ds_op_adain_backward = {.infer = infer_backward};
const ds_meaning ds_op_adain_backward_style = {.infer = infer_backward_style};
