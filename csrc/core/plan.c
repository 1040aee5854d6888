#include "core/plan_impl.h"

#include <stdio.h>
#include <string.h>

/* Marks what the outputs depend on. Nodes only read earlier ones, so one pass backwards does. */
static void mark_needed(ds_plan *plan, const ds_id *outputs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        plan->needed[outputs[i]] = plan->is_output[outputs[i]] = true;
    for (ds_id id = (ds_id)plan->nodes - 1; id >= 0; id--) {
        const ds_node *node = &plan->graph.nodes[id];
        for (int i = 0; plan->needed[id] && i < node->inputs; i++)
            plan->needed[node->in[i]] = true;
    }
}

static void describe_tensors(ds_plan *plan)
{
    ds_plan_choose_types(plan);
    for (ds_id id = 0; (size_t)id < plan->nodes; id++) {
        const ds_node *node = &plan->graph.nodes[id];
        plan->groups[id] = (ds_group){.primary = id,
                                      .source = node->inputs ? node->in[0] : DS_NONE,
                                      .norm = DS_NONE,
                                      .pooled = DS_NONE,
                                      .gram = DS_NONE,
                                      .addend = DS_NONE,
                                      .gate = DS_NONE};
        const ds_dtype dtype = plan->tensors[id].dtype;
        const bool readable =
            node->op == DS_OP_constant && node->out.kind == DS_PLAIN && node->out.dtype == dtype;
        plan->tensors[id] = node->out;
        plan->tensors[id].dtype = dtype;
        if (!readable)
            plan->tensors[id].data = NULL;
    }
}

static ds_code allocate_nodes(ds_plan *plan, const ds_graph *graph, ds_status *status)
{
    const size_t n = plan->nodes;
    ds_graph_init(&plan->graph, plan->alloc);
    DS_TRY(ds_alloc_grow(plan->alloc, &plan->graph.nodes, &plan->graph.capacity, n,
                         sizeof *graph->nodes, status));
    memcpy(plan->graph.nodes, graph->nodes, n * sizeof *graph->nodes);
    plan->graph.count = n;
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof(bool), &plan->needed, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof(bool), &plan->is_output, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof(bool), &plan->is_checked, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof(bool), &plan->absorbed, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof *plan->groups, &plan->groups, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof *plan->tensors, &plan->tensors, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof *plan->places, &plan->places, status));
    DS_TRY(ds_alloc_zeroed(plan->alloc, n * sizeof *plan->order, &plan->order, status));
exit:
    return status->code;
}

/* Adds one missing op to the list in `text`, each once. */
static void name_missing(const ds_step *step, char *text, size_t size)
{
    const char *name = ds_ops[step->op].name;
    const size_t used = strlen(text);
    if (!strstr(text, name))
        snprintf(text + used, size - used, "%s%s", used ? ", " : "", name);
}

static ds_code find_kernels(ds_plan *plan, ds_status *status)
{
    char missing[256] = "";
    DS_TRY(ds_alloc_zeroed(plan->alloc, plan->count * sizeof *plan->steps, &plan->steps, status));
    DS_TRY(
        ds_alloc_zeroed(plan->alloc, plan->count * sizeof *plan->kernels, &plan->kernels, status));
    for (size_t i = 0; i < plan->count; i++) {
        ds_group_step(plan, plan->order[i], &plan->steps[i]);
        plan->kernels[i] = plan->backend->find(plan->backend, &plan->steps[i]);
        if (!plan->kernels[i])
            name_missing(&plan->steps[i], missing, sizeof missing);
    }
    if (missing[0])
        ds_fail(status, DS_UNSUPPORTED, "backend %s has no kernel for: %s", plan->backend->name,
                missing);
exit:
    return status->code;
}

static ds_code prepare_kernels(ds_plan *plan, ds_status *status)
{
    for (; plan->prepared < plan->count; plan->prepared++) {
        ds_step *step = &plan->steps[plan->prepared];
        const ds_kernel *kernel = plan->kernels[plan->prepared];
        const ds_code code = kernel->prepare ? kernel->prepare(plan->backend, step, status) : DS_OK;
        plan->prepared_bytes += step->prepared_bytes;
        if (code != DS_OK) {
            status->node = plan->order[plan->prepared];
            plan->prepared++; /* release this one too: it may be half-built */
            return code;
        }
    }
    return DS_OK;
}

