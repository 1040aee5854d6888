/* Graph: leaves with their own arguments, and one method per op made from ops.def, all of which
   end in add_op. */
#include "py/array.h"
#include "py/node_type.h"
#include "py/plan_type.h"

#include <string.h>

static PyObject *graph_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"fail_at", NULL};
    long long fail_at = -1;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|$L:Graph", (char **)names, &fail_at))
        return NULL;
    ds_py_graph *self = (ds_py_graph *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->alloc = ds_alloc_make(fail_at);
    ds_graph_init(&self->graph, &self->alloc);
    self->arrays = PyList_New(0);
    if (!self->arrays)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int graph_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((ds_py_graph *)self)->arrays);
    return 0;
}

static void graph_dealloc(PyObject *object)
{
    ds_py_graph *self = (ds_py_graph *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->graph.alloc)
        ds_graph_clear(&self->graph);
    ds_warn_leak(object, &self->alloc);
    Py_XDECREF(self->arrays);
    type->tp_free(object);
    Py_DECREF(type);
}

/* A compile reads the nodes without the GIL; adding one would move them. */
static bool may_grow(ds_py_graph *self)
{
    if (!self->compiling)
        return true;
    PyErr_SetString(ds_state((PyObject *)self)->busy,
                    "graph: is being compiled in another thread; add nodes before or after");
    return false;
}

ds_id ds_find_leaf(const ds_graph *graph, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        const ds_node *node = &graph->nodes[i];
        if ((node->op == DS_OP_input || node->op == DS_OP_variable) &&
            strcmp(node->name, name) == 0)
            return (ds_id)i;
    }
    return DS_NONE;
}

static bool read_kind(const char *op, const char *text, ds_kind *kind)
{
    *kind = strcmp(text, "map") == 0 ? DS_MAP : DS_PLAIN;
    if (*kind == DS_MAP || strcmp(text, "plain") == 0)
        return true;
    PyErr_Format(PyExc_ValueError, "%s: kind='%s' must be one of plain|map", op, text);
    return false;
}

/* Inputs and variables are addressed by name, so theirs are unique; a constant's is for messages.
 */
static bool check_name(const ds_py_graph *self, ds_op op, const char *name)
{
    const size_t most = sizeof self->graph.nodes->name - 1;
    const char *title = ds_ops[op].name;
    if (strlen(name) > most) {
        PyErr_Format(PyExc_ValueError, "%s: name='%s' must have at most %zu bytes", title, name,
                     most);
        return false;
    }
    if (op == DS_OP_constant)
        return true;
    if (!name[0]) {
        PyErr_Format(PyExc_ValueError, "%s: name='' must not be empty", title);
        return false;
    }
    if (ds_find_leaf(&self->graph, self->graph.count, name) == DS_NONE)
        return true;
    PyErr_Format(PyExc_ValueError, "%s: name='%s' is taken; choose another", title, name);
    return false;
}

static PyObject *add_leaf(ds_py_graph *self, ds_op op, const char *name, ds_tensor tensor)
{
    ds_status status = ds_status_ok();
    ds_id id = DS_NONE;
    if (!may_grow(self) || !check_name(self, op, name))
        return NULL;
    if (ds_graph_leaf(&self->graph, op, name, tensor, &id, &status) != DS_OK)
        return ds_raise(ds_state((PyObject *)self), &self->graph, &status);
    return ds_node_new(self, id);
}

static PyObject *add_array(ds_py_graph *self, ds_op op, const char *name, PyObject *object,
                           ds_kind kind)
{
    ds_array array = {0};
    char what[64];
    PyOS_snprintf(what, sizeof what, name[0] ? "%s '%.40s'" : "%s", ds_ops[op].name, name);
    if (!ds_array_read(object, what, &array))
        return NULL;
    /* The node points into the array, so the array stays even where adding the node fails. */
    const int kept = PyList_Append(self->arrays, array.object);
    Py_DECREF(array.object);
    if (kept < 0)
        return NULL;
    const ds_tensor tensor = {
        .shape = array.shape, .kind = kind, .dtype = array.dtype, .data = array.data};
    return add_leaf(self, op, name, tensor);
}

