/* The arguments and results of Plan.repeat. */
#ifndef DS_PY_REPEAT_H
#define DS_PY_REPEAT_H

#include "core/plan.h"
#include "py/node_type.h"

typedef struct ds_py_repeat {
    ds_repeat work; /* points into the members below */
    ds_alloc *alloc;
    ds_id *fed, *watched;
    float *values; /* (count, columns) */
    Py_ssize_t columns;
    PyObject *seen; /* float32 (count, watches) */
} ds_py_repeat;

/* Makes room for `count` iterations with `feeds` fed inputs that watch a sequence of nodes. False
   with an exception set; to be cleared in any case. */
bool ds_py_repeat_init(ds_py_repeat *repeat, ds_alloc *alloc, ds_py_graph *graph, Py_ssize_t count,
                       Py_ssize_t feeds, PyObject *watch);
void ds_py_repeat_clear(ds_py_repeat *repeat);

/* Feeds an input from an array of one number for each iteration. False with an exception set. */
bool ds_py_repeat_feed(ds_py_repeat *repeat, ds_id id, const char *name, PyObject *numbers);

/* Gives a pending NumericalError its iteration, and what was watched up to it. */
void ds_py_repeat_explain(const ds_py_repeat *repeat, const ds_module_state *state);

#endif
