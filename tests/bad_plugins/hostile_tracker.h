/* hostile_tracker.h - a tracker that misbehaves at its third event: HOSTILE_TRACKER("name") makes a
 * tracker/1 agent that calls attack(host).  With HOSTILE_REPAIRED in the environment it behaves,
 * and writes the numbers of its events to NAME.seen in the run folder. */
#ifndef TESTS_HOSTILE_TRACKER_H
#define TESTS_HOSTILE_TRACKER_H
#include <sqz/sqz.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sqz_status attack(const sqz_host *);
static const char hostile_name[];
static char hostile_folder[4096];

static sqz_status hostile_begin(const sqz_host *host, void *self, const sqz_tracking *t)
{
    (void)host, (void)self;
    snprintf(hostile_folder, sizeof hostile_folder, "%s", t->folder);
    return SQZ_OK;
}

static sqz_status hostile_event(const sqz_host *host, void *self, const sqz_track_event *e)
{
    char path[4200];
    (void)self;
    if (!getenv("HOSTILE_REPAIRED")) return e->seq < 3 ? SQZ_OK : attack(host);
    snprintf(path, sizeof path, "%s/%s.seen", hostile_folder, hostile_name);
    FILE *f = fopen(path, "a");
    if (!f) return SQZ_E_IO;
    fprintf(f, "%lld\n", (long long)e->seq);
    return fclose(f) ? SQZ_E_IO : SQZ_OK;
}

static const sqz_tracker hostile_table = {sizeof hostile_table, 0,    hostile_begin,
                                          hostile_event,        NULL, NULL};
static const void *hostile_extension(const char *id)
{
    return strcmp(id, SQZ_TRACKER_1) ? NULL : &hostile_table;
}

#define HOSTILE_TRACKER(NAME)                                                                      \
    static const char hostile_name[] = NAME;                                                       \
    static const sqz_agent hostile_agents[] = {{.struct_size = sizeof(sqz_agent),                  \
                                                .rank = 1,                                         \
                                                .id = "org.example." NAME,                         \
                                                .kind = "tracker/1",                               \
                                                .name = NAME,                                      \
                                                .summary = "misbehaves on purpose",                \
                                                .version = "1.0.0",                                \
                                                .license = "MIT",                                  \
                                                .extension = hostile_extension}};                  \
    static const sqz_plugin hostile_plugin = {.struct_size = sizeof hostile_plugin,                \
                                              .abi_major = SQZ_ABI_MAJOR,                          \
                                              .n_agents = 1,                                       \
                                              .agent_stride = sizeof(sqz_agent),                   \
                                              .agents = hostile_agents};                           \
    SQZ_PLUGIN_STAMP(0);                                                                           \
    SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void)                                               \
    {                                                                                              \
        return &hostile_plugin;                                                                    \
    }
#endif
