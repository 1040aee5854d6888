/* The element type of every tensor, from the asked precision: feature maps are bf16, in mixed those
   of gradients alone. Images, whatever is no map, and what updates change stay as the backend has
   it. */
#include "core/plan_impl.h"

static bool may_be_half(const ds_plan *plan, const ds_node *node)
{
    const ds_precision precision = plan->options.precision;
    const bool asked =
        precision == DS_PRECISION_BF16 || (precision == DS_PRECISION_MIXED && node->is_gradient);
    return asked && node->out.kind == DS_MAP && !ds_is_image(&node->out);
}

/* An update's result is its first input after the change. */
static void keep_updated(ds_plan *plan, ds_id id)
{
    const ds_node *node = &plan->graph.nodes[id];
    const unsigned mutates = ds_ops[node->op].meaning->mutates;
    if (mutates)
        plan->tensors[id].dtype = plan->backend->dtype;
    for (int i = 0; i < node->inputs; i++)
        if (mutates >> i & 1)
            plan->tensors[node->in[i]].dtype = plan->backend->dtype;
}

void ds_plan_choose_types(ds_plan *plan)
{
    for (ds_id id = 0; (size_t)id < plan->nodes; id++)
        plan->tensors[id].dtype =
            may_be_half(plan, &plan->graph.nodes[id]) ? DS_BF16 : plan->backend->dtype;
    for (ds_id id = 0; (size_t)id < plan->nodes; id++)
        if (plan->needed[id])
            keep_updated(plan, id);
}

ds_code ds_check_precision(const ds_backend *backend, ds_precision precision, ds_status *status)
{
    static const char *const names[] = {"fp32", "tf32", "bf16", "mixed"};
    if (precision == DS_PRECISION_TF32 && !backend->device)
        return ds_fail(status, DS_BAD_VALUE,
                       "compile: precision='tf32' is of GPUs; use 'fp32', 'bf16' or 'mixed' with "
                       "backend='%s'",
                       backend->name);
    if (precision != DS_PRECISION_FP32 && backend->dtype != DS_F32)
        return ds_fail(status, DS_BAD_VALUE,
                       "compile: precision='%s' must be 'fp32' with dtype='float64'",
                       names[precision]);
    return DS_OK;
}
