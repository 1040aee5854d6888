/* A small thread pool. The calling thread is worker 0; a pool of one thread starts none. */
#ifndef DS_BASE_POOL_H
#define DS_BASE_POOL_H

#include "base/alloc.h"

#include <stdbool.h>

typedef struct ds_pool ds_pool;

enum { DS_MAX_THREADS = 256 };

/* `threads` workers including the caller, 1 .. DS_MAX_THREADS. */
ds_code ds_pool_create(ds_alloc *alloc, int threads, ds_pool **pool, ds_status *status);
void ds_pool_destroy(ds_pool **pool);
int ds_pool_threads(const ds_pool *pool);

/* Calls task(context, item, worker) once for every item in [0, items), on any worker, in any order,
   and returns when all are done. worker is in [0, threads). Results must not depend on which worker
   runs an item: partial sums belong to items, and are added in item order afterwards.
   A NULL pool runs everything on the caller. Not to be called from within a task. */
typedef void ds_task(void *context, int64_t item, int worker);
void ds_pool_run(ds_pool *pool, int64_t items, ds_task *task, void *context);

/* Asks whether to go on; called often, on the calling thread alone. */
typedef bool ds_poll(void *context);

/* From now on the caller polls between its items. Once the answer is false, no run hands out a
   further item until the next call of this function. A NULL poll ends it. Accepts a NULL pool. */
void ds_pool_watch(ds_pool *pool, ds_poll *poll, void *context);

/* Whether the poll has said to stop. */
bool ds_pool_stopped(const ds_pool *pool);

#endif
