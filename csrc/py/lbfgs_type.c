#include "py/lbfgs_type.h"

#include "optim/lbfgs.h"
#include "py/array.h"
#include "py/plan_type.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

typedef struct ds_py_lbfgs {
    PyObject_HEAD ds_alloc alloc;
    PyObject *plan;            /* NULL: none */
    ds_device_vectors on_plan; /* of a plan on a device; backend NULL: vectors are here */
    ds_pool *pool;
    ds_host_vectors *vectors;
    ds_lbfgs *lbfgs;
    int64_t length, history;
    Py_ssize_t shape[2]; /* of the memory: (2 history + 2, length) */
    Py_ssize_t strides[2];
    pid_t process; /* where the threads of the pool live */
    bool running;
} ds_py_lbfgs;

/* Allocates all that a step needs. False with an exception set. */
static bool build(ds_py_lbfgs *self, int threads, int64_t history, double rate)
{
    ds_status status = ds_status_ok();
    DS_TRY(ds_pool_create(&self->alloc, threads, &self->pool, &status));
    if (!self->on_plan.backend)
        DS_TRY(ds_host_vectors_create(&self->alloc, self->pool, self->length,
                                      ds_lbfgs_rows(history), &self->vectors, &status));
    DS_TRY(ds_lbfgs_create(&self->alloc,
                           self->on_plan.backend ? ds_device_vectors_table(&self->on_plan)
                                                 : ds_host_vectors_table(self->vectors),
                           self->length, history, rate, &self->lbfgs, &status));
exit:
    if (status.code != DS_OK)
        ds_raise(ds_state((PyObject *)self), NULL, &status);
    return status.code == DS_OK;
}

static bool check_arguments(long long length, long long history, PyObject *rate, double value)
{
    if (length < 1)
        PyErr_Format(PyExc_ValueError, "LBFGS: n=%lld must be at least 1", length);
    else if (history < 1 || history > INT32_MAX)
        PyErr_Format(PyExc_ValueError, "LBFGS: history=%lld must be from 1 to %d", history,
                     INT32_MAX);
    else if (!(value > 0) || !isfinite(value))
        PyErr_Format(PyExc_ValueError, "LBFGS: rate=%R must be a finite number above 0", rate);
    else
        return true;
    return false;
}

/* False with an exception set. */
static bool use_plan(ds_py_lbfgs *self, PyTypeObject *type, PyObject *plan)
{
    const ds_module_state *state = PyType_GetModuleState(type);
    if (plan == Py_None)
        return true;
    if (!Py_IS_TYPE(plan, state->plan_type)) {
        PyErr_SetString(PyExc_TypeError, "LBFGS: plan must be a Plan");
        return false;
    }
    ds_backend *backend = ds_py_plan_backend(plan);
    self->plan = Py_NewRef(plan);
    if (backend->device)
        self->on_plan = (ds_device_vectors){backend, self->length};
    return true;
}

static PyObject *lbfgs_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *const names[] = {"n", "history", "rate", "threads", "plan", "fail_at", NULL};
    PyObject *rate = NULL, *threads = Py_None, *plan = Py_None;
    long long length = 0, history = 100, fail_at = -1;
    int count = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "L|LO$OOL:LBFGS", (char **)names, &length,
                                     &history, &rate, &threads, &plan, &fail_at))
        return NULL;
    const double value = rate ? PyFloat_AsDouble(rate) : 1;
    if (PyErr_Occurred() || !check_arguments(length, history, rate, value) ||
        !ds_read_threads(PyType_GetModuleState(type), threads, &count))
        return NULL;
    ds_py_lbfgs *self = (ds_py_lbfgs *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->alloc = ds_alloc_make(fail_at);
    self->length = length;
    self->history = history;
    self->shape[0] = 2 * history + 2;
    self->shape[1] = length;
    self->strides[0] = length * (Py_ssize_t)sizeof(float);
    self->strides[1] = sizeof(float);
    self->process = getpid();
    if (!use_plan(self, type, plan) || !build(self, count, history, value))
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* An optimiser whose threads died in a fork cannot be taken down: its memory stays. */
static void release(ds_py_lbfgs *self)
{
    if (self->process != getpid())
        return;
    ds_lbfgs_destroy(&self->lbfgs);
    ds_host_vectors_destroy(&self->vectors);
    ds_pool_destroy(&self->pool);
    ds_warn_leak((PyObject *)self, &self->alloc);
}

static void lbfgs_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    release((ds_py_lbfgs *)object);
    Py_XDECREF(((ds_py_lbfgs *)object)->plan);
    type->tp_free(object);
    Py_DECREF(type);
}

