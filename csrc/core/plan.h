/* The plan: a graph made ready to run on one backend. Dead nodes are gone, element-wise ends are
   fused into their producers, every kernel is chosen and prepared, every tensor has its place. */
#ifndef DS_CORE_PLAN_H
#define DS_CORE_PLAN_H

#include "core/backend.h"
#include "core/graph.h"

typedef struct ds_plan ds_plan;

typedef struct ds_plan_options {
    const ds_id *check; /* nodes that must stay finite, read right after they are computed */
    size_t checks;
    ds_precision precision;
    bool dry;      /* to see its size: it has no memory for tensors and cannot run */
    bool no_reuse; /* a place of its own for every tensor (tests) */
    bool poison;   /* dead tensors are filled with NaN, guard zones are watched (tests) */
} ds_plan_options;

/* `outputs` keep their values until the next run. Steps run so that every output that changes a
   variable comes after all that do not. The caller keeps
   the backend, which serves one plan, and the data of constants as long as the plan; the graph may
   grow or go. */
ds_code ds_plan_create(const ds_graph *graph, ds_backend *backend, const ds_id *outputs,
                       size_t count, ds_plan_options options, ds_plan **plan, ds_status *status);
void ds_plan_destroy(ds_plan **plan);

/* One pass through all steps: allocates nothing. `poll` may be NULL; false ends the run with
   DS_CANCELLED. It is asked no more once a step has changed a variable, so that a run changes all
   of them or none. DS_NUMERICAL: a checked node is not finite; the status names the first node
   whose values are not, and no variable was changed in this run. */
ds_code ds_plan_run(ds_plan *plan, ds_poll *poll, void *context, ds_status *status);

/* Most inputs fed and outputs watched together. */
enum { DS_MOST_PASSED = 64 };

/* What goes into the iterations of a repeated run and what is kept of them, a row for each. */
typedef struct ds_repeat {
    int64_t count;
    size_t feeds, watches;
    const ds_id *fed;     /* (feeds) scalar inputs */
    const float *values;  /* (count, feeds) */
    const ds_id *watched; /* (watches) scalar outputs */
    float *seen;          /* (count, watches) set by the run */
    int64_t done;         /* iterations that were done; set by the run */
} ds_repeat;

/* Runs `count` times; on a device without waiting in between, and `poll` is asked before every
   64th only. DS_NUMERICAL and DS_CANCELLED are as of a single run of the iteration after those
   that are done; for the former its row of `seen` is set too. Allocates nothing but, on a device,
   what the first call with these inputs and outputs needs. */
ds_code ds_plan_repeat(ds_plan *plan, ds_repeat *repeat, ds_poll *poll, void *context,
                       ds_status *status);

/* The tensor of an input, variable or output, to pack into or unpack from; NULL when the plan does
   not need the node (an input that no output depends on). */
const ds_tensor *ds_plan_tensor(const ds_plan *plan, ds_id id);

/* Bytes of arena, prepared weights and workspace. */
size_t ds_plan_bytes(const ds_plan *plan);

/* One line per step: op, kernel variant, shape, what is fused, offset. Freed by the caller with
   ds_release(alloc of the backend). */
ds_code ds_plan_dump(const ds_plan *plan, char **text, ds_status *status);

#endif
