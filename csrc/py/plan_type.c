/* Graph.compile and Plan: values in, a run without the GIL, values out. */
#include "py/plan_type.h"

#include "core/plan.h"
#include "py/node_type.h"
#include "py/poll.h"
#include "py/repeat.h"
#include "py/value.h"

#include <string.h>
#include <unistd.h>

typedef struct ds_py_plan {
    PyObject_HEAD ds_py_graph *graph;
    ds_alloc alloc;
    ds_backend *backend;
    ds_plan *plan;
    ds_id *outputs; /* (count) */
    size_t count;
    size_t nodes;         /* of the graph when it was compiled */
    unsigned char *given; /* (nodes) the input has a value */
    pid_t process;        /* where the threads of the pool live */
    bool dry;             /* it has a size and nothing else */
    bool running;
} ds_py_plan;

typedef struct compile_options {
    const char *backend, *dtype, *level, *precision;
    int threads, ordinal;
    int dry, reuse, poison;
} compile_options;

/* After a fork the child has the plan but not the threads of its pool. */
static bool in_this_process(const ds_py_plan *self)
{
    return self->process == getpid();
}

/* False with an exception set where the plan cannot be used now. */
static bool is_free(ds_py_plan *self)
{
    PyObject *busy = ds_state((PyObject *)self)->busy;
    if (!in_this_process(self))
        PyErr_SetString(busy, "plan: was compiled in another process, whose threads a fork does "
                              "not copy; compile it again in this one, or start it with 'spawn'");
    else if (self->dry)
        PyErr_SetString(PyExc_ValueError, "plan: was compiled dry, to see its size; compile it "
                                          "without dry to run it");
    else if (self->running)
        PyErr_SetString(busy, "plan: is running in another thread; wait for it or compile another");
    else {
        if (self->backend->device)
            self->backend->device->enter(self->backend);
        return true;
    }
    return false;
}

/* A precision's name as a number; DS_PRECISION_MIXED + 1 where it is none. */
static ds_precision precision_of(const char *name)
{
    static const char *const names[] = {"fp32", "tf32", "bf16", "mixed"};
    ds_precision precision = DS_PRECISION_FP32;
    while (precision <= DS_PRECISION_MIXED && strcmp(names[precision], name) != 0)
        precision++;
    return precision;
}

static bool create_backend(ds_py_plan *self, const compile_options *options, ds_cpu_level level,
                           ds_status *status)
{
    const bool wide = strcmp(options->dtype, "float64") == 0;
    const ds_module_state *state = ds_state((PyObject *)self);
    const ds_cuda_options cuda = {.ordinal = options->ordinal,
                                  .precision = precision_of(options->precision),
                                  .cache = state->cuda_cache ? PyBytes_AS_STRING(state->cuda_cache)
                                                             : NULL};
    if (strcmp(options->backend, "cuda") == 0)
        state->cuda_create(DS_CUDA_STAMP, &cuda, &self->alloc, &self->backend, status);
    else if (strcmp(options->backend, "cpu") == 0)
        ds_cpu_create(&self->alloc, options->threads, level, &self->backend, status);
    else if (wide)
        ds_ref_f64_create(&self->alloc, &self->backend, status);
    else
        ds_ref_f32_create(&self->alloc, &self->backend, status);
    return status->code == DS_OK;
}

/* False with an exception set. */
static bool check_options(const ds_module_state *state, const compile_options *options)
{
    const char *backend = options->backend;
    const bool wide = strcmp(options->dtype, "float64") == 0;
    const bool cuda = strcmp(backend, "cuda") == 0, ref = strcmp(backend, "ref") == 0;
    if (!cuda && !ref && strcmp(backend, "cpu") != 0)
        PyErr_Format(PyExc_ValueError, "compile: backend='%s' must be one of cpu|ref|cuda",
                     backend);
    else if (!wide && strcmp(options->dtype, "float32") != 0)
        PyErr_Format(PyExc_ValueError, "compile: dtype='%s' must be one of float32|float64",
                     options->dtype);
    else if (wide && !ref)
        PyErr_SetString(PyExc_ValueError,
                        "compile: dtype='float64' must be 'float32' unless backend='ref'");
    else if (precision_of(options->precision) > DS_PRECISION_MIXED)
        PyErr_Format(PyExc_ValueError,
                     "compile: precision='%s' must be one of fp32|tf32|bf16|mixed",
                     options->precision);
    else if (options->ordinal < 0)
        PyErr_Format(PyExc_ValueError, "compile: ordinal=%d must be at least 0", options->ordinal);
    else if (cuda && !state->cuda_create)
        PyErr_SetString(state->backend_unavailable, DS_CUDA_NOT_LOADED);
    else
        return true;
    return false;
}

