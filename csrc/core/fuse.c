/* Fusion: a node takes in the element-wise nodes behind it as long as nobody else reads what lies
   between, and as long as the backend has a kernel that computes them in its last pass. */
#include "core/plan_impl.h"

typedef struct readers {
    int32_t count;
    ds_id last;
} readers;

static void count_readers(const ds_plan *plan, readers *of)
{
    for (ds_id id = 0; (size_t)id < plan->nodes; id++) {
        const ds_node *node = &plan->graph.nodes[id];
        for (int i = 0; plan->needed[id] && i < node->inputs; i++) {
            of[node->in[i]].count++;
            of[node->in[i]].last = id;
        }
    }
}

/* The group of `last` enlarged by the node `next` that reads it; false where that has no form. */
static bool extend(const ds_plan *plan, const ds_group *group, ds_id last, ds_id next,
                   ds_group *larger)
{
    const ds_node *node = &plan->graph.nodes[next];
    *larger = *group;
    if (group->active || !ds_same_shape(node->out.shape, plan->graph.nodes[last].out.shape))
        return false;
    if (node->op == DS_OP_add && group->addend == DS_NONE && node->in[0] != node->in[1]) {
        larger->addend = node->in[0] == last ? node->in[1] : node->in[0];
        const ds_tensor *addend = &plan->graph.nodes[larger->addend].out;
        return ds_same_shape(addend->shape, node->out.shape) && addend->kind == node->out.kind;
    }
    if (node->op == DS_OP_activation) {
        const ds_activation_attr attr = DS_ATTR(activation, node->attr);
        larger->activation = (int)attr.kind;
        larger->alpha = attr.alpha;
        return larger->active = true;
    }
    if (node->op == DS_OP_activation_backward && node->in[0] == last && node->in[1] != last) {
        const ds_activation_backward_attr attr = DS_ATTR(activation_backward, node->attr);
        larger->activation = (int)attr.kind;
        larger->alpha = attr.alpha;
        larger->gate = node->in[1];
        return larger->active = true;
    }
    return false;
}

static void grow(ds_plan *plan, const readers *of, ds_id primary)
{
    ds_id last = primary;
    while (of[last].count == 1 && !plan->is_output[last] && !plan->is_checked[last]) {
        const ds_id next = of[last].last;
        const ds_group before = plan->groups[next];
        ds_group larger;
        if (plan->absorbed[next] || before.primary != next ||
            !extend(plan, &plan->groups[last], last, next, &larger))
            return;
        ds_step step;
        plan->groups[next] = larger;
        ds_group_step(plan, next, &step);
        if (!plan->backend->find(plan->backend, &step)) {
            plan->groups[next] = before;
            return;
        }
        plan->absorbed[last] = true;
        last = next;
    }
}

ds_code ds_plan_fuse(ds_plan *plan, ds_status *status)
{
    readers *of = NULL;
    DS_TRY(ds_alloc_zeroed(plan->alloc, plan->nodes * sizeof *of, &of, status));
    count_readers(plan, of);
    for (ds_id id = 0; (size_t)id < plan->nodes; id++)
        if (plan->needed[id] && !ds_is_leaf(plan->graph.nodes[id].op) &&
            plan->groups[id].primary == id && !plan->absorbed[id])
            grow(plan, of, id);
exit:
    ds_release(plan->alloc, &of);
    return status->code;
}
