#include "cuda/plan_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES = DS_PLAN_KEY_BYTES + 128, PATH_BYTES = 4096 };

static const double NEAR = 1.03;

/* FNV-1a, 64 bits. */
static uint64_t hash(const char *text)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (; *text; text++)
        value = (value ^ (unsigned char)*text) * 0x100000001b3u;
    return value;
}

/* What a file holds; false where it would not fit. */
static bool render(const char *key, const ds_plan_choice *choice, char text[FILE_BYTES])
{
    const int count = snprintf(text, FILE_BYTES, "depthstyle plan 1\n%s\n%" PRId64 " %" PRId64 "\n",
                               key, choice->position, choice->engine);
    if (count < 0 || count + 18 > FILE_BYTES)
        return false;
    snprintf(text + count, FILE_BYTES - (size_t)count, "%016" PRIx64 "\n", hash(text));
    return true;
}

static bool make_path(const char *folder, const char *name, char path[PATH_BYTES])
{
    const int count = snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    return count > 0 && count < PATH_BYTES;
}

static bool path_of(const char *folder, const char *key, char path[PATH_BYTES])
{
    char name[32];
    snprintf(name, sizeof name, "%016" PRIx64 ".plan", hash(key));
    return make_path(folder, name, path);
}

/* The numbers of a file's third line; whether they are the written ones is for the caller. */
static bool parse(const char *text, ds_plan_choice *choice)
{
    const char *line = strchr(text, '\n');
    line = line ? strchr(line + 1, '\n') : NULL;
    return line &&
           sscanf(line + 1, "%" SCNd64 " %" SCNd64, &choice->position, &choice->engine) == 2;
}

bool ds_plan_cache_read(const char *folder, const char *key, ds_plan_choice *choice)
{
    char path[PATH_BYTES], found[FILE_BYTES], right[FILE_BYTES];
    ds_plan_choice read;
    if (!folder || !path_of(folder, key, path))
        return false;
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    const size_t count = fread(found, 1, sizeof found - 1, file);
    fclose(file);
    found[count] = '\0';
    if (!parse(found, &read) || !render(key, &read, right) || strlen(right) != count ||
        memcmp(found, right, count) != 0)
        return false;
    *choice = read;
    return true;
}

void ds_plan_cache_write(const char *folder, const char *key, const ds_plan_choice *choice)
{
    char path[PATH_BYTES], temporary[PATH_BYTES], text[FILE_BYTES];
    if (!folder || !render(key, choice, text) || !path_of(folder, key, path) ||
        !make_path(folder, "planXXXXXX", temporary))
        return;
    const int file = mkstemp(temporary);
    if (file < 0)
        return;
    const ssize_t written = write(file, text, strlen(text));
    if (close(file) != 0 || written != (ssize_t)strlen(text) || rename(temporary, path) != 0)
        unlink(temporary);
}

size_t ds_plan_fastest(const float *milliseconds, size_t count)
{
    size_t least = 0, first = 0;
    for (size_t i = 1; i < count; i++)
        if (milliseconds[i] < milliseconds[least])
            least = i;
    while (milliseconds[first] > NEAR * milliseconds[least])
        first++;
    return first;
}
