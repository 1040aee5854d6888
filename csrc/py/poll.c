#include "py/poll.h"

#include <time.h>

/* How often a run looks for Ctrl-C and calls back. */
static const double POLL_SECONDS = 0.05;

/* A clock that no one sets. */
static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

ds_py_poll ds_py_poll_start(PyObject *callback, bool at_once)
{
    return (ds_py_poll){.callback = callback == Py_None ? NULL : callback,
                        .next = at_once ? 0 : seconds() + POLL_SECONDS};
}

bool ds_py_poll_ask(void *argument)
{
    ds_py_poll *context = argument;
    if (seconds() < context->next)
        return true;
    PyEval_RestoreThread(context->thread);
    bool go_on = PyErr_CheckSignals() == 0;
    if (go_on && context->callback) {
        PyObject *result = PyObject_CallNoArgs(context->callback);
        go_on = result != NULL;
        Py_XDECREF(result);
    }
    context->thread = PyEval_SaveThread();
    context->next = seconds() + POLL_SECONDS;
    return go_on;
}
