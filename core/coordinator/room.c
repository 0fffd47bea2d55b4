/* room.c - see room.h. */
#include "coordinator/room.h"
#include "coordinator/state.h"
#include "io/disk.h"
#include "io/file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- looking --------------------------------------------------------------------------------- */
static int64_t memory_total(void)
{
    char text[64] = "";
    int64_t all = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    int64_t limit = strtoll(text, NULL, 10); /* "max" reads as 0: no limit */
    return limit > 0 && limit < all ? limit : all;
}

void room_look(const char *store, const char *dir, room *out)
{
    spec_machine m;
    spec_detect(&m);
    *out = (room){m.memory_bytes, memory_total(), disk_free(store), disk_free(dir)};
}

/* ---- predicting ------------------------------------------------------------------------------ */
/* Bytes of the block linears in the checkpoint. */
static double dense_blocks(const cJSON *spec)
{
    double width = spec_num(spec, "weight_bytes", 0) / fmax(spec_num(spec, "parameters", 1), 1);
    return width * spec_num(spec, "block_parameters", 0);
}

room_need room_predict(const model_config *m, const cJSON *spec, const config *c,
                       const cJSON *steps, const char *rung)
{
    int proxy = !strcmp(rung, "proxy"), export = !strcmp(rung, "export");
    if (!proxy && !export) return (room_need){0, 0};
    double all = predict_trial(m, spec, c, steps).bytes;
    /* The artifact holds what the steps changed: everything but embedding, head and norms. */
    double changed = all - (spec_num(spec, "weight_bytes", 0) - dense_blocks(spec));
    return proxy ? (room_need){fmax(changed, 0), 0} : (room_need){0, all};
}

/* ---- refusing -------------------------------------------------------------------------------- */

/* The widest code whose artifact would fit, groups of 128; 0 = none. */
static int widest_that_fits(const cJSON *spec, double free_bytes)
{
    static const int bits[] = {8, 6, 5, 4, 3, 2};
    double blocks = spec_num(spec, "block_parameters", 0);
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        if (blocks * (bits[i] + (16.0 + bits[i]) / 128) / 8 + 16e6 <= free_bytes) return bits[i];
    return 0;
}

char *room_refusal(const cJSON *spec, const room_need *need, const char *store, const char *dir,
                   const room *now)
{
    int bits = widest_that_fits(spec, (double)now->store_bytes);
    char *fits = bits ? path_format("codes of %d bits would fit, ", bits) : path_format("%s", "");
    char *remedy = path_format("%s`sqz registry gc` may free some; then `sqz run --resume %s` goes "
                               "on",
                               fits, dir);
    char *why =
        disk_refusal("the compressed candidate", need->store, store, now->store_bytes, remedy);
    free(remedy);
    free(fits);
    if (why) return why;
    remedy = path_format("free some; then `sqz run --resume %s` goes on", dir);
    why = disk_refusal("the exported checkpoint", need->run, dir, now->run_bytes, remedy);
    free(remedy);
    return why;
}

/* ---- watching -------------------------------------------------------------------------------- */

/* Low is one twentieth of the memory, between 64 MB and 1 GB. */
static double memory_threshold(const room *now)
{
    return fmin(fmax(0.05 * (double)now->memory_total, 64e6), 1e9);
}

/* Room for a few more candidates, between 200 MB and 2 GB. */
static double disk_threshold(const cJSON *spec)
{
    return fmin(fmax(dense_blocks(spec), 200e6), 2e9);
}

/* 1 when the shortage begins now. */
static int falls_short(int *low, int64_t have, double threshold)
{
    if (have < 0) return 0;
    int was = *low;
    *low = (double)have < (was ? 1.5 : 1) * threshold;
    return *low && !was;
}

static void append(char **text, char *more)
{
    char *all = *text ? path_format("%s; %s", *text, more) : path_format("%s", more);
    free(*text);
    free(more);
    *text = all;
}

char *room_watch(room_monitor *m, const cJSON *spec, const char *store, const char *dir,
                 const room *now)
{
    char *text = NULL;
    double disk = disk_threshold(spec);
    char memory[32], all[32], in_store[32], in_run[32];
    disk_amount((double)now->memory_bytes, memory);
    disk_amount((double)now->memory_total, all);
    disk_amount((double)now->store_bytes, in_store);
    disk_amount((double)now->run_bytes, in_run);
    if (falls_short(&m->memory_low, now->memory_bytes, memory_threshold(now)))
        append(&text,
               path_format("only %s of memory are free (%s in all): end other programs, or stop "
                           "with Ctrl-C and resume with a lower hardware.memory; a job beyond its "
                           "limit is stopped",
                           memory, all));
    if (falls_short(&m->store_low, now->store_bytes, disk))
        append(&text, path_format("only %s are free in the registry %s: `sqz registry gc` may "
                                  "free some",
                                  in_store, store));
    if (falls_short(&m->run_low, now->run_bytes, disk) && now->run_bytes != now->store_bytes)
        append(&text, path_format("only %s are free in the run folder %s", in_run, dir));
    return text;
}