static PyObject *graph_input(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"name", "shape", "kind", NULL};
    const char *name = NULL, *kind_text = "map";
    PyObject *shape = NULL;
    long long n = 0, c = 0, h = 0, w = 0;
    ds_kind kind = DS_MAP;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "sO|s:input", (char **)names, &name, &shape,
                                     &kind_text) ||
        !read_kind("input", kind_text, &kind))
        return NULL;
    PyObject *tuple = PySequence_Tuple(shape);
    const bool good = tuple && PyArg_ParseTuple(tuple, "LLLL", &n, &c, &h, &w);
    Py_XDECREF(tuple);
    if (!good)
        return PyErr_Format(PyExc_ValueError, "input: shape=%R must be four integers (N, C, H, W)",
                            shape);
    return add_leaf((ds_py_graph *)self, DS_OP_input, name,
                    (ds_tensor){.shape = {n, c, h, w}, .kind = kind, .dtype = DS_F32});
}

static PyObject *graph_constant(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"array", "kind", "name", NULL};
    const char *name = "", *kind_text = "plain";
    PyObject *array = NULL;
    ds_kind kind = DS_PLAIN;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|ss:constant", (char **)names, &array,
                                     &kind_text, &name) ||
        !read_kind("constant", kind_text, &kind))
        return NULL;
    return add_array((ds_py_graph *)self, DS_OP_constant, name, array, kind);
}

static PyObject *graph_variable(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"name", "array", "kind", NULL};
    const char *name = NULL, *kind_text = "map";
    PyObject *array = NULL;
    ds_kind kind = DS_MAP;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "sO|s:variable", (char **)names, &name, &array,
                                     &kind_text) ||
        !read_kind("variable", kind_text, &kind))
        return NULL;
    return add_array((ds_py_graph *)self, DS_OP_variable, name, array, kind);
}

/* Reads the positional arguments of an op; an optional input may be None. False with an exception
   set. */
static bool read_inputs(ds_py_graph *self, ds_op op, PyObject *const *args, Py_ssize_t given,
                        ds_id *in, int *count)
{
    char what[64];
    while (given > ds_ops[op].fewest && args[given - 1] == Py_None)
        given--;
    if (given > ds_ops[op].most) {
        PyErr_Format(PyExc_ValueError, "%s: %zd inputs given, at most %d wanted: %s",
                     ds_ops[op].name, given, ds_ops[op].most, ds_ops[op].text);
        return false;
    }
    for (Py_ssize_t i = 0; i < given; i++) {
        PyOS_snprintf(what, sizeof what, "%s: input %d", ds_ops[op].name, (int)i);
        if (!ds_node_read(args[i], self, what, &in[i]))
            return false;
    }
    *count = (int)given;
    return true;
}

static PyObject *add_op(PyObject *object, ds_op op, PyObject *const *args, Py_ssize_t given,
                        PyObject *names)
{
    ds_py_graph *self = (ds_py_graph *)object;
    ds_status status = ds_status_ok();
    int64_t attr[DS_MAX_ATTRS];
    ds_id in[DS_MAX_INPUTS], id = DS_NONE;
    int inputs = 0;
    if (!may_grow(self) || !read_inputs(self, op, args, given, in, &inputs) ||
        !ds_read_attributes(op, args + given, names, attr))
        return NULL;
    if (ds_graph_add(&self->graph, op, in, inputs, attr, &id, &status) != DS_OK)
        return ds_raise(ds_state(object), &self->graph, &status);
    return ds_node_new(self, id);
}