/* The level to compile for: the asked one, or the best. False with an exception set. */
static bool choose_level(const char *asked, ds_cpu_level *level)
{
    if (!ds_best_level(level) || !asked)
        return !PyErr_Occurred();
    PyObject *names = ds_level_names();
    PyObject *name = names ? PyUnicode_FromString(asked) : NULL;
    const int found = name ? PySequence_Contains(names, name) : -1;
    if (found == 1)
        *level = ds_cpu_detect(asked);
    else if (found == 0)
        PyErr_Format(PyExc_ValueError, "compile: cpu_level='%s' must be one of %R", asked, names);
    Py_XDECREF(name);
    Py_XDECREF(names);
    return found == 1;
}

/* Creates backend and plan without the GIL. */
static bool build(ds_py_plan *self, const compile_options *options, const ds_id *check,
                  size_t checks)
{
    ds_status status = ds_status_ok();
    ds_py_graph *graph = self->graph;
    ds_cpu_level level = DS_CPU_PORTABLE;
    const ds_plan_options plan_options = {.check = check,
                                          .checks = checks,
                                          .precision = precision_of(options->precision),
                                          .dry = options->dry != 0,
                                          .no_reuse = !options->reuse,
                                          .poison = options->poison != 0};
    if (!choose_level(options->level, &level))
        return false;
    graph->compiling++;
    Py_BEGIN_ALLOW_THREADS if (create_backend(self, options, level, &status))
        ds_plan_create(&graph->graph, self->backend, self->outputs, self->count, plan_options,
                       &self->plan, &status);
    Py_END_ALLOW_THREADS graph->compiling--;
    if (status.code == DS_OK)
        ds_alloc_zeroed(&self->alloc, self->nodes, &self->given, &status);
    if (status.code != DS_OK)
        ds_raise(ds_state((PyObject *)self), &graph->graph, &status);
    return status.code == DS_OK;
}

/* The number of the failing allocation goes on counting where the graph's stands. */
static ds_alloc continued(const ds_alloc *alloc)
{
    return ds_alloc_make(alloc->fail_at >= alloc->count ? alloc->fail_at - alloc->count : -1);
}

static PyObject *plan_new(ds_py_graph *graph, PyObject *outputs, PyObject *check,
                          const compile_options *options)
{
    PyTypeObject *type = ds_state((PyObject *)graph)->plan_type;
    ds_py_plan *self = (ds_py_plan *)type->tp_alloc(type, 0);
    ds_id *check_ids = NULL;
    size_t checks = 0;
    if (!self)
        return NULL;
    self->graph = (ds_py_graph *)Py_NewRef(graph);
    self->alloc = continued(&graph->alloc);
    self->nodes = graph->graph.count;
    self->process = getpid();
    self->dry = options->dry != 0;
    const bool built = ds_nodes_read(outputs, graph, "compile: outputs", &self->alloc,
                                     &self->outputs, &self->count) &&
                       (!check || ds_nodes_read(check, graph, "compile: check", &self->alloc,
                                                &check_ids, &checks)) &&
                       build(self, options, check_ids, checks);
    ds_release(&self->alloc, &check_ids);
    if (!built)
        Py_CLEAR(self);
    return (PyObject *)self;
}

const char ds_graph_compile_doc[] =
    "compile(outputs, *, backend='cpu', ordinal=0, dtype='float32', precision='fp32', "
    "threads=None, cpu_level=None, check=(), dry=False, reuse=True, poison=False)\n\n"
    "A Plan that computes the nodes of outputs.\n"
    "check names scalars that must stay finite. With dry=True the plan cannot run, but has bytes.\n"
    "reuse=False and poison=True are for tests.";

PyObject *ds_graph_compile(PyObject *graph, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"outputs",   "backend", "ordinal",   "dtype",
                                  "precision", "threads", "cpu_level", "check",
                                  "dry",       "reuse",   "poison",    NULL};
    compile_options options = {
        .backend = "cpu", .dtype = "float32", .precision = "fp32", .reuse = true};
    PyObject *outputs = NULL, *threads = Py_None, *check = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|$sissOzOppp:compile", (char **)names,
                                     &outputs, &options.backend, &options.ordinal, &options.dtype,
                                     &options.precision, &threads, &options.level, &check,
                                     &options.dry, &options.reuse, &options.poison) ||
        !check_options(ds_state(graph), &options) ||
        !ds_read_threads(ds_state(graph), threads, &options.threads))
        return NULL;
    return plan_new((ds_py_graph *)graph, outputs, check, &options);
}