/* False with an exception set where the optimiser cannot be used now. */
static bool is_free(ds_py_lbfgs *self)
{
    PyObject *busy = ds_state((PyObject *)self)->busy;
    if (self->process != getpid())
        PyErr_SetString(busy, "LBFGS: was made in another process, whose threads a fork does not "
                              "copy; make another in this one");
    else if (self->running)
        PyErr_SetString(busy, "LBFGS: a step is under way in another thread; wait for it");
    else
        return true;
    return false;
}

/* A vector of the plan: an image, which is one piece of memory on every backend. False with an
   exception set. */
static bool find_vector(const ds_py_lbfgs *self, PyObject *name, const ds_tensor **tensor)
{
    if (!self->plan || !PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_ValueError, "LBFGS: give arrays, or with plan= names of its "
                                          "variables");
        return false;
    }
    if (!ds_py_plan_tensor(self->plan, name, tensor))
        return false;
    const ds_shape s = (*tensor)->shape;
    if (ds_count(s) == self->length && (s.c <= 4 || (*tensor)->kind == DS_PLAIN))
        return true;
    PyErr_Format(PyExc_ValueError, "LBFGS: %R must have %lld values in at most 4 channels", name,
                 (long long)self->length);
    return false;
}

/* A step of arrays, or of variables of the plan. */
static bool step(ds_py_lbfgs *self, float *x, double loss, const float *gradient)
{
    ds_status status = ds_status_ok();
    self->running = true;
    Py_BEGIN_ALLOW_THREADS ds_lbfgs_step(self->lbfgs, loss, gradient, x, &status);
    if (self->on_plan.backend)
        self->on_plan.backend->device->told(self->on_plan.backend, &status);
    Py_END_ALLOW_THREADS self->running = false;
    if (status.code != DS_OK)
        ds_raise(ds_state((PyObject *)self), NULL, &status);
    return status.code == DS_OK;
}

static bool step_of_plan(ds_py_lbfgs *self, PyObject *x_name, double loss, PyObject *gradient_name)
{
    const ds_tensor *x = NULL, *gradient = NULL;
    if (!find_vector(self, x_name, &x) || !find_vector(self, gradient_name, &gradient) ||
        !ds_py_plan_take(self->plan))
        return false;
    const bool done = step(self, x->data, loss, gradient->data);
    ds_py_plan_give(self->plan);
    return done;
}

static bool step_of_arrays(ds_py_lbfgs *self, PyObject *x_array, double loss,
                           PyObject *gradient_array)
{
    float *x = ds_array_floats(x_array, "LBFGS.step: x", self->length, true);
    const float *gradient =
        x ? ds_array_floats(gradient_array, "LBFGS.step: gradient", self->length, false) : NULL;
    return gradient && step(self, x, loss, gradient);
}

static PyObject *lbfgs_step(PyObject *object, PyObject *args)
{
    ds_py_lbfgs *self = (ds_py_lbfgs *)object;
    PyObject *x = NULL, *gradient = NULL;
    double loss = 0;
    if (!PyArg_ParseTuple(args, "OdO:step", &x, &loss, &gradient) || !is_free(self))
        return NULL;
    const bool done = self->on_plan.backend || PyUnicode_Check(x)
                          ? step_of_plan(self, x, loss, gradient)
                          : step_of_arrays(self, x, loss, gradient);
    return done ? PyFloat_FromDouble(ds_lbfgs_slope(self->lbfgs)) : NULL;
}

