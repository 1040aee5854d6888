/* Attributes of ops: from Python keywords, and described for the docs. */
#include "py/graph_type.h"

#include <math.h>
#include <string.h>

/* Sizes beyond this are mistakes, and sums of a few of them fit in 64 bits. */
static const long long MAX_INT = INT64_C(1) << 31;

/* A bool is an int to Python, but stride=True is a mistake. */
static bool read_int(const char *op, const ds_attr_def *def, PyObject *value, int64_t *slot)
{
    int overflow = 0;
    PyObject *index = PyBool_Check(value) ? NULL : PyNumber_Index(value);
    const long long number = index ? PyLong_AsLongLongAndOverflow(index, &overflow) : 0;
    const bool good = index && !overflow && number >= -MAX_INT && number <= MAX_INT;
    Py_XDECREF(index);
    PyErr_Clear();
    *slot = number;
    if (!good)
        PyErr_Format(PyExc_ValueError, "%s: %s=%R must be an integer", op, def->name, value);
    return good;
}

static bool read_real(const char *op, const ds_attr_def *def, PyObject *value, int64_t *slot)
{
    const double number = PyBool_Check(value) ? NAN : PyFloat_AsDouble(value);
    const bool good = !PyErr_Occurred() && isfinite(number);
    PyErr_Clear();
    memcpy(slot, &number, sizeof number);
    if (!good)
        PyErr_Format(PyExc_ValueError, "%s: %s=%R must be a finite number", op, def->name, value);
    return good;
}

static bool read_flag(const char *op, const ds_attr_def *def, PyObject *value, int64_t *slot)
{
    *slot = value == Py_True;
    if (PyBool_Check(value))
        return true;
    PyErr_Format(PyExc_ValueError, "%s: %s=%R must be True or False", op, def->name, value);
    return false;
}

/* The position of `text` among names like "zero|reflect", -1 when it is not there. */
static int find_choice(const char *names, const char *text)
{
    const size_t length = strlen(text);
    for (int position = 0;; position++) {
        const size_t size = strcspn(names, "|");
        if (size == length && memcmp(names, text, size) == 0)
            return position;
        if (!names[size])
            return -1;
        names += size + 1;
    }
}

static bool read_choice(const char *op, const ds_attr_def *def, PyObject *value, int64_t *slot)
{
    const char *text = PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : NULL;
    PyErr_Clear();
    *slot = text ? find_choice(def->names, text) : -1;
    if (*slot >= 0)
        return true;
    PyErr_Format(PyExc_ValueError, "%s: %s=%R must be one of %s", op, def->name, value, def->names);
    return false;
}

static bool read_attribute(const char *op, const ds_attr_def *def, PyObject *value, int64_t *slot)
{
    switch (def->type) {
    case DS_ATTR_INT:
        return read_int(op, def, value, slot);
    case DS_ATTR_REAL:
        return read_real(op, def, value, slot);
    case DS_ATTR_FLAG:
        return read_flag(op, def, value, slot);
    default:
        return read_choice(op, def, value, slot);
    }
}

static PyObject *split_choices(const char *names)
{
    PyObject *joined = PyUnicode_FromString(names ? names : "");
    PyObject *choices = joined && names ? PyObject_CallMethod(joined, "split", "s", "|") : NULL;
    if (joined && !names)
        choices = PyList_New(0);
    Py_XDECREF(joined);
    return choices;
}

static void raise_unknown(ds_op op, PyObject *name)
{
    char known[256] = "";
    for (const ds_attr_def *def = ds_ops[op].attrs; def->name; def++) {
        const size_t used = strlen(known);
        PyOS_snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", def->name);
    }
    PyErr_Format(PyExc_TypeError, "%s: no attribute %R; it takes %s", ds_ops[op].name, name,
                 known[0] ? known : "none");
}

bool ds_read_attributes(ds_op op, PyObject *const *values, PyObject *names, int64_t *attr)
{
    ds_op_defaults(op, attr);
    const Py_ssize_t count = names ? PyTuple_GET_SIZE(names) : 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        const ds_attr_def *def = ds_ops[op].attrs;
        while (def->name && PyUnicode_CompareWithASCIIString(name, def->name) != 0)
            def++;
        if (!def->name) {
            raise_unknown(op, name);
            return false;
        }
        if (!read_attribute(ds_ops[op].name, def, values[i], &attr[def - ds_ops[op].attrs]))
            return false;
    }
    return true;
}

static PyObject *default_of(const ds_attr_def *def, PyObject *choices)
{
    switch (def->type) {
    case DS_ATTR_INT:
        return PyLong_FromLongLong((long long)def->value);
    case DS_ATTR_REAL:
        return PyFloat_FromDouble(def->value);
    case DS_ATTR_FLAG:
        return PyBool_FromLong(def->value != 0);
    default:
        return PySequence_GetItem(choices, (Py_ssize_t)def->value);
    }
}

static PyObject *describe_attribute(const ds_attr_def *def)
{
    static const char *const types[] = {"int", "float", "bool", "str"};
    PyObject *choices = split_choices(def->names);
    PyObject *value = choices ? default_of(def, choices) : NULL;
    PyObject *text = value ? Py_BuildValue("{s:s,s:s,s:O,s:O}", "name", def->name, "type",
                                           types[def->type], "default", value, "choices", choices)
                           : NULL;
    Py_XDECREF(value);
    Py_XDECREF(choices);
    return text;
}

static PyObject *describe_op(const ds_op_def *op)
{
    PyObject *attributes = PyList_New(0);
    for (const ds_attr_def *def = op->attrs; attributes && def->name; def++) {
        PyObject *attribute = describe_attribute(def);
        if (!attribute || PyList_Append(attributes, attribute) < 0)
            Py_CLEAR(attributes);
        Py_XDECREF(attribute);
    }
    if (!attributes)
        return NULL;
    return Py_BuildValue("{s:s,s:(ii),s:s,s:N}", "name", op->name, "inputs", op->fewest, op->most,
                         "text", op->text, "attributes", attributes);
}

PyObject *ds_describe_ops(void)
{
    PyObject *list = PyList_New(0);
    for (int op = 0; list && op < DS_OP_COUNT; op++) {
        PyObject *entry = describe_op(&ds_ops[op]);
        if (!entry || PyList_Append(list, entry) < 0)
            Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}
