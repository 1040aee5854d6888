/* Many runs of a plan as one call: a loop, or replays of one recording on a device. */
#include "core/plan_impl.h"

/* Replays that are queued before the host looks at what they left. */
enum { ROWS = 64 };

bool ds_plan_records(const ds_plan *plan)
{
    return plan->backend->device && !plan->options.poison;
}

static ds_code check_scalar(const ds_plan *plan, ds_id id, bool wanted, const char *what,
                            ds_status *status)
{
    char text[128];
    if (wanted && ds_is_scalar(plan->graph.nodes[id].out.shape))
        return DS_OK;
    ds_graph_describe(&plan->graph, id, text, sizeof text);
    return ds_fail(status, DS_BAD_VALUE, "repeat: %s is no scalar %s of this plan", text, what);
}

static ds_code check(const ds_plan *plan, const ds_repeat *r, ds_status *status)
{
    if (r->feeds + r->watches > DS_MOST_PASSED)
        return ds_fail(status, DS_BAD_VALUE, "repeat: %zu inputs and outputs; at most %d",
                       r->feeds + r->watches, DS_MOST_PASSED);
    for (size_t i = 0; i < r->feeds; i++) {
        const bool input = plan->graph.nodes[r->fed[i]].op == DS_OP_input;
        DS_TRY(check_scalar(plan, r->fed[i], input, "input", status));
    }
    for (size_t i = 0; i < r->watches; i++) {
        const ds_id id = r->watched[i];
        const bool output = id >= 0 && (size_t)id < plan->nodes && plan->is_output[id];
        DS_TRY(check_scalar(plan, id, output, "output", status));
    }
exit:
    return status->code;
}

static void set_inputs(const ds_plan *plan, const ds_repeat *r)
{
    for (size_t i = 0; i < r->feeds; i++) {
        const ds_tensor *tensor = ds_plan_tensor(plan, r->fed[i]);
        if (tensor)
            plan->backend->pack(plan->backend, &r->values[(size_t)r->done * r->feeds + i], DS_F32,
                                tensor);
    }
}

static void keep_outputs(const ds_plan *plan, const ds_repeat *r)
{
    for (size_t i = 0; i < r->watches; i++)
        plan->backend->unpack(plan->backend, &plan->tensors[r->watched[i]],
                              &r->seen[(size_t)r->done * r->watches + i], DS_F32);
}

void ds_plan_forget(ds_plan *plan)
{
    const ds_device *device = plan->backend->device;
    if (plan->recorded.steps)
        device->forget(plan->backend, &plan->recorded.steps);
    if (plan->recorded.memory)
        device->release(plan->backend, &plan->recorded.memory);
    plan->recorded.loop = (ds_loop){0};
}

static bool is_same(const ds_id *ids, const ds_id *others, size_t count)
{
    size_t i = 0;
    while (i < count && ids[i] == others[i])
        i++;
    return i == count;
}

/* Whether the recording is of these inputs and outputs, or of a single run where r is NULL. */
static bool is_recorded(const ds_recorded *recorded, const ds_repeat *r)
{
    const ds_loop *loop = &recorded->loop;
    if (!recorded->steps || !r || !loop->row)
        return recorded->steps && !r && !loop->row;
    return loop->feeds == r->feeds && loop->watches == r->watches &&
           is_same(recorded->ids, r->fed, r->feeds) &&
           is_same(recorded->ids + r->feeds, r->watched, r->watches);
}

/* The loop's memory: the number of the row, what is fed, what is seen. */
static ds_code make_loop(ds_plan *plan, const ds_repeat *r, ds_status *status)
{
    ds_recorded *recorded = &plan->recorded;
    const size_t fed = ROWS * r->feeds, seen = ROWS * r->watches;
    DS_TRY(plan->backend->device->allocate(
        plan->backend, sizeof(int64_t) + (fed + seen) * sizeof(float), &recorded->memory, status));
    recorded->loop = (ds_loop){.row = recorded->memory, .feeds = r->feeds, .watches = r->watches};
    recorded->loop.fed = (float *)(recorded->loop.row + 1);
    recorded->loop.seen = recorded->loop.fed + fed;
    for (size_t i = 0; i < r->feeds; i++)
        recorded->ids[i] = r->fed[i];
    for (size_t i = 0; i < r->watches; i++)
        recorded->ids[r->feeds + i] = r->watched[i];
exit:
    return status->code;
}

static void queue_steps(const ds_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        plan->kernels[i]->run(plan->backend, &plan->steps[i]);
        if (plan->is_checked[plan->order[i]])
            plan->backend->device->watch(plan->backend, plan->steps[i].out);
    }
}

