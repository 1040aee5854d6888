/* The module depthstyle._core: its state and its functions. */
#include "py/array.h"
#include "py/device_array_type.h"
#include "py/lbfgs_type.h"
#include "py/node_type.h"
#include "py/plan_type.h"

#include <stdlib.h>

static const char *const CPU_VARIABLE = "DEPTHSTYLE_CPU";

bool ds_best_level(ds_cpu_level *level)
{
    const char *limit = getenv(CPU_VARIABLE);
    *level = ds_cpu_detect(limit);
    if (*level != DS_CPU_LEVELS)
        return true;
    PyErr_Format(PyExc_ValueError,
                 "%s='%s' must be one of portable|neon|avx2|avx512|avx512_bf16|amx", CPU_VARIABLE,
                 limit);
    return false;
}

PyObject *ds_level_names(void)
{
    ds_cpu_level best = DS_CPU_PORTABLE;
    PyObject *names = ds_best_level(&best) ? PyList_New(0) : NULL;
    for (int level = 0; names && level <= (int)best; level++) {
        const char *text = ds_cpu_name((ds_cpu_level)level);
        if (ds_cpu_detect(text) != (ds_cpu_level)level)
            continue; /* of another family of processors */
        PyObject *name = PyUnicode_FromString(text);
        if (!name || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

/* The processors this process may use, as far as a pool can take them. */
static int all_processors(void)
{
    const int count = ds_cpu_count();
    return count < DS_MAX_THREADS ? count : DS_MAX_THREADS;
}

bool ds_read_threads(const ds_module_state *state, PyObject *asked, int *threads)
{
    int overflow = 0;
    *threads = state->threads ? state->threads : all_processors();
    if (asked == Py_None)
        return true;
    PyObject *index = PyBool_Check(asked) ? NULL : PyNumber_Index(asked);
    const long number = index ? PyLong_AsLongAndOverflow(index, &overflow) : 0;
    Py_XDECREF(index);
    PyErr_Clear();
    *threads = (int)number;
    if (!overflow && number >= 1 && number <= DS_MAX_THREADS)
        return true;
    PyErr_Format(PyExc_ValueError, "threads=%R must be an integer from 1 to %d, or None", asked,
                 DS_MAX_THREADS);
    return false;
}

static PyObject *set_num_threads(PyObject *module, PyObject *count)
{
    ds_module_state *state = PyModule_GetState(module);
    int threads = 0;
    if (!ds_read_threads(state, count, &threads))
        return NULL;
    state->threads = count == Py_None ? 0 : threads;
    Py_RETURN_NONE;
}

static PyObject *get_num_threads(PyObject *module, PyObject *Py_UNUSED(none))
{
    const ds_module_state *state = PyModule_GetState(module);
    return PyLong_FromLong(state->threads ? state->threads : all_processors());
}

static PyObject *cpu_levels(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return ds_level_names();
}

static PyObject *ops(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return ds_describe_ops();
}

/* The exceptions are classes of Python; the module keeps them for its whole life. */
static bool import_errors(ds_module_state *state)
{
    PyObject *errors = PyImport_ImportModule("depthstyle.errors");
    if (!errors)
        return false;
    state->numerical_error = PyObject_GetAttrString(errors, "NumericalError");
    state->backend_unavailable = PyObject_GetAttrString(errors, "BackendUnavailable");
    state->device_out_of_memory = PyObject_GetAttrString(errors, "DeviceOutOfMemory");
    state->device_lost = PyObject_GetAttrString(errors, "DeviceLost");
    state->busy = PyObject_GetAttrString(errors, "Busy");
    Py_DECREF(errors);
    return state->numerical_error && state->backend_unavailable && state->device_out_of_memory &&
           state->device_lost && state->busy;
}

static bool add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type && PyModule_AddType(module, *type) == 0;
}

static int execute(PyObject *module)
{
    ds_module_state *state = PyModule_GetState(module);
    const bool ready = ds_array_import() && import_errors(state) &&
                       add_type(module, &ds_graph_spec, &state->graph_type) &&
                       add_type(module, &ds_node_spec, &state->node_type) &&
                       add_type(module, &ds_plan_spec, &state->plan_type) &&
                       add_type(module, &ds_lbfgs_spec, &state->lbfgs_type) &&
                       add_type(module, &ds_device_array_spec, &state->device_array_type);
    return ready ? 0 : -1;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    const ds_module_state *state = PyModule_GetState(module);
    Py_VISIT(state->graph_type);
    Py_VISIT(state->node_type);
    Py_VISIT(state->plan_type);
    Py_VISIT(state->lbfgs_type);
    Py_VISIT(state->device_array_type);
    Py_VISIT(state->numerical_error);
    Py_VISIT(state->backend_unavailable);
    Py_VISIT(state->device_out_of_memory);
    Py_VISIT(state->device_lost);
    Py_VISIT(state->busy);
    Py_VISIT(state->cuda_cache);
    return 0;
}

static int clear(PyObject *module)
{
    ds_module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->graph_type);
    Py_CLEAR(state->node_type);
    Py_CLEAR(state->plan_type);
    Py_CLEAR(state->lbfgs_type);
    Py_CLEAR(state->device_array_type);
    Py_CLEAR(state->numerical_error);
    Py_CLEAR(state->backend_unavailable);
    Py_CLEAR(state->device_out_of_memory);
    Py_CLEAR(state->device_lost);
    Py_CLEAR(state->busy);
    Py_CLEAR(state->cuda_cache);
    return 0;
}

static void release(void *module)
{
    clear(module);
}

PyDoc_STRVAR(set_threads_doc, "set_num_threads(n)\n\nThreads of plans compiled from now on that "
                              "ask for no number; None: one per processor.");
PyDoc_STRVAR(get_threads_doc, "get_num_threads()\n\nThreads of plans that ask for no number.");
PyDoc_STRVAR(levels_doc, "cpu_levels()\n\nNames of the CPU feature levels that plans may use, "
                         "worst first. The environment variable DEPTHSTYLE_CPU sets the best.");
PyDoc_STRVAR(ops_doc, "ops()\n\nThe list of ops: name, fewest and most inputs, meaning, attributes "
                      "with type, default and choices.");

PyDoc_STRVAR(memory_plan_doc, "memory_plan(lives, reuse)\n\nOffsets and total bytes for a list of "
                              "(first step, last step, bytes); for tests of the planner.");

PyDoc_STRVAR(
    load_cuda_doc,
    "load_cuda(path, cache)\n\nOpens the library of the CUDA backend, after which plans can "
    "be compiled with backend='cuda'. Which convolution kernels were the fastest is kept in "
    "the folder `cache`, if there is one.");

PyDoc_STRVAR(has_cuda_doc, "has_cuda()\n\nWhether load_cuda was called with success.");

PyDoc_STRVAR(cuda_memory_doc,
             "cuda_memory(ordinal)\n\nFree bytes and all bytes of a GPU's memory.");

static PyMethodDef functions[] = {
    {"set_num_threads", set_num_threads, METH_O, set_threads_doc},
    {"get_num_threads", get_num_threads, METH_NOARGS, get_threads_doc},
    {"cpu_levels", cpu_levels, METH_NOARGS, levels_doc},
    {"ops", ops, METH_NOARGS, ops_doc},
    {"load_cuda", ds_load_cuda, METH_VARARGS, load_cuda_doc},
    {"has_cuda", ds_has_cuda, METH_NOARGS, has_cuda_doc},
    {"cuda_memory", ds_cuda_memory, METH_O, cuda_memory_doc},
    {"memory_plan", ds_memory_plan, METH_VARARGS, memory_plan_doc},
    {0},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, execute},
    {0},
};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "depthstyle._core",
    .m_doc = "The engine: graphs of ops, compiled into plans that run on one backend.",
    .m_size = sizeof(ds_module_state),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
