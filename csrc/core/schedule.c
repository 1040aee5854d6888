/* The order of steps: depth first from the outputs, the deepest input first, so that a value is
   made as late as possible. In a Gatys iteration this puts the gradient of each style loss right
   before the backward convolution that adds it, instead of all of them before the first. */
#include "core/plan_impl.h"

typedef struct visit {
    ds_id id;
    int next; /* the input to look at next */
} visit;

typedef struct walk {
    ds_plan *plan;
    int32_t *height; /* (nodes) longest way from a leaf */
    bool *impure;    /* (nodes) depends on an op that changes a variable */
    bool *done;      /* (nodes) */
    visit *stack;    /* (nodes) */
} walk;

static void measure(walk *w)
{
    for (ds_id id = 0; (size_t)id < w->plan->nodes; id++) {
        const ds_node *node = &w->plan->graph.nodes[id];
        w->impure[id] = ds_ops[node->op].meaning->mutates != 0;
        for (int i = 0; i < node->inputs; i++) {
            const ds_id in = node->in[i];
            w->height[id] = w->height[in] + 1 > w->height[id] ? w->height[in] + 1 : w->height[id];
            w->impure[id] |= w->impure[in];
        }
    }
}

/* The inputs of a group, highest first; equals keep their order. */
static int sorted_inputs(const walk *w, ds_id id, ds_id in[DS_GROUP_INPUTS])
{
    const int count = ds_group_inputs(w->plan, id, in);
    for (int i = 1; i < count; i++) {
        const ds_id moved = in[i];
        int place = i;
        for (; place > 0 && w->height[in[place - 1]] < w->height[moved]; place--)
            in[place] = in[place - 1];
        in[place] = moved;
    }
    return count;
}

static void descend(walk *w, ds_id root)
{
    ds_id in[DS_GROUP_INPUTS];
    size_t depth = 0;
    if (!w->done[root])
        w->stack[depth++] = (visit){.id = root};
    while (depth > 0) {
        visit *top = &w->stack[depth - 1];
        const int count = sorted_inputs(w, top->id, in);
        while (top->next < count && w->done[in[top->next]])
            top->next++;
        if (top->next < count) {
            w->stack[depth++] = (visit){.id = in[top->next]};
            continue;
        }
        w->done[top->id] = true;
        if (!ds_is_leaf(w->plan->graph.nodes[top->id].op))
            w->plan->order[w->plan->count++] = top->id;
        depth--;
    }
}

ds_code ds_plan_schedule(ds_plan *plan, const ds_id *outputs, size_t count, ds_status *status)
{
    walk w = {.plan = plan};
    const size_t nodes = plan->nodes;
    DS_TRY(ds_alloc_zeroed(plan->alloc, nodes * sizeof *w.height, &w.height, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, nodes * sizeof *w.impure, &w.impure, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, nodes * sizeof *w.done, &w.done, status));
    DS_TRY(ds_alloc_raw(plan->alloc, (nodes + 1) * sizeof *w.stack, &w.stack, status));
    measure(&w);
    for (int impure = 0; impure <= 1; impure++)
        for (size_t i = 0; i < count; i++)
            if (w.impure[outputs[i]] == (bool)impure)
                descend(&w, outputs[i]);
exit:
    ds_release(plan->alloc, &w.height);
    ds_release(plan->alloc, &w.impure);
    ds_release(plan->alloc, &w.done);
    ds_release(plan->alloc, &w.stack);
    return status->code;
}
