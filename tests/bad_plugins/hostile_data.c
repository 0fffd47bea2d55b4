/* hostile_data.c - a data source for files that end in .evil: each line is a row {text}.  From its
 * second row on it does what the parameter `attack` says. */
#include <sqz/data.h>
#include <sqz/help.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVIL_PARAMS(P)                                                                             \
    P(SQZ_CHOICE, attack, 0, 0, 11,                                                                \
      "none|segv|abort|stack|loop|memory|exit|bytes|nan|twice|keep|print", 0, "what it does")
enum { NONE, SEGV, ABORT, STACK, LOOP, MEMORY, EXIT, BYTES, NOT_A_NUMBER, TWICE, KEEP, PRINT };
SQZ_CALL(evil_open, EVIL_PARAMS);

static struct {
    const char *at, *end;
    int32_t attack;
    int rows;
} state;

static sqz_status evil_open(const sqz_host *host, void *self, void *subject, int32_t attack)
{
    const sqz_source *source = subject;
    (void)self;
    if (!source->data) return host->fail(host, SQZ_E_INVALID, "no file");
    state.at = source->data;
    state.end = state.at + source->bytes;
    state.attack = attack;
    state.rows = 0;
    return SQZ_OK;
}

/* Ends with the stack: the depth never gets below zero. */
static int deeper(volatile char *above, int64_t depth)
{
    volatile char here[4096];
    here[0] = above ? above[0] : 0;
    return depth < 0 ? here[0] : deeper(here, depth + 1) + here[0];
}

static sqz_status strike(const sqz_row *row)
{
    volatile int *nothing = NULL;
    switch (state.attack) {
    case SEGV: return *nothing;
    case ABORT: abort();
    case STACK: return deeper(NULL, state.rows);
    case LOOP:
        for (volatile int i = 0;; i++) {}
    case MEMORY:
        for (size_t n = 64 << 20;;) {
            volatile char *p = malloc(n); /* volatile: a compiler may leave out what nobody reads */
            for (size_t i = 0; p && i < n; i += 4096) p[i] = 1;
        }
    case EXIT: exit(0);
    case BYTES: return row->text(row, "text", "\xff\xfe", 2);
    case NOT_A_NUMBER: return row->number(row, "score", NAN);
    case TWICE: row->text(row, "text", "one", -1); return row->text(row, "text", "two", -1);
    case KEEP: /* a failure to itself */ row->text(row, "", "nameless", -1); return SQZ_OK;
    case PRINT: return write(STDOUT_FILENO, "hello\n", 6) < 0 ? SQZ_E_IO : SQZ_OK;
    default: return SQZ_OK;
    }
}

static sqz_status next(const sqz_host *host, void *self, const sqz_row *row, int32_t *more)
{
    (void)host, (void)self;
    if (state.at == state.end) return SQZ_OK;
    const char *line = memchr(state.at, '\n', (size_t)(state.end - state.at));
    const char *stop = line ? line : state.end;
    *more = 1;
    sqz_status s = state.rows++ ? strike(row) : SQZ_OK;
    if (!s && state.attack != KEEP && state.attack != TWICE)
        s = row->text(row, "text", state.at, stop - state.at);
    state.at = line ? line + 1 : state.end;
    return s;
}

static const char example[] = "one\ntwo\n";
static const sqz_data data = {sizeof data, 0, ".evil", example, sizeof example - 1, NULL, next};
static const void *extension(const char *id)
{
    return strcmp(id, SQZ_DATA_1) ? NULL : &data;
}
static const sqz_agent agent = {.struct_size = sizeof agent,
                                .rank = 1,
                                .id = "org.example.hostile_data",
                                .kind = "data/1",
                                .name = "hostile_data",
                                .summary = "misbehaves on purpose",
                                .version = "1.0.0",
                                .license = "MIT",
                                .run = &evil_open_call,
                                .extension = extension};
static const sqz_plugin plugin = {.struct_size = sizeof plugin,
                                  .abi_major = SQZ_ABI_MAJOR,
                                  .abi_minor = SQZ_ABI_MINOR,
                                  .needs_minor = 2,
                                  .n_agents = 1,
                                  .agent_stride = sizeof(sqz_agent),
                                  .agents = &agent};
SQZ_PLUGIN_STAMP(2);

SQZ_EXPORT const sqz_plugin *sqz_plugin_v1(void)
{
    return &plugin;
}
