/* Limited-memory BFGS without line search, by the rule of torch.optim.LBFGS (Nocedal and Wright,
   Numerical Optimization, algorithm 7.4). With g the gradient at x, a step does

     y = g - g_previous             with s the step before; the pair is kept when s . y > 1e-10
     d = -H g                       by two loops over the newest `history` pairs
     t = rate                       at the first step min(1, 1 / |g|_1) rate
     x = x + s, s = t d

   where H starts from (s . y) / (y . y) of the newest pair. When to stop is the caller's matter.

   d is a sum of the kept s and y and of g, and both loops need of them no more than their inner
   products, so they run on the factors of that sum, in double. Those of the pairs among each other
   are kept, a step adds those of the new pair and of g. It reads the pairs twice: for these
   products, and to add up d. */
#ifndef DS_OPTIM_LBFGS_H
#define DS_OPTIM_LBFGS_H

#include "optim/vectors.h"

typedef struct ds_lbfgs ds_lbfgs;

/* The most rows that ds_vectors gets from an optimiser at a time. */
static inline int64_t ds_lbfgs_rows(int64_t history)
{
    return 2 * history + 1;
}

/* All memory, 2 history + 2 vectors of `length` floats, is allocated here. */
ds_code ds_lbfgs_create(ds_alloc *alloc, ds_vectors vectors, int64_t length, int64_t history,
                        double rate, ds_lbfgs **out, ds_status *status);
void ds_lbfgs_destroy(ds_lbfgs **lbfgs);

/* Moves x by one step. DS_NUMERICAL where loss or gradient is not finite: x and the history stay
   as they were. */
ds_code ds_lbfgs_step(ds_lbfgs *lbfgs, double loss, const float *gradient, float *x,
                      ds_status *status);

/* What the next step depends on, besides the products and the first rows of the memory. */
typedef struct ds_lbfgs_state {
    bool started;
    int64_t kept, newest; /* pairs in the ring, and the slot of the latest, -1 before the first */
} ds_lbfgs_state;

/* To read the state, or to go on from one read before. */
ds_lbfgs_state ds_lbfgs_get(const ds_lbfgs *lbfgs);
void ds_lbfgs_set(ds_lbfgs *lbfgs, ds_lbfgs_state state);

/* Inner products by slots i and j of the ring, (2, history, history): s of i with y of j where j is
   not older than i, else 0; y of i with y of j. */
double *ds_lbfgs_products(ds_lbfgs *lbfgs);

/* The vectors, (2 history + 2, length): s of the step before, the gradient there, s of every slot
   of the ring, y of every slot. Slots up to `kept` have values. */
float *ds_lbfgs_memory(ds_lbfgs *lbfgs);

/* g . d of the latest step: below zero for a descent. Above zero x was left where it stood. */
double ds_lbfgs_slope(const ds_lbfgs *lbfgs);

#endif
