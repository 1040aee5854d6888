/* The epilogue of one vector of output channels; `at` counts floats from the first pixel. */
static inline TARGET vec DS_SLOT(finish)(vec r, const ds_finish *f, int64_t at, int64_t lane)
{
    const vec zero = v_splat(0.0f);
    if (f->bias)
        r = v_add(r, v_load(f->bias + lane));
    if (f->addend)
        r = v_add(r, v_load(f->addend + at));
    if (!f->active)
        return r;
    vec low = v_mul(r, v_splat(f->slope));
    if (f->gate) {
        vec gate = v_load(f->gate + at);
        r = v_greater(gate, zero, r, low);
        return v_greater(v_splat(f->high), gate, r, zero);
    }
    /* In this order of operands a NaN passes through. */
    return v_min(v_splat(f->high), v_greater(zero, r, low, r));
}
