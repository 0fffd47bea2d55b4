/* search_bad.c - searches that propose one point and then misbehave, each in its own way. */
#include <signal.h>
#include <sqz/sqz.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum manner { CRASH, HANG, LEAVE, NONSENSE, REFUSE } manner;

typedef struct state {
    manner how;
    int asked;
    const sqz_space *space;
} state;

static sqz_status set_space(const sqz_host *host, void *self, const sqz_space *space)
{
    (void)host;
    ((state *)self)->space = space;
    return SQZ_OK;
}

static sqz_status ask(const sqz_host *host, void *self, double *x, char *why, int64_t why_bytes)
{
    state *s = self;
    for (int64_t i = 0; i < s->space->n_dims; i++) x[i] = s->space->dims[i].lo;
    snprintf(why, (size_t)why_bytes, "the corner");
    if (s->asked++ == 0) return SQZ_OK;
    switch (s->how) {
    case CRASH:
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would report instead */
        raise(SIGSEGV);
        break;
    case HANG:
        for (;;) pause();
    case LEAVE: _exit(3);
    case NONSENSE: x[0] = 1e9; break;
    case REFUSE: return host->fail(host, SQZ_E_INTERNAL, "lost in the corner");
    }
    return SQZ_OK;
}

static sqz_status tell(const sqz_host *host, void *self, const double *x, const double *objectives,
                       int32_t feasible)
{
    (void)host, (void)self, (void)x, (void)objectives, (void)feasible;
    return SQZ_OK;
}

static const sqz_search search = {sizeof(sqz_search), 0, set_space, ask, tell};

static const void *extension(const char *id)
{
    return strcmp(id, SQZ_SEARCH_1) == 0 ? &search : NULL;
}

static sqz_status open_as(manner how, void **self)
{
    state *s = calloc(1, sizeof *s);
    if (!s) return SQZ_E_NOMEM;
    s->how = how;
    *self = s;
    return SQZ_OK;
}

static void close_it(const sqz_host *host, void *self)
{
    (void)host;
    free(self);
}

#define OPENS(name, how)                                                                           \
    static sqz_status name(const sqz_host *host, void **self)                                      \
    {                                                                                              \
        (void)host;                                                                                \
        return open_as(how, self);                                                                 \
    }
OPENS(open_crash, CRASH)
OPENS(open_hang, HANG)
OPENS(open_leave, LEAVE)
OPENS(open_nonsense, NONSENSE)
OPENS(open_refuse, REFUSE)

#define AGENT(name, open)                                                                          \
    {                                                                                              \
        sizeof(sqz_agent), -100, "org.example.search-" name, "search/1", "bad",                    \
            "misbehaves at the second question", "1.0.0", "Apache-2.0", NULL, open, close_it,      \
            NULL, extension                                                                        \
    }
static const sqz_agent agents[] = {AGENT("crash", open_crash), AGENT("hang", open_hang),
                                   AGENT("leave", open_leave), AGENT("nonsense", open_nonsense),
                                   AGENT("refuse", open_refuse)};
static const sqz_plugin plugin = {
    sizeof(sqz_plugin), SQZ_ABI_MAJOR, SQZ_ABI_MINOR, 0, 0, 5, sizeof(sqz_agent), 0, agents};
SQZ_PLUGIN_STAMP(0);

SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
