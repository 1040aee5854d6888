/* Where every tensor lies: lifetimes from the order of steps, one memory for an input and the
   output computed in its place or gathered from it, offsets from the memory plan. */
#include "core/plan_impl.h"

/* A constant that a kernel can read where the caller keeps it. A device reads none of them. */
static bool lies_outside(const ds_plan *plan, ds_id id)
{
    return plan->graph.nodes[id].op == DS_OP_constant && plan->tensors[id].data &&
           !plan->backend->device;
}

static size_t guarded(const ds_plan *plan, size_t bytes)
{
    return bytes + (plan->options.poison ? DS_GUARD_BYTES : 0);
}

static void add_value(ds_plan *plan, ds_id id, int32_t first, int32_t last)
{
    ds_place *place = &plan->places[id];
    place->value = (int32_t)plan->values;
    plan->lives[plan->values++] =
        (ds_life){.first = first, .last = last, .bytes = guarded(plan, place->bytes)};
}

static void find_last_reads(const ds_plan *plan, int32_t *last)
{
    ds_id in[DS_GROUP_INPUTS];
    for (int32_t step = 0; (size_t)step < plan->count; step++) {
        const int count = ds_group_inputs(plan, plan->order[step], in);
        last[plan->order[step]] = step;
        for (int i = 0; i < count; i++)
            last[in[i]] = step;
    }
    /* Outputs, and leaves that keep their value from run to run, live to the end. */
    for (ds_id id = 0; (size_t)id < plan->nodes; id++)
        if (plan->is_output[id] || ds_is_leaf(plan->graph.nodes[id].op))
            last[id] = (int32_t)plan->count;
}

static bool may_share(const ds_plan *plan, ds_id in, ds_id out, int32_t step)
{
    const ds_place *owner = &plan->places[plan->places[in].owner];
    /* What a measured map has behind it may stay unused. */
    const bool holds = plan->places[in].bytes == plan->places[out].bytes ||
                       (plan->tensors[in].measured &&
                        ds_same_shape(plan->tensors[in].shape, plan->tensors[out].shape));
    return !plan->options.no_reuse && owner->value >= 0 && !owner->gathered &&
           plan->lives[owner->value].last == step &&
           plan->tensors[in].dtype == plan->tensors[out].dtype && holds;
}

/* Whether a step may overwrite what it reads at `id`: not where it reads it in a second way too, as
   a convolution to which its own input is added. */
static bool may_overwrite(const ds_plan *plan, ds_id id, int32_t step)
{
    const ds_group *group = &plan->groups[plan->order[step]];
    const ds_node *primary = &plan->graph.nodes[group->primary];
    if (id == group->pooled ||
        (group->gram != DS_NONE && id == plan->graph.nodes[group->gram].in[0]))
        return false;
    for (int i = 0; i < primary->inputs; i++) {
        const ds_id in = i == 0 ? group->source : primary->in[i];
        if (in == id && !(plan->kernels[step]->in_place >> i & 1))
            return false;
    }
    return may_share(plan, id, plan->order[step], step);
}

/* The input whose memory the output of `step` takes over, or DS_NONE. */
static ds_id in_place_of(const ds_plan *plan, int32_t step)
{
    const ds_id out = plan->order[step];
    const ds_group *group = &plan->groups[out];
    const ds_node *primary = &plan->graph.nodes[group->primary];
    if (ds_ops[primary->op].meaning->mutates)
        return primary->in[0];
    if (group->addend != DS_NONE && !plan->kernels[step]->apart &&
        may_overwrite(plan, group->addend, step))
        return group->addend;
    for (int i = 0; i < primary->inputs; i++)
        if ((plan->kernels[step]->in_place >> i & 1) && may_overwrite(plan, primary->in[i], step))
            return primary->in[i];
    return DS_NONE;
}

/* Whether the output of a step may be made inside another tensor, and has nothing behind it. */
static bool is_movable(const ds_plan *plan, ds_id id)
{
    const ds_node *node = &plan->graph.nodes[plan->groups[id].primary];
    return !ds_is_leaf(node->op) && !ds_ops[node->op].meaning->mutates &&
           plan->places[id].owner == id && !plan->tensors[id].measured;
}