/* A row of the memory as a tensor like the variable `name` of the plan. False with an exception
   set. */
static bool find_row(ds_py_lbfgs *self, Py_ssize_t row, PyObject *name, ds_tensor *tensor)
{
    const ds_tensor *like = NULL;
    if (!is_free(self) || !find_vector(self, name, &like))
        return false;
    if (row < 0 || row >= self->shape[0]) {
        PyErr_Format(PyExc_ValueError, "LBFGS: row %zd of %zd", row, self->shape[0]);
        return false;
    }
    *tensor = *like;
    tensor->data = ds_lbfgs_memory(self->lbfgs) + row * self->length;
    return true;
}

static PyObject *lbfgs_get_row(PyObject *object, PyObject *args)
{
    ds_py_lbfgs *self = (ds_py_lbfgs *)object;
    PyObject *name = NULL;
    Py_ssize_t row = 0;
    ds_tensor tensor;
    void *data = NULL;
    if (!PyArg_ParseTuple(args, "nO:get_row", &row, &name) || !find_row(self, row, name, &tensor))
        return NULL;
    PyObject *array = ds_array_new(tensor.shape, DS_F32, &data);
    ds_backend *backend = ds_py_plan_backend(self->plan);
    if (array)
        backend->unpack(backend, &tensor, data, DS_F32);
    return array;
}

static PyObject *lbfgs_set_row(PyObject *object, PyObject *args)
{
    ds_py_lbfgs *self = (ds_py_lbfgs *)object;
    PyObject *name = NULL, *array = NULL;
    Py_ssize_t row = 0;
    ds_tensor tensor;
    if (!PyArg_ParseTuple(args, "nOO:set_row", &row, &name, &array) ||
        !find_row(self, row, name, &tensor))
        return NULL;
    const float *values = ds_array_floats(array, "LBFGS.set_row: array", self->length, false);
    ds_backend *backend = ds_py_plan_backend(self->plan);
    if (values)
        backend->pack(backend, values, DS_F32, &tensor);
    return values ? Py_NewRef(Py_None) : NULL;
}

/* The memory as a writable array for NumPy. */
static int lbfgs_buffer(PyObject *object, Py_buffer *view, int flags)
{
    ds_py_lbfgs *self = (ds_py_lbfgs *)object;
    view->obj = NULL;
    if (!is_free(self))
        return -1;
    if (self->on_plan.backend) {
        PyErr_SetString(PyExc_BufferError, "LBFGS: the vectors are on a device; use get_row");
        return -1;
    }
    const Py_ssize_t bytes = self->shape[0] * self->strides[0];
    if (PyBuffer_FillInfo(view, object, ds_lbfgs_memory(self->lbfgs), bytes, 0, flags) < 0)
        return -1;
    view->format = flags & PyBUF_FORMAT ? "f" : NULL;
    view->itemsize = sizeof(float);
    view->ndim = flags & PyBUF_ND ? 2 : 1;
    view->shape = flags & PyBUF_ND ? self->shape : NULL;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL;
    return 0;
}

/* Between the products of the kept pairs, (2, kept, kept), and their places in the optimiser. */
static void move_products(const ds_py_lbfgs *self, int64_t kept, double *products, bool in)
{
    const size_t bytes = (size_t)kept * sizeof(double);
    double *own = ds_lbfgs_products(self->lbfgs);
    for (int64_t row = 0; row < 2 * kept; row++) {
        double *there = own + (row / kept * self->history + row % kept) * self->history;
        double *here = products + row * kept;
        memcpy(in ? there : here, in ? here : there, bytes);
    }
}

static PyObject *lbfgs_get_state(PyObject *object, void *Py_UNUSED(closure))
{
    ds_py_lbfgs *self = (ds_py_lbfgs *)object;
    void *products = NULL;
    if (!is_free(self))
        return NULL;
    const ds_lbfgs_state state = ds_lbfgs_get(self->lbfgs);
    PyObject *array = ds_array_new((ds_shape){1, 2, state.kept, state.kept}, DS_F64, &products);
    if (!array)
        return NULL;
    move_products(self, state.kept, products, false);
    return Py_BuildValue("NLN", PyBool_FromLong(state.started), (long long)state.newest, array);
}

