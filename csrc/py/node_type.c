/* Node: what Python holds of a node. Every attribute is read from the graph when asked for. */
#include "py/node_type.h"

#include <structmember.h>

PyObject *ds_node_new(ds_py_graph *graph, ds_id id)
{
    PyTypeObject *type = ds_state((PyObject *)graph)->node_type;
    ds_py_node *node = (ds_py_node *)type->tp_alloc(type, 0);
    if (!node)
        return NULL;
    node->graph = (ds_py_graph *)Py_NewRef(graph);
    node->id = id;
    return (PyObject *)node;
}

PyObject *ds_nodes_new(ds_py_graph *graph, const ds_id *ids, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *node = ds_node_new(graph, ids[i]);
        if (!node) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, node);
    }
    return list;
}

bool ds_node_read(PyObject *object, ds_py_graph *graph, const char *what, ds_id *id)
{
    if (!Py_IS_TYPE(object, ds_state((PyObject *)graph)->node_type)) {
        PyErr_Format(PyExc_TypeError,
                     "%s: %s is no node; wrap an array with Graph.constant or Graph.input", what,
                     Py_TYPE(object)->tp_name);
        return false;
    }
    const ds_py_node *node = (ds_py_node *)object;
    if (node->graph != graph) {
        PyErr_Format(PyExc_ValueError, "%s: %R belongs to another graph", what, object);
        return false;
    }
    *id = node->id;
    return true;
}

bool ds_nodes_read(PyObject *sequence, ds_py_graph *graph, const char *what, ds_alloc *alloc,
                   ds_id **ids, size_t *count)
{
    ds_status status = ds_status_ok();
    PyObject *fast = PySequence_Fast(sequence, "");
    if (!fast) {
        PyErr_Format(PyExc_TypeError, "%s: %s is no sequence of nodes; give a list", what,
                     Py_TYPE(sequence)->tp_name);
        return false;
    }
    *count = (size_t)PySequence_Fast_GET_SIZE(fast);
    if (ds_alloc_raw(alloc, *count * sizeof **ids, ids, &status) != DS_OK) {
        ds_raise(ds_state((PyObject *)graph), NULL, &status);
        goto fail;
    }
    for (size_t i = 0; i < *count; i++)
        if (!ds_node_read(PySequence_Fast_GET_ITEM(fast, (Py_ssize_t)i), graph, what, &(*ids)[i]))
            goto fail;
    Py_DECREF(fast);
    return true;
fail:
    ds_release(alloc, ids);
    Py_DECREF(fast);
    return false;
}

static const ds_node *look(PyObject *self)
{
    const ds_py_node *node = (ds_py_node *)self;
    return &node->graph->graph.nodes[node->id];
}

static PyObject *node_shape(PyObject *self, void *Py_UNUSED(closure))
{
    const ds_shape s = look(self)->out.shape;
    return Py_BuildValue("(LLLL)", (long long)s.n, (long long)s.c, (long long)s.h, (long long)s.w);
}

static PyObject *node_op(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(ds_ops[look(self)->op].name);
}

static PyObject *node_kind(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(look(self)->out.kind == DS_MAP ? "map" : "plain");
}

static PyObject *node_name(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(look(self)->name);
}

static PyObject *node_repr(PyObject *self)
{
    char text[128];
    const ds_py_node *node = (ds_py_node *)self;
    const ds_shape s = look(self)->out.shape;
    ds_graph_describe(&node->graph->graph, node->id, text, sizeof text);
    return PyUnicode_FromFormat("<Node %s (%lld, %lld, %lld, %lld)>", text, (long long)s.n,
                                (long long)s.c, (long long)s.h, (long long)s.w);
}

static PyObject *node_compare(PyObject *self, PyObject *other, int how)
{
    if ((how != Py_EQ && how != Py_NE) || !Py_IS_TYPE(other, Py_TYPE(self)))
        Py_RETURN_NOTIMPLEMENTED;
    const ds_py_node *a = (ds_py_node *)self, *b = (ds_py_node *)other;
    const bool same = a->graph == b->graph && a->id == b->id;
    return PyBool_FromLong(same == (how == Py_EQ));
}

static Py_hash_t node_hash(PyObject *self)
{
    const ds_py_node *node = (ds_py_node *)self;
    const Py_hash_t hash = (Py_hash_t)((uintptr_t)node->graph >> 4) ^ node->id;
    return hash == -1 ? -2 : hash;
}

static int node_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((ds_py_node *)self)->graph);
    return 0;
}

/* None of our types needs tp_clear: plans and nodes hold graphs, graphs hold plain arrays. */
static void node_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((ds_py_node *)self)->graph);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"id", T_INT, offsetof(ds_py_node, id), READONLY, "Number of the node in its graph."},
    {"graph", T_OBJECT, offsetof(ds_py_node, graph), READONLY, "The Graph it belongs to."},
    {0},
};

static PyGetSetDef getset[] = {
    {"shape", node_shape, NULL, "(N, C, H, W) of its tensor.", NULL},
    {"op", node_op, NULL, "Name of its op.", NULL},
    {"kind", node_kind, NULL, "'map' for feature maps and pictures, 'plain' for all else.", NULL},
    {"name", node_name, NULL, "What the caller called it, or ''.", NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A tensor of a Graph: the result of one op. Made by the methods of Graph."},
    {Py_tp_members, members},
    {Py_tp_getset, getset},
    {Py_tp_repr, node_repr},
    {Py_tp_richcompare, node_compare},
    {Py_tp_hash, node_hash},
    {Py_tp_traverse, node_traverse},
    {Py_tp_dealloc, node_dealloc},
    {0},
};

PyType_Spec ds_node_spec = {
    .name = "depthstyle._core.Node",
    .basicsize = sizeof(ds_py_node),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
