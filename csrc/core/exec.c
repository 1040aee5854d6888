/* The loop that runs a plan. */
#include "core/plan_impl.h"

#include <string.h>

/* The first input or variable that is not finite, or DS_NONE. */
static ds_id bad_leaf(const ds_plan *plan)
{
    for (ds_id id = 0; (size_t)id < plan->nodes; id++)
        if (plan->places[id].bytes && ds_is_leaf(plan->graph.nodes[id].op) &&
            !plan->backend->finite(plan->backend, &plan->tensors[id]))
            return id;
    return DS_NONE;
}

/* Runs the steps up to `last` again and looks at every value: slow, but it happens once. */
static ds_id bad_step(const ds_plan *plan, size_t last)
{
    for (size_t i = 0; i < last; i++) {
        plan->kernels[i]->run(plan->backend, &plan->steps[i]);
        if (!plan->backend->finite(plan->backend, plan->steps[i].out))
            return plan->order[i];
    }
    return plan->order[last];
}

ds_code ds_plan_name_culprit(const ds_plan *plan, size_t last, ds_status *status)
{
    char checked[128], culprit[128];
    ds_id found = bad_leaf(plan);
    if (found == DS_NONE)
        found = bad_step(plan, last);
    ds_graph_describe(&plan->graph, plan->order[last], checked, sizeof checked);
    ds_graph_describe(&plan->graph, found, culprit, sizeof culprit);
    status->node = found;
    return ds_fail(status, DS_NUMERICAL,
                   "%s is not finite; the first values that are not are in %s", checked, culprit);
}

/* Fills every tensor whose last reader was `step` with NaN, so that a later read shows. */
static void poison_dead(const ds_plan *plan, int32_t step)
{
    for (size_t value = 0; value < plan->values; value++)
        if (plan->lives[value].last == step)
            ds_arena_fill(plan, plan->offsets[value], 0xFF,
                          plan->lives[value].bytes / sizeof(float) * sizeof(float));
}

/* Behind a part of a larger tensor lies the next part. */
static bool has_guard(const ds_plan *plan, ds_id id)
{
    const ds_place *place = &plan->places[id];
    return place->within + place->bytes == plan->places[place->owner].bytes;
}

static ds_code check_guards(const ds_plan *plan, size_t step, ds_status *status)
{
    char text[128];
    const ds_id out = plan->order[step];
    const ds_place *place = &plan->places[out];
    unsigned char guard[DS_GUARD_BYTES];
    if (!has_guard(plan, out))
        return DS_OK;
    ds_arena_read(plan, place->offset + place->bytes, guard, sizeof guard);
    for (int i = 0; i < DS_GUARD_BYTES; i++) {
        if (guard[i] == DS_GUARD_FILL)
            continue;
        ds_graph_describe(&plan->graph, out, text, sizeof text);
        return ds_fail(status, DS_NUMERICAL, "%s wrote behind its output", text);
    }
    return DS_OK;
}

/* Guard zones lie in memory that others use at other times, so they are set right before. */
static void set_guard(const ds_plan *plan, size_t step)
{
    const ds_place *place = &plan->places[plan->order[step]];
    if (has_guard(plan, plan->order[step]))
        ds_arena_fill(plan, place->offset + place->bytes, DS_GUARD_FILL, DS_GUARD_BYTES);
}

static ds_code run_watched(const ds_plan *plan, size_t step, ds_status *status)
{
    set_guard(plan, step);
    plan->kernels[step]->run(plan->backend, &plan->steps[step]);
    const ds_code code = check_guards(plan, step, status);
    poison_dead(plan, (int32_t)step);
    return code;
}

static ds_code run_step(const ds_plan *plan, size_t step, ds_status *status)
{
    if (plan->options.poison)
        return run_watched(plan, step, status);
    plan->kernels[step]->run(plan->backend, &plan->steps[step]);
    return DS_OK;
}

ds_code ds_plan_run(ds_plan *plan, ds_poll *poll, void *context, ds_status *status)
{
    ds_pool *pool = plan->backend->pool;
    if (ds_plan_records(plan))
        return poll && !poll(context) ? ds_fail(status, DS_CANCELLED, "cancelled")
                                      : ds_plan_replay(plan, status);
    ds_pool_watch(pool, poll, context);
    for (size_t i = 0; i < plan->count; i++) {
        if (ds_ops[plan->steps[i].op].meaning->mutates)
            ds_pool_watch(pool, poll = NULL, NULL);
        if (poll && !poll(context))
            DS_TRY(ds_fail(status, DS_CANCELLED, "cancelled"));
        DS_TRY(run_step(plan, i, status));
        if (ds_pool_stopped(pool))
            DS_TRY(ds_fail(status, DS_CANCELLED, "cancelled"));
        if (plan->is_checked[plan->order[i]] &&
            !plan->backend->finite(plan->backend, &plan->tensors[plan->order[i]]))
            DS_TRY(ds_plan_name_culprit(plan, i, status));
    }
exit:
    ds_pool_watch(pool, NULL, NULL);
    return status->code;
}