/* Reads a state; the caller gives back the array. False with an exception set. */
static bool read_state(const ds_py_lbfgs *self, PyObject *value, ds_lbfgs_state *state,
                       ds_array *products)
{
    PyObject *array = NULL;
    int started = 0;
    long long newest = 0;
    if (!value || !PyTuple_Check(value) ||
        !PyArg_ParseTuple(value, "pLO:state", &started, &newest, &array)) {
        PyErr_SetString(PyExc_ValueError, "LBFGS.state: give what another one's state was");
        return false;
    }
    if (!ds_array_read(array, "LBFGS.state: products", products))
        return false;
    const int64_t kept = products->shape.w;
    *state = (ds_lbfgs_state){.started = started, .kept = kept, .newest = newest};
    if (!ds_array_check(products->shape, "LBFGS.state: products", (ds_shape){1, 2, kept, kept}))
        return false;
    if (products->dtype != DS_F64) {
        PyErr_SetString(PyExc_ValueError, "LBFGS.state: products must be float64");
        return false;
    }
    if (kept <= self->history && newest >= -1 && newest < kept && (newest < 0) == (kept == 0))
        return true;
    PyErr_Format(PyExc_ValueError, "LBFGS.state: pair %lld of %lld in a history of %lld", newest,
                 (long long)kept, (long long)self->history);
    return false;
}

static int lbfgs_set_state(PyObject *object, PyObject *value, void *Py_UNUSED(closure))
{
    ds_py_lbfgs *self = (ds_py_lbfgs *)object;
    ds_lbfgs_state state = {0};
    ds_array products = {0};
    const bool good = is_free(self) && read_state(self, value, &state, &products);
    if (good) {
        move_products(self, state.kept, products.data, true);
        ds_lbfgs_set(self->lbfgs, state);
    }
    Py_XDECREF(products.object);
    return good ? 0 : -1;
}

PyDoc_STRVAR(
    step_doc,
    "step(x, loss, gradient)\n\n"
    "Moves the float32 array x in place, given loss and gradient there. Returns the slope\n"
    "of the loss along the step, below zero for a descent; above zero x did not move.\n"
    "Raises NumericalError, with x as it was, where loss or gradient is not finite.\n"
    "x and gradient may be names of variables of the plan, and are where that is on a device.");

static PyMethodDef methods[] = {
    {"step", lbfgs_step, METH_VARARGS, step_doc},
    {"get_row", lbfgs_get_row, METH_VARARGS,
     "get_row(row, name)\n\nA row of the memory, an array like the plan's variable of that name."},
    {"set_row", lbfgs_set_row, METH_VARARGS, "set_row(row, name, array)\n\nThe reverse."},
    {0},
};

static PyGetSetDef getset[] = {
    {"state", lbfgs_get_state, lbfgs_set_state,
     "Whether a step was done, slot of the newest pair, and the inner products of the kept\n"
     "pairs, float64 (1, 2, kept, kept): s with y, where y is not older, and y with y. With\n"
     "the memory, all that the next step depends on.",
     NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "LBFGS(n, history=100, rate=1.0, *, threads=None, plan=None, fail_at=-1)\n\n"
     "Limited-memory BFGS without line search, by the rule of torch.optim.LBFGS, on\n"
     "arrays of n values. Holds 2 history + 2 such arrays, float32, which NumPy sees as\n"
     "one: the step before, the gradient there, the kept steps, the changes of the\n"
     "gradient. They lie on the device of the plan, if that is on one; it cannot show\n"
     "them to NumPy. fail_at is for tests."},
    {Py_tp_new, lbfgs_new},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_bf_getbuffer, lbfgs_buffer},
    {Py_tp_dealloc, lbfgs_dealloc},
    {0},
};

PyType_Spec ds_lbfgs_spec = {
    .name = "depthstyle._core.LBFGS",
    .basicsize = sizeof(ds_py_lbfgs),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