/* Gives variables and packed constants their values; inputs start as zeros. */
static void fill_leaves(ds_plan *plan)
{
    if (plan->options.poison)
        ds_arena_fill(plan, 0, DS_GUARD_FILL, plan->arena_bytes);
    for (ds_id id = 0; (size_t)id < plan->nodes; id++) {
        const ds_node *node = &plan->graph.nodes[id];
        if (!plan->needed[id] || !ds_is_leaf(node->op) || !plan->places[id].bytes)
            continue;
        ds_arena_fill(plan, plan->places[id].offset, 0, plan->places[id].bytes);
        if (node->out.data)
            plan->backend->pack(plan->backend, node->out.data, node->out.dtype, &plan->tensors[id]);
    }
}

static ds_code check_ids(const ds_graph *graph, const ds_id *ids, size_t count, const char *what,
                         ds_status *status)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= graph->count)
            return ds_fail(status, DS_BAD_VALUE, "compile: %s %zu is no node of this graph", what,
                           i);
    return DS_OK;
}

ds_code ds_plan_create(const ds_graph *graph, ds_backend *backend, const ds_id *outputs,
                       size_t count, ds_plan_options options, ds_plan **out, ds_status *status)
{
    ds_plan *plan = NULL;
    *out = NULL;
    if (count == 0)
        return ds_fail(status, DS_BAD_VALUE, "compile: outputs is empty; name at least one node");
    DS_TRY(check_ids(graph, outputs, count, "output", status));
    DS_TRY(check_ids(graph, options.check, options.checks, "check", status));
    DS_TRY(ds_check_precision(backend, options.precision, status));
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *plan, &plan, status));
    *plan = (ds_plan){
        .backend = backend, .alloc = backend->alloc, .nodes = graph->count, .options = options};
    DS_TRY(allocate_nodes(plan, graph, status));
    mark_needed(plan, outputs, count);
    for (size_t i = 0; i < options.checks; i++)
        plan->is_checked[options.check[i]] = true;
    describe_tensors(plan);
    DS_TRY(ds_plan_fuse(plan, status));
    DS_TRY(ds_plan_schedule(plan, outputs, count, status));
    DS_TRY(find_kernels(plan, status));
    ds_plan_measure(plan);
    DS_TRY(prepare_kernels(plan, status));
    DS_TRY(ds_plan_place(plan, status));
    if (!options.dry)
        fill_leaves(plan);
exit:
    if (status->code != DS_OK)
        ds_plan_destroy(&plan);
    *out = plan;
    return status->code;
}

void ds_plan_destroy(ds_plan **address)
{
    ds_plan *plan = *address;
    if (!plan)
        return;
    for (size_t i = 0; i < plan->prepared; i++)
        if (plan->kernels[i]->release)
            plan->kernels[i]->release(plan->backend, &plan->steps[i]);
    ds_alloc *alloc = plan->alloc;
    ds_plan_forget(plan);
    ds_arena_destroy(plan);
    ds_graph_clear(&plan->graph);
    void *const blocks[] = {&plan->needed, &plan->is_output, &plan->is_checked, &plan->absorbed,
                            &plan->groups, &plan->tensors,   &plan->places,     &plan->order,
                            &plan->steps,  &plan->kernels,   &plan->lives,      &plan->offsets};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ds_release(alloc, blocks[i]);
    ds_release(alloc, address);
}

const ds_tensor *ds_plan_tensor(const ds_plan *plan, ds_id id)
{
    const bool known = id >= 0 && (size_t)id < plan->nodes;
    return known && plan->tensors[id].data ? &plan->tensors[id] : NULL;
}

size_t ds_plan_bytes(const ds_plan *plan)
{
    return plan->arena_bytes + plan->prepared_bytes;
}