#define OP(name, fewest, most, text, attributes)                                                   \
    static PyObject *op_##name(PyObject *self, PyObject *const *args, Py_ssize_t given,            \
                               PyObject *names)                                                    \
    {                                                                                              \
        return add_op(self, DS_OP_##name, args, given, names);                                     \
    }
#define INT(name, value)
#define REAL(name, value)
#define FLAG(name, value)
#define CHOICE(name, value, names)
#include "core/ops.def"

static PyObject *graph_gradient(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"loss", "wrt", NULL};
    ds_py_graph *self = (ds_py_graph *)object;
    PyObject *loss = NULL, *wrt = NULL, *result = NULL;
    ds_status status = ds_status_ok();
    ds_id loss_id = DS_NONE, *ids = NULL, *gradients = NULL;
    size_t count = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO:gradient", (char **)names, &loss, &wrt) ||
        !may_grow(self) || !ds_node_read(loss, self, "gradient: loss", &loss_id) ||
        !ds_nodes_read(wrt, self, "gradient: wrt", &self->alloc, &ids, &count))
        return NULL;
    DS_TRY(ds_alloc_raw(&self->alloc, count * sizeof *gradients, &gradients, &status));
    DS_TRY(ds_graph_gradient(&self->graph, loss_id, ids, count, gradients, &status));
    result = ds_nodes_new(self, gradients, count);
exit:
    if (status.code != DS_OK)
        ds_raise(ds_state(object), &self->graph, &status);
    ds_release(&self->alloc, &ids);
    ds_release(&self->alloc, &gradients);
    return result;
}

static PyObject *graph_size(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((ds_py_graph *)self)->graph.count);
}

PyDoc_STRVAR(input_doc, "input(name, shape, kind='map')\n\n"
                        "A tensor of shape (N, C, H, W) that the caller sets before or at a run.\n"
                        "kind is 'map' for feature maps and pictures, 'plain' for all else.");
PyDoc_STRVAR(constant_doc, "constant(array, kind='plain', name='')\n\n"
                           "A tensor known now: weights, means, targets. The array is used where\n"
                           "it lies when it is contiguous float32 or float64; leave it unchanged.");
PyDoc_STRVAR(variable_doc, "variable(name, array, kind='map')\n\n"
                           "A tensor that lives in the plan, starts as array, and that update ops\n"
                           "change in place.");
PyDoc_STRVAR(gradient_doc, "gradient(loss, wrt)\n\n"
                           "Nodes of the gradients of the scalar loss to each node of wrt.");

/* Python skips repeated names in a method table, so the three leaves and their own arguments stand
   before the methods made from the list of ops. */
static PyMethodDef methods[] = {
    {"input", (PyCFunction)(void (*)(void))graph_input, METH_VARARGS | METH_KEYWORDS, input_doc},
    {"constant", (PyCFunction)(void (*)(void))graph_constant, METH_VARARGS | METH_KEYWORDS,
     constant_doc},
    {"variable", (PyCFunction)(void (*)(void))graph_variable, METH_VARARGS | METH_KEYWORDS,
     variable_doc},
    {"gradient", (PyCFunction)(void (*)(void))graph_gradient, METH_VARARGS | METH_KEYWORDS,
     gradient_doc},
    {"compile", (PyCFunction)(void (*)(void))ds_graph_compile, METH_VARARGS | METH_KEYWORDS,
     ds_graph_compile_doc},
#define FLAG_0 "False"
#define FLAG_1 "True"
#define OP(name, fewest, most, text, attributes)                                                   \
    {#name, (PyCFunction)(void (*)(void))op_##name, METH_FASTCALL | METH_KEYWORDS,                 \
     #name "(*inputs" attributes ")\n\n" text},
#define INT(name, value) ", " #name "=" #value
#define REAL(name, value) ", " #name "=" #value
#define FLAG(name, value) ", " #name "=" FLAG_##value
#define CHOICE(name, value, names) ", " #name "=" names
#include "core/ops.def"
    {0},
};

static PyGetSetDef getset[] = {
    {"size", graph_size, NULL, "Number of nodes.", NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Graph(*, fail_at=-1)\n\n"
                "A static graph of ops: one method per op adds a node and returns it.\n"
                "Inputs are positional, attributes are keywords. fail_at is for tests: the\n"
                "number of the memory allocation that fails."},
    {Py_tp_new, graph_new},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_traverse, graph_traverse},
    {Py_tp_dealloc, graph_dealloc},
    {0},
};

PyType_Spec ds_graph_spec = {
    .name = "depthstyle._core.Graph",
    .basicsize = sizeof(ds_py_graph),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
