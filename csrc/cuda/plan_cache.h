/* Which of cuDNN's engines was the fastest for a convolution, found by running them, and the folder
   where that is kept from process to process. Knows neither CUDA nor cuDNN. */
#ifndef DS_CUDA_PLAN_CACHE_H
#define DS_CUDA_PLAN_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ds_plan_choice {
    int64_t position; /* among the configurations that are offered; -1: none of them will do */
    int64_t engine;   /* which that one must be of */
} ds_plan_choice;

enum { DS_PLAN_KEY_BYTES = 512 };

/* The choice that was kept under a key; false where there is none, or its file is damaged. The key
   is one line that says all that the choice depends on. `folder` may be NULL: nothing is kept. */
bool ds_plan_cache_read(const char *folder, const char *key, ds_plan_choice *choice);

/* Keeps a choice. A folder that cannot be written to costs time later and is no error; who reads
   at the same moment finds the old file or the new one. */
void ds_plan_cache_write(const char *folder, const char *key, const ds_plan_choice *choice);

/* The first of the times that is at most 3 % above the least, so that noise among equals does not
   decide. */
size_t ds_plan_fastest(const float *milliseconds, size_t count);

#endif