/* Lets the inputs of a step that gathers them be made where they belong in its output. */
static void gather(ds_plan *plan, int32_t step)
{
    const ds_id out = plan->order[step];
    const ds_kernel *kernel = plan->kernels[step];
    ds_id in[DS_GROUP_INPUTS];
    const int count = ds_group_inputs(plan, out, in);
    ds_place *whole = &plan->places[out];
    for (int i = 0; kernel->gathers && whole->owner == out && i < count; i++) {
        ds_place *part = &plan->places[in[i]];
        size_t within = 0;
        if (!is_movable(plan, in[i]) || !kernel->gathers(&plan->steps[step], i, &within))
            continue;
        part->owner = out;
        part->within = within;
        part->gathered = whole->gathered = true;
    }
}

static void place_step(ds_plan *plan, const int32_t *last, int32_t step)
{
    const ds_id out = plan->order[step];
    ds_id whole = plan->places[out].owner;
    if (!plan->places[out].gathered) {
        const ds_id shared = in_place_of(plan, step);
        whole = shared == DS_NONE ? out : plan->places[shared].owner;
    }
    plan->places[out].owner = whole;
    ds_place *owner = &plan->places[whole];
    if (owner->value < 0) {
        add_value(plan, whole, step, last[out]);
        return;
    }
    ds_life *life = &plan->lives[owner->value];
    life->last = last[out] > life->last ? last[out] : life->last;
}

/* The address of everything, once the arena exists. */
static void assign(ds_plan *plan, size_t workspaces)
{
    for (ds_id id = 0; (size_t)id < plan->nodes; id++) {
        ds_place *place = &plan->places[id];
        const int32_t value = plan->places[place->owner].value;
        if (value < 0 || !place->bytes)
            continue;
        place->offset = plan->offsets[value] + place->within;
        plan->tensors[id].data = plan->arena + place->offset;
    }
    for (size_t step = 0; step < plan->count; step++)
        plan->steps[step].workspace = plan->arena + plan->offsets[workspaces + step];
}

static void make_lives(ds_plan *plan, const int32_t *last)
{
    for (ds_id id = 0; (size_t)id < plan->nodes; id++) {
        ds_place *place = &plan->places[id];
        *place = (ds_place){.owner = id, .value = -1};
        if (!plan->needed[id] || plan->absorbed[id] || lies_outside(plan, id))
            continue;
        place->bytes = plan->backend->bytes(plan->backend, &plan->tensors[id]);
        if (ds_is_leaf(plan->graph.nodes[id].op))
            add_value(plan, id, 0, last[id]);
    }
    /* From the last on: what is part of a tensor is not gathered itself. */
    for (int32_t step = (int32_t)plan->count - 1; !plan->options.no_reuse && step >= 0; step--)
        gather(plan, step);
    for (int32_t step = 0; (size_t)step < plan->count; step++)
        place_step(plan, last, step);
}

ds_code ds_plan_place(ds_plan *plan, ds_status *status)
{
    int32_t *last = NULL;
    const size_t most = plan->nodes + plan->count;
    DS_TRY(ds_alloc_zeroed(plan->alloc, plan->nodes * sizeof *last, &last, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, most * sizeof *plan->lives, &plan->lives, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, most * sizeof *plan->offsets, &plan->offsets, status));
    find_last_reads(plan, last);
    make_lives(plan, last);
    const size_t workspaces = plan->values;
    for (int32_t step = 0; (size_t)step < plan->count; step++)
        plan->lives[plan->values++] =
            (ds_life){.first = step, .last = step, .bytes = plan->steps[step].workspace_bytes};
    DS_TRY(ds_memplan(plan->alloc, plan->lives, plan->values, !plan->options.no_reuse,
                      plan->offsets, &plan->arena_bytes, status));
    if (plan->options.dry)
        goto exit;
    DS_TRY(ds_arena_create(plan, status));
    assign(plan, workspaces);
exit:
    ds_release(plan->alloc, &last);
    return status->code;
}