static void queue_iteration(const ds_plan *plan, const ds_repeat *r)
{
    const ds_device *device = plan->backend->device;
    const ds_loop *loop = &plan->recorded.loop;
    for (size_t i = 0; i < r->feeds; i++)
        if (ds_plan_tensor(plan, r->fed[i]))
            device->feed(plan->backend, loop, i, &plan->tensors[r->fed[i]]);
    queue_steps(plan);
    for (size_t i = 0; i < r->watches; i++)
        device->keep(plan->backend, loop, i, &plan->tensors[r->watched[i]]);
    device->advance(plan->backend, loop);
}

static ds_code record(ds_plan *plan, const ds_repeat *r, ds_status *status)
{
    const ds_device *device = plan->backend->device;
    if (is_recorded(&plan->recorded, r))
        return DS_OK;
    ds_plan_forget(plan);
    if (r)
        DS_TRY(make_loop(plan, r, status));
    DS_TRY(device->begin(plan->backend, status));
    if (r)
        queue_iteration(plan, r);
    else
        queue_steps(plan);
    DS_TRY(device->end(plan->backend, &plan->recorded.steps, status));
exit:
    return status->code;
}

/* The step that computed the first checked node that is not finite now. */
static size_t bad_check(const ds_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++)
        if (plan->is_checked[plan->order[i]] &&
            !plan->backend->finite(plan->backend, plan->steps[i].out))
            return i;
    return plan->count - 1;
}

static void write_rows(const ds_plan *plan, const ds_repeat *r, int64_t rows)
{
    const ds_loop *loop = &plan->recorded.loop;
    const int64_t zero = 0;
    plan->backend->device->write(plan->backend, loop->row, &zero, sizeof zero);
    if (r->feeds)
        plan->backend->device->write(plan->backend, loop->fed,
                                     &r->values[(size_t)r->done * r->feeds],
                                     (size_t)rows * r->feeds * sizeof *loop->fed);
}

static void read_rows(const ds_plan *plan, const ds_repeat *r, int64_t rows)
{
    const ds_loop *loop = &plan->recorded.loop;
    if (rows && r->watches)
        plan->backend->device->read(plan->backend, &r->seen[(size_t)r->done * r->watches],
                                    loop->seen, (size_t)rows * r->watches * sizeof *loop->seen);
}

/* Replays so many iterations, or those up to one where a checked node is not finite: the updates
   of that one and of those behind it hold still, and so does the number of the row. */
static ds_code replay_rows(ds_plan *plan, ds_repeat *r, int64_t rows, ds_status *status)
{
    ds_backend *backend = plan->backend;
    bool finite = true;
    int64_t row = 0;
    write_rows(plan, r, rows);
    for (int64_t i = 0; i < rows; i++)
        backend->device->replay(backend, plan->recorded.steps);
    DS_TRY(backend->device->finish(backend, &finite, status));
    backend->device->read(backend, &row, plan->recorded.loop.row, sizeof row);
    read_rows(plan, r, row + !finite);
    r->done += row;
    if (!finite)
        ds_plan_name_culprit(plan, bad_check(plan), status);
exit:
    return status->code;
}

static ds_code replay_all(ds_plan *plan, ds_repeat *r, ds_poll *poll, void *context,
                          ds_status *status)
{
    while (r->done < r->count) {
        const int64_t left = r->count - r->done;
        if (poll && !poll(context))
            DS_TRY(ds_fail(status, DS_CANCELLED, "cancelled"));
        DS_TRY(record(plan, r, status));
        DS_TRY(replay_rows(plan, r, left < ROWS ? left : ROWS, status));
    }
exit:
    return status->code;
}

ds_code ds_plan_replay(ds_plan *plan, ds_status *status)
{
    bool finite = true;
    DS_TRY(record(plan, NULL, status));
    plan->backend->device->replay(plan->backend, plan->recorded.steps);
    DS_TRY(plan->backend->device->finish(plan->backend, &finite, status));
    if (!finite)
        ds_plan_name_culprit(plan, bad_check(plan), status);
exit:
    return status->code;
}

static ds_code run_all(ds_plan *plan, ds_repeat *r, ds_poll *poll, void *context, ds_status *status)
{
    for (; r->done < r->count; r->done++) {
        set_inputs(plan, r);
        const ds_code code = ds_plan_run(plan, poll, context, status);
        if (code == DS_OK || code == DS_NUMERICAL)
            keep_outputs(plan, r);
        DS_TRY(code);
    }
exit:
    return status->code;
}

ds_code ds_plan_repeat(ds_plan *plan, ds_repeat *r, ds_poll *poll, void *context, ds_status *status)
{
    r->done = 0;
    DS_TRY(check(plan, r, status));
    return ds_plan_records(plan) ? replay_all(plan, r, poll, context, status)
                                 : run_all(plan, r, poll, context, status);
exit:
    return status->code;
}