/* A plan whose threads died in a fork cannot be taken down: its memory stays. */
static void release(ds_py_plan *self)
{
    if (!in_this_process(self))
        return;
    ds_plan_destroy(&self->plan);
    if (self->backend)
        self->backend->destroy(&self->backend);
    ds_release(&self->alloc, &self->outputs);
    ds_release(&self->alloc, &self->given);
    ds_warn_leak((PyObject *)self, &self->alloc);
}

static void plan_dealloc(PyObject *object)
{
    ds_py_plan *self = (ds_py_plan *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    release(self);
    Py_XDECREF(self->graph);
    type->tp_free(object);
    Py_DECREF(type);
}

static int plan_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((ds_py_plan *)self)->graph);
    return 0;
}

/* The names of all inputs and variables, for messages. */
static PyObject *leaf_names(const ds_py_plan *self)
{
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names && i < self->nodes; i++) {
        const ds_node *node = &self->graph->graph.nodes[i];
        if (node->op != DS_OP_input && node->op != DS_OP_variable)
            continue;
        PyObject *name = PyUnicode_FromString(node->name);
        if (!name || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

/* The input or variable of a name; DS_NONE with an exception set. */
static ds_id find(const ds_py_plan *self, PyObject *name)
{
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    const ds_id id = text ? ds_find_leaf(&self->graph->graph, self->nodes, text) : DS_NONE;
    if (id != DS_NONE || PyErr_Occurred())
        return id;
    PyObject *names = leaf_names(self);
    if (names)
        PyErr_Format(PyExc_ValueError, "plan: no input or variable %R; there are %R", name, names);
    Py_XDECREF(names);
    return DS_NONE;
}

bool ds_py_plan_take(PyObject *plan)
{
    ds_py_plan *self = (ds_py_plan *)plan;
    return is_free(self) && (self->running = true);
}

void ds_py_plan_give(PyObject *plan)
{
    ((ds_py_plan *)plan)->running = false;
}

ds_backend *ds_py_plan_backend(PyObject *plan)
{
    return ((ds_py_plan *)plan)->backend;
}

bool ds_py_plan_tensor(PyObject *plan, PyObject *name, const ds_tensor **tensor)
{
    const ds_py_plan *self = (ds_py_plan *)plan;
    const ds_id id = find(self, name);
    *tensor = id == DS_NONE ? NULL : ds_plan_tensor(self->plan, id);
    if (id != DS_NONE && !*tensor)
        PyErr_Format(PyExc_ValueError, "plan: no output depends on %R", name);
    return *tensor != NULL;
}

/* An input that no output depends on is checked like any other, and then dropped. */
static bool set_value(ds_py_plan *self, PyObject *name, PyObject *object)
{
    char what[64];
    const ds_id id = find(self, name);
    if (id == DS_NONE)
        return false;
    const ds_node *node = &self->graph->graph.nodes[id];
    PyOS_snprintf(what, sizeof what, "%s '%s'", ds_ops[node->op].name, node->name);
    const bool done = ds_value_set(ds_state((PyObject *)self), self->backend,
                                   ds_plan_tensor(self->plan, id), node->out.shape, what, object);
    self->given[id] |= done;
    return done;
}

static PyObject *get_value(ds_py_plan *self, ds_id id, bool in_place)
{
    const ds_tensor *tensor = ds_plan_tensor(self->plan, id);
    if (tensor)
        return ds_value_get(ds_state((PyObject *)self), self->backend, tensor, in_place);
    return PyErr_Format(PyExc_ValueError, "plan: no output depends on '%s'",
                        self->graph->graph.nodes[id].name);
}

static bool set_inputs(ds_py_plan *self, PyObject *inputs)
{
    PyObject *name = NULL, *value = NULL;
    Py_ssize_t position = 0;
    if (inputs == Py_None)
        return true;
    if (!PyDict_Check(inputs)) {
        PyErr_Format(PyExc_TypeError, "run: inputs is a %s; give a dict of names and arrays",
                     Py_TYPE(inputs)->tp_name);
        return false;
    }
    while (PyDict_Next(inputs, &position, &name, &value))
        if (!set_value(self, name, value))
            return false;
    return true;
}

/* A forgotten input would otherwise run as zeros. */
static bool all_given(const ds_py_plan *self)
{
    for (size_t i = 0; i < self->nodes; i++) {
        const ds_node *node = &self->graph->graph.nodes[i];
        if (node->op != DS_OP_input || self->given[i] || !ds_plan_tensor(self->plan, (ds_id)i))
            continue;
        PyErr_Format(PyExc_ValueError, "run: input '%s' has no value; give it in inputs",
                     node->name);
        return false;
    }
    return true;
}

static PyObject *collect(ds_py_plan *self, bool in_place)
{
    PyObject *list = PyList_New((Py_ssize_t)self->count);
    for (size_t i = 0; list && i < self->count; i++) {
        PyObject *array = get_value(self, self->outputs[i], in_place);
        if (!array) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, array);
    }
    return list;
}

/* Runs without the GIL, which the poll takes back for a moment; `repeat` NULL: once. False with an
   exception set. */
static bool run_steps(ds_py_plan *self, ds_repeat *repeat, PyObject *callback)
{
    ds_status status = ds_status_ok();
    ds_py_poll context = ds_py_poll_start(callback, repeat != NULL);
    context.thread = PyEval_SaveThread();
    if (repeat)
        ds_plan_repeat(self->plan, repeat, ds_py_poll_ask, &context, &status);
    else
        ds_plan_run(self->plan, ds_py_poll_ask, &context, &status);
    PyEval_RestoreThread(context.thread);
    if (status.code != DS_OK)
        ds_raise(ds_state((PyObject *)self), &self->graph->graph, &status);
    return status.code == DS_OK;
}

static PyObject *plan_run(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"inputs", "poll", "output", NULL};
    ds_py_plan *self = (ds_py_plan *)object;
    PyObject *inputs = Py_None, *callback = Py_None, *result = NULL;
    const char *output = "host";
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O$Os:run", (char **)names, &inputs,
                                     &callback, &output) ||
        !is_free(self))
        return NULL;
    const bool in_place = strcmp(output, "device") == 0;
    if (!in_place && strcmp(output, "host") != 0)
        return PyErr_Format(PyExc_ValueError, "run: output='%s' must be one of host|device",
                            output);
    self->running = true;
    if (set_inputs(self, inputs) && all_given(self) && run_steps(self, NULL, callback))
        result = collect(self, in_place);
    self->running = false;
    return result;
}

