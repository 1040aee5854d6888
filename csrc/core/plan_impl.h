/* The inside of a plan, shared by the passes that build it (precision.c, fuse.c, schedule.c,
   measure.c, place.c, plan.c), by exec.c, repeat.c and dump.c. */
#ifndef DS_CORE_PLAN_IMPL_H
#define DS_CORE_PLAN_IMPL_H

#include "core/memplan.h"
#include "core/plan.h"

/* A node, what it reads its first input through, and the element-wise nodes behind it: one kernel
   computes them in one go. Indexed by the last of them, whose tensor is the only one that exists.
 */
typedef struct ds_group {
    ds_id primary;
    ds_id source; /* what the primary's first input is made from, or that input itself */
    ds_prologue prologue;
    ds_id norm;         /* the instance norm of the prologue; DS_NONE: none */
    ds_id pooled;       /* whose pool's gradient is in front of the primary; DS_NONE: none */
    ds_id gram;         /* a gram_backward whose result is added; DS_NONE: none */
    ds_id addend, gate; /* DS_NONE: none */
    bool active;
    int activation;
    double alpha;
} ds_group;

/* Inputs of a group: those of the primary, gamma and beta, what was pooled, features and dG,
   addend, gate. */
enum { DS_GROUP_INPUTS = DS_MAX_INPUTS + 7 };

typedef struct ds_place {
    ds_id owner;   /* the node whose memory this one lies in; itself unless in place */
    int32_t value; /* index of an owner's life, -1: not in the arena */
    bool gathered; /* it is a part of its owner, or has parts */
    size_t within; /* bytes from the owner's start */
    size_t offset;
    size_t bytes;
} ds_place;

/* All steps as one for a device, with what else is done in each iteration of a repeated run. */
typedef struct ds_recorded {
    void *steps;               /* NULL: not recorded yet */
    ds_id ids[DS_MOST_PASSED]; /* of the inputs fed and then of the outputs watched */
    ds_loop loop;
    void *memory; /* of the loop, on the device */
} ds_recorded;

struct ds_plan {
    ds_graph graph; /* a copy of the nodes: the caller's graph may grow while the plan lives */
    ds_backend *backend;
    ds_alloc *alloc;
    size_t nodes;
    bool *needed;              /* (nodes) an output depends on it */
    bool *is_output;           /* (nodes) */
    bool *is_checked;          /* (nodes) */
    bool *absorbed;            /* (nodes) part of a later node's group */
    ds_group *groups;          /* (nodes) by last node */
    ds_tensor *tensors;        /* (nodes) */
    ds_place *places;          /* (nodes) */
    ds_id *order;              /* (steps) last node of each group */
    ds_step *steps;            /* (steps) */
    const ds_kernel **kernels; /* (steps) */
    size_t count;              /* steps */
    size_t prepared;           /* steps that prepare was called for */
    ds_life *lives;            /* (values) */
    size_t *offsets;           /* (values) */
    size_t values;
    unsigned char *arena;
    size_t arena_bytes;
    ds_recorded recorded; /* of a device */
    size_t prepared_bytes;
    ds_plan_options options;
};

bool ds_is_leaf(ds_op op);

/* The inputs of the group that ends in `id`; returns how many. */
int ds_group_inputs(const ds_plan *plan, ds_id id, ds_id in[DS_GROUP_INPUTS]);

/* Fills a step for the group that ends in `id`. */
void ds_group_step(const ds_plan *plan, ds_id id, ds_step *step);

/* precision.c */
ds_code ds_check_precision(const ds_backend *backend, ds_precision precision, ds_status *status);
void ds_plan_choose_types(ds_plan *plan);

ds_code ds_plan_fuse(ds_plan *plan, ds_status *status);
void ds_plan_measure(ds_plan *plan);
ds_code ds_plan_schedule(ds_plan *plan, const ds_id *outputs, size_t count, ds_status *status);
ds_code ds_plan_place(ds_plan *plan, ds_status *status);

/* Fails with DS_NUMERICAL and names the first values that are not finite, after the checked output
   of step `last` was found not to be. */
ds_code ds_plan_name_culprit(const ds_plan *plan, size_t last, ds_status *status);

/* repeat.c: whether runs are recorded on a device; one such run; no more of them. */
bool ds_plan_records(const ds_plan *plan);
ds_code ds_plan_replay(ds_plan *plan, ds_status *status);
void ds_plan_forget(ds_plan *plan);

/* arena.c: the memory of all tensors, in this process or on a device. */
ds_code ds_arena_create(ds_plan *plan, ds_status *status);
void ds_arena_destroy(ds_plan *plan);
void ds_arena_fill(const ds_plan *plan, size_t offset, int byte, size_t bytes);
void ds_arena_read(const ds_plan *plan, size_t offset, void *to, size_t bytes);

/* Bytes of guard zone behind every tensor of a poisoned plan, and what they hold. */
enum { DS_GUARD_BYTES = 64, DS_GUARD_FILL = 0xA5 };

#endif
