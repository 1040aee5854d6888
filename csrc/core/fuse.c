/* Fusion: a node takes in the element-wise nodes behind it as long as nobody else reads what lies
   between, and as long as the backend has a kernel that computes them in its last pass. What it
   adds it may compute itself where that is the gradient of a Gram matrix. In the same way a
   convolution takes in a border, a nearest enlargement and an instance norm in front of it, and
   backward the gradient of a max pool. */
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

/* Whether nobody but one node reads `id`. */
static bool is_private(const ds_plan *plan, const readers *of, ds_id id)
{
    return of[id].count == 1 && !plan->is_output[id] && !plan->is_checked[id];
}

/* Makes `group` that of `id` if there is a kernel for it. */
static bool regroup(ds_plan *plan, ds_id id, const ds_group *group)
{
    const ds_group before = plan->groups[id];
    ds_step step;
    plan->groups[id] = *group;
    ds_group_step(plan, id, &step);
    const ds_kernel *kernel = plan->backend->find(plan->backend, &step);
    const bool found = kernel && (!step.epilogue.features || kernel->adds_gram) &&
                       (!step.prologue.norm || kernel->normalises) &&
                       (!step.prologue.pooled || kernel->unpools);
    if (!found)
        plan->groups[id] = before;
    return found;
}

/* The prologue of a convolution whose input is `node`, read through it too; false where that has no
   form. */
static bool look_through(const ds_node *conv, const ds_node *node, ds_shape from,
                         ds_prologue *prologue)
{
    if (node->op == DS_OP_pad && !prologue->active && DS_ATTR(conv2d, conv->attr).pad == 0) {
        const ds_pad_attr attr = DS_ATTR(pad, node->attr);
        *prologue = (ds_prologue){
            .active = true, .up = 1, .top = attr.top, .left = attr.left, .mode = attr.mode};
        return true;
    }
    const ds_shape to = node->out.shape;
    const bool larger = to.h % from.h == 0 && to.h / from.h > 1 && to.w == to.h / from.h * from.w;
    if (node->op != DS_OP_resize || DS_ATTR(resize, node->attr).mode != DS_NEAREST || !larger ||
        (prologue->active && prologue->up > 1))
        return false;
    prologue->active = true;
    prologue->up = to.h / from.h;
    return true;
}

static void reach_back(ds_plan *plan, const readers *of, ds_id id)
{
    const ds_node *conv = &plan->graph.nodes[plan->groups[id].primary];
    while (conv->op == DS_OP_conv2d && is_private(plan, of, plan->groups[id].source)) {
        ds_group larger = plan->groups[id];
        const ds_id source = larger.source;
        const ds_node *node = &plan->graph.nodes[source];
        if (node->inputs == 0 ||
            !look_through(conv, node, plan->graph.nodes[node->in[0]].out.shape, &larger.prologue))
            return;
        larger.source = node->in[0];
        if (!regroup(plan, id, &larger))
            return;
        plan->absorbed[source] = true;
    }
}

/* Whether a node is the gradient of a max pool of 2x2 pixels, all of whose windows are whole. */
static bool is_unpooling(const ds_plan *plan, const ds_node *node)
{
    if (node->op != DS_OP_max_pool_backward)
        return false;
    const ds_max_pool_backward_attr attr = DS_ATTR(max_pool_backward, node->attr);
    const ds_shape y = plan->graph.nodes[node->in[0]].out.shape, x = node->out.shape;
    return attr.kernel == 2 && attr.stride == 2 && attr.pad == 0 && y.h == x.h / 2 &&
           y.w == x.w / 2;
}

/* Lets a backward convolution read the gradient of a max pool, and of a ReLU before that, as they
   follow from the pool's own input and output gradient. */
static void reach_pool(ds_plan *plan, const readers *of, ds_id id)
{
    const ds_node *nodes = plan->graph.nodes;
    ds_group larger = plan->groups[id];
    const ds_id last = larger.source;
    ds_id pool = last;
    if (nodes[id].op != DS_OP_conv2d_backward_input)
        return;
    if (nodes[last].op == DS_OP_activation_backward)
        pool = nodes[last].in[0];
    const ds_node *node = &nodes[pool];
    const bool gated = pool != last;
    if (!is_unpooling(plan, node) || !is_private(plan, of, pool) || !is_private(plan, of, last) ||
        plan->tensors[last].dtype != plan->tensors[node->in[0]].dtype ||
        (gated && (nodes[last].in[1] != node->in[1] ||
                   DS_ATTR(activation_backward, nodes[last].attr).kind != DS_RELU)))
        return;
    larger.source = node->in[0];
    larger.pooled = node->in[1];
    larger.prologue = (ds_prologue){.active = true, .up = 1, .rectified = gated};
    if (regroup(plan, id, &larger))
        plan->absorbed[pool] = plan->absorbed[last] = true;
}

