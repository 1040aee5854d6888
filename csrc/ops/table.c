/* The table of ops, made from ops.def. */
#include "core/op.h"

#define OP(name, fewest, most, text, attributes)                                                   \
    static const ds_attr_def name##_attrs[] = {attributes{NULL, DS_ATTR_INT, 0, NULL}};            \
    _Static_assert(sizeof(ds_##name##_attr) <= (DS_MAX_ATTRS + 1) * sizeof(int64_t), #name);
#define INT(name, value) {#name, DS_ATTR_INT, value, NULL},
#define REAL(name, value) {#name, DS_ATTR_REAL, value, NULL},
#define FLAG(name, value) {#name, DS_ATTR_FLAG, value, NULL},
#define CHOICE(name, value, names) {#name, DS_ATTR_CHOICE, value, names},
#include "core/ops.def"

const ds_op_def ds_ops[DS_OP_COUNT] = {
#define OP(name, fewest, most, text, attributes)                                                   \
    {#name, fewest, most, text, name##_attrs, &ds_op_##name},
#define INT(name, value)
#define REAL(name, value)
#define FLAG(name, value)
#define CHOICE(name, value, names)
#include "core/ops.def"
};