static bool set_feeds(ds_py_plan *self, PyObject *feeds, ds_py_repeat *repeat)
{
    PyObject *name = NULL, *numbers = NULL;
    Py_ssize_t position = 0;
    while (feeds && PyDict_Next(feeds, &position, &name, &numbers)) {
        const ds_id id = find(self, name);
        if (id == DS_NONE ||
            !ds_py_repeat_feed(repeat, id, self->graph->graph.nodes[id].name, numbers))
            return false;
        self->given[id] = true;
    }
    return true;
}

static PyObject *plan_repeat(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"count", "inputs", "feeds", "watch", "poll", NULL};
    ds_py_plan *self = (ds_py_plan *)object;
    PyObject *inputs = Py_None, *feeds = NULL, *watch = NULL, *callback = Py_None, *seen = NULL;
    ds_py_repeat repeat = {0};
    Py_ssize_t count = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "n|O$O!OO:repeat", (char **)names, &count,
                                     &inputs, &PyDict_Type, &feeds, &watch, &callback) ||
        !is_free(self))
        return NULL;
    self->running = true;
    const Py_ssize_t columns = feeds ? PyDict_GET_SIZE(feeds) : 0;
    const bool ready =
        ds_py_repeat_init(&repeat, &self->alloc, self->graph, count, columns, watch) &&
        set_inputs(self, inputs) && set_feeds(self, feeds, &repeat) && all_given(self);
    if (ready && run_steps(self, &repeat.work, callback))
        seen = Py_NewRef(repeat.seen);
    else if (ready)
        ds_py_repeat_explain(&repeat, ds_state(object));
    ds_py_repeat_clear(&repeat);
    self->running = false;
    return seen;
}