/* The group of `last` enlarged by the node `next` that reads it; false where that has no form. */
static bool extend(const ds_plan *plan, const ds_group *group, ds_id last, ds_id next,
                   ds_group *larger)
{
    const ds_node *node = &plan->graph.nodes[next];
    *larger = *group;
    if (group->active || !ds_same_shape(node->out.shape, plan->graph.nodes[last].out.shape) ||
        plan->tensors[next].dtype != plan->tensors[last].dtype)
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

/* Lets the group of `id` compute its addend, the gradient of a Gram matrix without a mask. */
static void take_gram(ds_plan *plan, const readers *of, ds_id id)
{
    ds_group larger = plan->groups[id];
    const ds_id gram = larger.addend;
    if (gram == DS_NONE || larger.gram != DS_NONE || !is_private(plan, of, gram))
        return;
    const ds_node *node = &plan->graph.nodes[gram];
    larger.gram = gram;
    larger.addend = DS_NONE;
    plan->absorbed[gram] = node->op == DS_OP_gram_backward && node->inputs == 2 &&
                           plan->tensors[gram].dtype == plan->tensors[id].dtype &&
                           regroup(plan, id, &larger);
}

static void grow(ds_plan *plan, const readers *of, ds_id primary)
{
    ds_id last = primary;
    while (is_private(plan, of, last)) {
        const ds_id next = of[last].last;
        ds_group larger;
        if (plan->absorbed[next] || plan->groups[next].primary != next ||
            !extend(plan, &plan->groups[last], last, next, &larger) ||
            !regroup(plan, next, &larger))
            return;
        take_gram(plan, of, next);
        plan->absorbed[last] = true;
        last = next;
    }
}

static const ds_tensor *vector_of(const ds_plan *plan, const ds_node *norm, int input)
{
    return input < norm->inputs ? &plan->tensors[norm->in[input]] : NULL;
}

/* Lets a convolution, forward or backward, normalise what it reads, where nobody else reads it
   normalised. An enlargement before the norm repeats pixels, which changes no statistics. */
static void take_norm(ds_plan *plan, const readers *of, ds_id id)
{
    ds_group larger = plan->groups[id];
    const ds_id source = larger.source;
    const ds_op op = plan->graph.nodes[larger.primary].op;
    if ((op != DS_OP_conv2d && op != DS_OP_conv2d_backward_input) || larger.pooled != DS_NONE ||
        !is_private(plan, of, source))
        return;
    const ds_group *front = &plan->groups[source];
    const ds_node *norm = &plan->graph.nodes[front->primary];
    if (norm->op != DS_OP_instance_norm || front->addend != DS_NONE || front->gate != DS_NONE ||
        plan->tensors[norm->in[0]].dtype != plan->tensors[source].dtype)
        return;
    larger.norm = front->primary;
    larger.source = norm->in[0];
    ds_prologue *prologue = &larger.prologue;
    if (!prologue->active)
        *prologue = (ds_prologue){.active = true, .up = 1};
    prologue->norm = norm->attr;
    prologue->gamma = vector_of(plan, norm, 1);
    prologue->beta = vector_of(plan, norm, 2);
    prologue->activates = front->active;
    prologue->activation = front->activation;
    prologue->alpha = front->alpha;
    if (!regroup(plan, id, &larger))
        return;
    plan->absorbed[source] = true;
    reach_back(plan, of, id);
}

ds_code ds_plan_fuse(ds_plan *plan, ds_status *status)
{
    readers *of = NULL;
    DS_TRY(ds_alloc_zeroed(plan->alloc, plan->nodes * sizeof *of, &of, status));
    count_readers(plan, of);
    for (ds_id id = 0; (size_t)id < plan->nodes; id++)
        if (plan->needed[id]) {
            reach_back(plan, of, id);
            reach_pool(plan, of, id);
        }
    for (ds_id id = 0; (size_t)id < plan->nodes; id++)
        if (plan->needed[id] && !ds_is_leaf(plan->graph.nodes[id].op) &&
            plan->groups[id].primary == id && !plan->absorbed[id])
            grow(plan, of, id);
    for (ds_id id = 0; (size_t)id < plan->nodes; id++)
        if (plan->needed[id] && !plan->absorbed[id])
            take_norm(plan, of, id);
exit:
    ds_release(plan->alloc, &of);
    return status->code;
}
