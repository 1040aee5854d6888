/* What the engine asks during a run: whether Ctrl-C was pressed, and what the caller's function
   says. */
#ifndef DS_PY_POLL_H
#define DS_PY_POLL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

typedef struct ds_py_poll {
    PyThreadState *thread; /* that runs without the GIL */
    PyObject *callback;    /* borrowed; NULL: none */
    double next;           /* when to look again */
} ds_py_poll;

/* `callback` may be None. The first question is answered `at_once` or after a while. */
ds_py_poll ds_py_poll_start(PyObject *callback, bool at_once);

/* A ds_poll, with a ds_py_poll as its context. False with an exception set. */
bool ds_py_poll_ask(void *context);

#endif
