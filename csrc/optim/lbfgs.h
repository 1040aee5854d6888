/* Limited-memory BFGS without line search, by the rule of torch.optim.LBFGS (Nocedal and Wright,
   Numerical Optimization, algorithm 7.4). With g the gradient at x, a step does

     s = t d, y = g - g_previous    of the step before; the pair is kept when s . y > 1e-10
     d = -H g                       by two loops over the newest `history` pairs
     t = rate                       at the first step min(1, 1 / |g|_1) rate
     x = x + t d

   where H starts from (s . y) / (y . y) of the newest pair. When to stop is the caller's matter. */
#ifndef DS_OPTIM_LBFGS_H
#define DS_OPTIM_LBFGS_H

#include "optim/vectors.h"

typedef struct ds_lbfgs ds_lbfgs;

/* All memory, 2 history + 2 vectors of `length` floats, is allocated here. */
ds_code ds_lbfgs_create(ds_alloc *alloc, ds_vectors vectors, int64_t length, int64_t history,
                        double rate, ds_lbfgs **out, ds_status *status);
void ds_lbfgs_destroy(ds_lbfgs **lbfgs);

/* Moves x by one step. DS_NUMERICAL where loss or gradient is not finite: x and the history stay
   as they were. */
ds_code ds_lbfgs_step(ds_lbfgs *lbfgs, double loss, const float *gradient, float *x,
                      ds_status *status);

/* What the next step depends on, besides the first rows of the memory. */
typedef struct ds_lbfgs_state {
    bool started;
    int64_t kept, newest; /* pairs in the ring, and the slot of the latest, -1 before the first */
    double diagonal;      /* (s . y) / (y . y) of the newest pair */
    double step_length;   /* t */
    double *weights;      /* (kept) 1 / (s . y) */
} ds_lbfgs_state;

/* To read the state, or to go on from one read before. The weights stay with the optimiser. */
ds_lbfgs_state ds_lbfgs_get(const ds_lbfgs *lbfgs);
void ds_lbfgs_set(ds_lbfgs *lbfgs, const ds_lbfgs_state *state);

/* The vectors, (2 history + 2, length): d, the gradient of the step before, s of every slot of the
   ring, y of every slot. Slots up to `kept` have values. */
float *ds_lbfgs_memory(ds_lbfgs *lbfgs);

/* g . d of the latest step: below zero for a descent. Above zero x was left where it stood. */
double ds_lbfgs_slope(const ds_lbfgs *lbfgs);

#endif
