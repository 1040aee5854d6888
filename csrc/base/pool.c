#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>

/* How often an idle worker looks for the next job before it sleeps: about 50 microseconds, longer
   than the pause between two nodes, shorter than anything a user notices. */
enum { SPINS = 4000 };

typedef struct worker {
    ds_pool *pool;
    pthread_t thread;
    int index;
} worker;

struct ds_pool {
    ds_alloc *alloc;
    worker *workers; /* (threads), entry 0 unused: the caller */
    int started;     /* threads that exist, counted with the caller */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_cond_t done;
    ds_task *task;
    void *context;
    int64_t items;
    atomic_llong next;  /* the item that is handed out next */
    atomic_uint job;    /* counts jobs; a change wakes the workers */
    atomic_int running; /* workers that have not finished the job */
    atomic_bool stopping;
    ds_poll *poll; /* NULL: none */
    void *poll_context;
    atomic_bool stopped; /* the poll said so */
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void ask(ds_pool *pool)
{
    if (pool->poll && !ds_pool_stopped(pool) && !pool->poll(pool->poll_context))
        atomic_store_explicit(&pool->stopped, true, memory_order_relaxed);
}

static void work(ds_pool *pool, int index)
{
    for (;;) {
        int64_t item = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (item >= pool->items || ds_pool_stopped(pool))
            return;
        pool->task(pool->context, item, index);
        if (index == 0)
            ask(pool);
    }
}

static void wait_for_job(ds_pool *pool, unsigned seen)
{
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(&pool->job, memory_order_acquire) != seen)
            return;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load_explicit(&pool->job, memory_order_acquire) == seen)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

static void finish_job(ds_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->running, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->mutex);
}

static void *worker_main(void *argument)
{
    worker *self = argument;
    ds_pool *pool = self->pool;
    for (unsigned seen = 0;; seen++) {
        wait_for_job(pool, seen);
        if (atomic_load_explicit(&pool->stopping, memory_order_acquire))
            return NULL;
        work(pool, self->index);
        finish_job(pool);
    }
}

static void start_job(ds_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_store_explicit(&pool->running, pool->started - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->job, 1, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void wait_for_workers(ds_pool *pool)
{
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(&pool->running, memory_order_acquire) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load_explicit(&pool->running, memory_order_acquire) != 0)
        pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

ds_code ds_pool_create(ds_alloc *alloc, int threads, ds_pool **out, ds_status *status)
{
    ds_pool *pool = NULL;
    *out = NULL;
    if (threads < 1 || threads > DS_MAX_THREADS)
        return ds_fail(status, DS_BAD_VALUE, "threads=%d: give 1 to %d", threads, DS_MAX_THREADS);
    DS_TRY(ds_alloc_zeroed(alloc, sizeof *pool, &pool, status));
    pool->alloc = alloc;
    pool->started = 1;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    DS_TRY(ds_alloc_zeroed(alloc, (size_t)threads * sizeof(worker), &pool->workers, status));
    for (int index = 1; index < threads; index++) {
        worker *self = &pool->workers[index];
        *self = (worker){.pool = pool, .index = index};
        if (pthread_create(&self->thread, NULL, worker_main, self) != 0) {
            ds_fail(status, DS_NO_MEMORY, "threads=%d: the system gives only %d; ask for fewer",
                    threads, index);
            goto exit;
        }
        pool->started++;
    }
exit:
    if (status->code != DS_OK)
        ds_pool_destroy(&pool);
    *out = pool;
    return status->code;
}

void ds_pool_destroy(ds_pool **address)
{
    ds_pool *pool = *address;
    if (!pool)
        return;
    atomic_store_explicit(&pool->stopping, true, memory_order_release);
    start_job(pool);
    for (int index = 1; index < pool->started; index++)
        pthread_join(pool->workers[index].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    ds_alloc *alloc = pool->alloc;
    ds_release(alloc, &pool->workers);
    ds_release(alloc, address);
}

int ds_pool_threads(const ds_pool *pool)
{
    return pool ? pool->started : 1;
}

void ds_pool_run(ds_pool *pool, int64_t items, ds_task *task, void *context)
{
    if (!pool || pool->started == 1 || items <= 1) {
        for (int64_t item = 0; item < items && !ds_pool_stopped(pool); item++) {
            task(context, item, 0);
            if (pool)
                ask(pool);
        }
        return;
    }
    pool->task = task;
    pool->context = context;
    pool->items = items;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    start_job(pool);
    work(pool, 0);
    wait_for_workers(pool);
}

void ds_pool_watch(ds_pool *pool, ds_poll *poll, void *context)
{
    if (!pool)
        return;
    pool->poll = poll;
    pool->poll_context = context;
    atomic_store_explicit(&pool->stopped, false, memory_order_relaxed);
}

bool ds_pool_stopped(const ds_pool *pool)
{
    return pool && atomic_load_explicit(&pool->stopped, memory_order_relaxed);
}
