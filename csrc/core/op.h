/* An op is meaning: its attributes, shape rule and gradient. Kernels are in backend.h. */
#ifndef DS_CORE_OP_H
#define DS_CORE_OP_H

#include "base/status.h"
#include "core/tensor.h"

enum { DS_MAX_INPUTS = 8, DS_MAX_ATTRS = 8 };

typedef enum ds_op {
#define OP(name, fewest, most, text, attributes) DS_OP_##name,
#define INT(name, value)
#define REAL(name, value)
#define FLAG(name, value)
#define CHOICE(name, value, names)
#include "core/ops.def"
    DS_OP_COUNT
} ds_op;

/* One attribute struct per op, ds_conv2d_attr and so on. Every field takes eight bytes, so that
   the table can address fields by position. */
#define OP(name, fewest, most, text, attributes)                                                   \
    typedef struct ds_##name##_attr {                                                              \
        attributes int64_t end_;                                                                   \
    } ds_##name##_attr;
#define INT(name, value) int64_t name;
#define REAL(name, value) double name;
#define FLAG(name, value) int64_t name;
#define CHOICE(name, value, names) int64_t name;
#include "core/ops.def"

typedef enum ds_attr_type { DS_ATTR_INT, DS_ATTR_REAL, DS_ATTR_FLAG, DS_ATTR_CHOICE } ds_attr_type;

typedef struct ds_attr_def {
    const char *name;
    ds_attr_type type;
    double value;      /* the default */
    const char *names; /* of a choice, "zero|reflect" */
} ds_attr_def;

/* The values of CHOICE attributes, in the order of ops.def. */
enum { DS_RELU, DS_LEAKY_RELU, DS_ELU, DS_RELU6, DS_SIGMOID, DS_TANH };
enum { DS_PAD_ZERO, DS_PAD_REFLECT, DS_PAD_REPLICATE };
enum { DS_NEAREST, DS_BILINEAR, DS_BICUBIC, DS_LANCZOS };

typedef int32_t ds_id; /* a node's number in its graph */
enum { DS_NONE = -1 };

typedef struct ds_node {
    ds_op op;
    int inputs;
    ds_id in[DS_MAX_INPUTS];
    int64_t attr[DS_MAX_ATTRS]; /* read it with DS_ATTR */
    ds_tensor out;              /* shape and kind; data only for constants and initial values */
    bool is_gradient;           /* added by ds_graph_gradient */
    char name[64];              /* given by the caller; in messages and dumps */
} ds_node;

/* DS_ATTR(conv2d, attr): the attributes as the op's own struct. */
#define DS_ATTR(op, values) (ds_##op##_from(values))
#define OP(name, fewest, most, text, attributes)                                                   \
    static inline ds_##name##_attr ds_##name##_from(const int64_t *values)                         \
    {                                                                                              \
        ds_##name##_attr attr = {0};                                                               \
        __builtin_memcpy(&attr, values, sizeof attr - sizeof(int64_t));                            \
        return attr;                                                                               \
    }
#define INT(name, value)
#define REAL(name, value)
#define FLAG(name, value)
#define CHOICE(name, value, names)
#include "core/ops.def"

typedef struct ds_graph ds_graph;

/* Checks attributes and input shapes and writes out->shape and out->kind. in[i] for i < inputs.
   Messages name what the user passed and what is allowed: "conv2d: pad=3 reflects more than
   the map's height 2; use a larger picture". */
typedef ds_code ds_infer(const ds_tensor *const in[], int inputs, const int64_t *attr,
                         ds_tensor *out, ds_status *status);

/* Adds the nodes that compute the gradient to input `input` of `node`, given the gradient `dy` to
   its output, and returns it in *dx (DS_NONE: zero). `node` is a copy: adding nodes may move the
   graph's own. */
typedef ds_code ds_gradient(ds_graph *graph, ds_id id, const ds_node *node, ds_id dy, int input,
                            ds_id *dx, ds_status *status);

/* What ops/x.c defines for each op, under the name ds_op_conv2d and so on. */
typedef struct ds_meaning {
    ds_infer *infer;
    ds_gradient *gradient; /* NULL: not differentiable, asking for it is an error */
    unsigned mutates;      /* bit i: the op changes input i in place */
} ds_meaning;

#define OP(name, fewest, most, text, attributes) extern const ds_meaning ds_op_##name;
#define INT(name, value)
#define REAL(name, value)
#define FLAG(name, value)
#define CHOICE(name, value, names)
#include "core/ops.def"

typedef struct ds_op_def {
    const char *name;
    int fewest, most; /* inputs */
    const char *text;
    const ds_attr_def *attrs; /* ends with a NULL name */
    const ds_meaning *meaning;
} ds_op_def;

extern const ds_op_def ds_ops[DS_OP_COUNT];

#endif