static PyObject *plan_set(PyObject *object, PyObject *args)
{
    ds_py_plan *self = (ds_py_plan *)object;
    PyObject *name = NULL, *array = NULL;
    if (!PyArg_ParseTuple(args, "OO:set", &name, &array) || !is_free(self))
        return NULL;
    /* Reading the array may run Python code, and with it another thread. */
    self->running = true;
    const bool done = set_value(self, name, array);
    self->running = false;
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *plan_get(PyObject *object, PyObject *name)
{
    ds_py_plan *self = (ds_py_plan *)object;
    const ds_id id = is_free(self) ? find(self, name) : DS_NONE;
    return id == DS_NONE ? NULL : get_value(self, id, false);
}

static PyObject *plan_is_finite(PyObject *object, PyObject *name)
{
    ds_py_plan *self = (ds_py_plan *)object;
    const ds_id id = is_free(self) ? find(self, name) : DS_NONE;
    const ds_tensor *tensor = ds_plan_tensor(self->plan, id);
    if (id == DS_NONE)
        return NULL;
    return PyBool_FromLong(!tensor || self->backend->finite(self->backend, tensor));
}

static PyObject *plan_dump(PyObject *object, PyObject *Py_UNUSED(none))
{
    ds_py_plan *self = (ds_py_plan *)object;
    ds_status status = ds_status_ok();
    char *text = NULL;
    if (!is_free(self))
        return NULL;
    if (ds_plan_dump(self->plan, &text, &status) != DS_OK)
        return ds_raise(ds_state(object), &self->graph->graph, &status);
    PyObject *result = PyUnicode_FromString(text);
    ds_release(&self->alloc, &text);
    return result;
}

static PyObject *plan_outputs(PyObject *object, void *Py_UNUSED(closure))
{
    ds_py_plan *self = (ds_py_plan *)object;
    return ds_nodes_new(self->graph, self->outputs, self->count);
}

static PyObject *plan_bytes(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(ds_plan_bytes(((ds_py_plan *)self)->plan));
}

static PyObject *plan_backend(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((ds_py_plan *)self)->backend->name);
}

static PyObject *plan_dtype(PyObject *self, void *Py_UNUSED(closure))
{
    const bool wide = ((ds_py_plan *)self)->backend->dtype == DS_F64;
    return PyUnicode_FromString(wide ? "float64" : "float32");
}

static PyObject *plan_threads(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(ds_pool_threads(((ds_py_plan *)self)->backend->pool));
}

static PyObject *plan_level(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(ds_cpu_name(((ds_py_plan *)self)->backend->level));
}

PyDoc_STRVAR(run_doc, "run(inputs=None, *, poll=None, output='host')\n\n"
                      "Sets the arrays of the dict inputs, runs, and returns new (N, C, H, W)\n"
                      "arrays of the outputs, in their order. poll is called about every 50 ms;\n"
                      "what it raises ends the run. With output='device' on a GPU they are\n"
                      "DeviceArrays, which stay there.");
PyDoc_STRVAR(
    repeat_doc,
    "repeat(count, inputs=None, *, feeds=None, watch=(), poll=None)\n\n"
    "Runs count times, on a device without waiting in between. feeds is a dict of scalar\n"
    "inputs and arrays (count,): a number for each run. Returns a float32 array (count,\n"
    "len(watch)): the value of each watched scalar output in each run. poll is called\n"
    "first and then as by run, on a device before every 64th run; what it raises ends the\n"
    "work after a whole number of runs. Where a checked node is not finite, that run and\n"
    "later ones change nothing; NumericalError has its number in iteration, and in seen the\n"
    "rows up to it.");
PyDoc_STRVAR(set_doc, "set(name, array)\n\nGives an input or a variable a value.");
PyDoc_STRVAR(get_doc, "get(name)\n\nA new array of an input's or a variable's value.");
PyDoc_STRVAR(dump_doc, "dump()\n\nOne line per step: op, kernel, shape, place in memory.");

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))plan_run, METH_VARARGS | METH_KEYWORDS, run_doc},
    {"repeat", (PyCFunction)(void (*)(void))plan_repeat, METH_VARARGS | METH_KEYWORDS, repeat_doc},
    {"set", plan_set, METH_VARARGS, set_doc},
    {"get", plan_get, METH_O, get_doc},
    {"is_finite", plan_is_finite, METH_O,
     "is_finite(name)\n\nWhether all values of an input or a variable are."},
    {"dump", plan_dump, METH_NOARGS, dump_doc},
    {0},
};

static PyGetSetDef getset[] = {
    {"outputs", plan_outputs, NULL, "The nodes that a run returns.", NULL},
    {"bytes", plan_bytes, NULL, "Memory of the plan: tensors, weights, workspace.", NULL},
    {"backend", plan_backend, NULL, "'cpu', 'ref' or 'cuda'.", NULL},
    {"dtype", plan_dtype, NULL, "'float32' or 'float64'.", NULL},
    {"threads", plan_threads, NULL, "Threads that a run uses.", NULL},
    {"cpu_level", plan_level, NULL, "CPU features that a run uses; one of cpu_levels().", NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A compiled Graph: runs without allocating. Made by Graph.compile."},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_traverse, plan_traverse},
    {Py_tp_dealloc, plan_dealloc},
    {0},
};

PyType_Spec ds_plan_spec = {
    .name = "depthstyle._core.Plan",
    .basicsize = sizeof(ds_py_plan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
