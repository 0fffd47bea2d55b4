/* host.h - plugins as the core sees them: found, described, loaded, called.
 *
 * Discovery reads the ELF stamp, then the tables in a child process, and caches the description by
 * content hash; a file that crashes a scan is denied until it changes.  Loading happens only in the
 * process that runs the agent (a worker).  Nothing here names a concrete plugin. */
#ifndef SQZ_CORE_HOST_H
#define SQZ_CORE_HOST_H
#include "error/error.h"
#include "json/json.h"
#include "model/model.h"
#include <sqz/sqz.h>

/* ---- description ---------------------------------------------------------------------------------- */
typedef struct agent_info {
    char *id, *kind, *name, *summary, *version, *license;
    char *file;         /* absolute path of the .so */
    char file_digest[72];
    int rank;
    int shadowed;       /* another file earlier on the path offers the same id */
    cJSON *params;      /* array of {name,type,help,default,lo,hi,choices[],flags[]} */
    cJSON *extensions;  /* object: facts that the scan read from known extension tables, e.g.
                           {"sqz.method.steps/1":{"granularity":1,"statistics":1,"form":"int-affine/1"}} */
    cJSON *tags;        /* array of strings */
    char *shadowed_by;  /* the file that is used instead, when shadowed */
} agent_info;

typedef struct catalogue catalogue;
typedef struct catalogue_options {
    const char *const *paths; /* --plugin-path and config, first */
    int n_paths;
    const char *const *allow; /* agent names or ids; empty = all */
    int n_allow;
    const char *const *deny;
    int n_deny;
    const char *cache_dir;    /* see host/cache.h; NULL = default cache */
    double scan_timeout_s;    /* for one file; 0 = 10 */
    int only_paths;           /* look nowhere but in `paths` */
} catalogue_options;
/* Search order: paths (folders, or single .so files), <folder of the program>/../lib/sqz/plugins,
 * $SQZ_PLUGIN_PATH (not when set-id), ~/.local/share/sqz/plugins; never the working directory.
 * A file that cannot be used is a problem, not an error; a missing entry of `paths` is ERR_USAGE. */
sqz_status catalogue_open(const catalogue_options *, catalogue **out, sqz_error *err);
void catalogue_close(catalogue *);
/* Agents in search order, shadowed ones included; those that allow or deny exclude are not there. */
int catalogue_count(const catalogue *);
const agent_info *catalogue_at(const catalogue *, int i);
/* Problem files: path and why, for `sqz plugin list`. */
int catalogue_problems(const catalogue *);
void catalogue_problem(const catalogue *, int i, const char **file, const char **why);
/* Agents that are installed and hidden by allow or deny; *rule: the sentence that says which. */
int catalogue_excluded(const catalogue *);
const agent_info *catalogue_excluded_at(const catalogue *, int i, const char **rule);
/* Folders and files that were looked at, in order (real paths); NULL behind the last one. */
const char *catalogue_seen(const catalogue *, int i);
/* By kind ("method/1") and name: a full id, or its last part when unique ("gptq").  ERR_USAGE with the
 * nearest name when unknown. */
sqz_status catalogue_find(const catalogue *, const char *kind, const char *name,
                          const agent_info **out, sqz_error *err);
/* The best agent of a kind by rank; NULL when none. */
const agent_info *catalogue_best(const catalogue *, const char *kind);
/* The hidden child: `sqz --scan-plugin FILE` prints the description as JSON on stdout.  Ends the process
 * itself, so that no destructor of the plugin runs; returns only when it could not begin. */
int host_scan_main(const char *file);

/* ---- parameters ------------------------------------------------------------------------------------- */
/* Checks `with` (object or NULL) against the agent's rows: unknown and duplicate keys with the nearest
 * name, types, ranges, legal values; fills defaults.  *resolved: every parameter, caller frees.
 * doc (may be NULL) adds line:column to messages. */
sqz_status params_resolve(const agent_info *, const cJSON *with, const json_doc *doc,
                          cJSON **resolved, sqz_error *err);
/* JSON Schema (draft-07) object of the agent's parameters. */
cJSON *params_schema(const agent_info *);
/* Human help text of an agent; malloc'd. */
char *params_help(const agent_info *);

/* ---- one process's host: services, failure text, progress ------------------------------------------- */
typedef struct host host;
typedef struct host_hooks {
    void (*log)(void *ctx, int level, const char *agent, const char *text);
    int (*tick)(void *ctx, double done, const char *what); /* non-zero = stop */
    void *ctx;
} host_hooks;
/* hooks are copied; NULL = none. */
host *host_new(const host_hooks *);
void host_free(host *);
/* enter(ctx, info) before an agent's run is called: lets a crash be blamed on it; leave(ctx, info)
 * after it.  Either may be NULL. */
void host_set_enter(host *, void (*enter)(void *ctx, const agent_info *),
                    void (*leave)(void *ctx, const agent_info *), void *ctx);
void host_set_device(host *, device); /* backs sqz.linalg/1 */
/* For checks: agents opened from now on are given what dress makes of the host's table (same impl,
 * another size, other services), which must outlive them. */
void host_set_dress(host *, const sqz_host *(*dress)(void *ctx, const sqz_host *), void *ctx);

typedef struct agent agent; /* a loaded and opened agent */
/* dlopen(RTLD_NOW|RTLD_LOCAL|RTLD_NODELETE), check the tables again, open an instance.  Never dlclosed. */
sqz_status agent_open(host *, const agent_info *, agent **out, sqz_error *err);
void agent_close(agent *);
const agent_info *agent_describe(const agent *);
const void *agent_extension(const agent *, const char *id);
void *agent_self(const agent *);
const sqz_host *agent_host(const agent *); /* the sqz_host this agent was given */
/* Binds `with` by libffi and calls run.  A failure carries the agent's id and its fail() text. */
sqz_status agent_call(agent *, void *subject, const cJSON *with, sqz_error *err);
/* Around direct calls of its tables, as agent_call does around `run`: a crash in between is blamed on
 * the agent, and what it left behind is looked for after them. */
void agent_enter(agent *);
void agent_leave(agent *);
/* fail() of the core's own tables: the plugin is given the ABI's nearest code, and passes it on;
 * agent_error then finds the core's code again, so that a full disk stays one. */
sqz_status host_fail(const sqz_host *, sqz_status status, const char *text);
/* After a direct table call returned status != 0: the fail() text as an error. */
sqz_status agent_error(agent *, sqz_status status, sqz_error *err);
#endif
